"""The networks of scripts/survey.py, and the families that they are of.

networks.txt has a line for each, `LIBRARY:NAME FAMILY`, in the order in which they are counted;
scripts/survey/listing.py writes it. A family is a module of timm or of torchvision.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["NETWORKS"]

LIST = Path(__file__).parent / "networks.txt"
NETWORKS: dict[str, str] = dict(line.split() for line in LIST.read_text(encoding="utf-8").splitlines())
