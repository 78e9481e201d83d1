"""Take the code of README.md out of it: own_network.py, own_network.ipynb and commands.sh, for scripts/test_readme.sh.

python scripts/readme_blocks.py FOLDER
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def main() -> None:
    """Write the three files."""
    folder = Path(sys.argv[1])
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    (python,) = (code for language, code in blocks if language == "python")
    _, commands = (code for language, code in blocks if language == "bash")  # the first are the two scripts
    cell = {"cell_type": "code", "id": "own", "execution_count": None, "metadata": {}, "outputs": [], "source": python}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "own_network.py").write_text(python)
    (folder / "own_network.ipynb").write_text(json.dumps(notebook))
    (folder / "commands.sh").write_text(commands)


if __name__ == "__main__":
    main()
