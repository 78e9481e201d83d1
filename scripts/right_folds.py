"""How accurate are right folds? scripts/right_folds/command.py does the work; --help says more."""

from right_folds.command import main

if __name__ == "__main__":
    main()
