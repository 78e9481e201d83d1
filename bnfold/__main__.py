"""`python -m bnfold`: the command line."""

from __future__ import annotations

from bnfold.cli.main import main

if __name__ == "__main__":
    main(prog_name="bnfold")
