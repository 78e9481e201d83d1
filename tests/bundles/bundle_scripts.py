"""The scripts of a bundle, run as they are where bnfold is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FILES = Path(__file__).resolve().parents[2] / "bnfold" / "bundles" / "files"


def run_check(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a bundle's check.py in a process that leaves no bytecode beside it."""
    command = [sys.executable, "-B", "check.py", *arguments]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=120)
