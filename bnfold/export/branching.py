"""Where PyTorch's exporter met a branch on data: the line of the user's file, out of its message."""

from __future__ import annotations

import re

__all__ = ["branching_line"]

_SIGNS = (
    "data-dependent", "GuardOnDataDependentSymNode", "Data dependent", "dynamic control flow",
    "Detected data-dependent branching",
)  # fmt: skip
_SHORT = re.compile(r"(?P<file>\S+?\.py):(?P<line>\d+) in (?P<function>\w+)")
_LONG = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\w+)')


def branching_line(text: str) -> str | None:
    """The place (`net.py line 12, in forward`) of a branch on data in a message of torch.export; None if it is none."""
    if not any(sign in text for sign in _SIGNS):
        return None
    places = [found for pattern in (_SHORT, _LONG) for found in pattern.finditer(text)]
    users = [found for found in places if "site-packages" not in found["file"] and "/torch/" not in found["file"]]
    if not users:
        return "a branch on data"
    last = users[-1]
    name = re.split(r"[\\/]", last["file"])[-1]
    return f"{name} line {last['line']}, in {last['function']}"
