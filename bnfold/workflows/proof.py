"""The report of `fold-export` that belongs to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bnfold.sources.digests import sha256_of

__all__ = ["proof_beside"]


def proof_beside(file: Path) -> dict[str, Any] | None:
    """The `report.json` beside a file, if it is that of `fold-export` on this very file, by its SHA-256.

    None where there is none, or one of another file: a report of an older export proves nothing of this one.
    """
    try:
        report = json.loads((file.parent / "report.json").read_text(encoding="utf-8"))
        written = sha256_of([part for part in (file, file.with_name(f"{file.name}.data")) if part.is_file()])
    except (OSError, ValueError):
        return None
    if not isinstance(report, dict) or report.get("schema") != "bnfold.fold-export/1":
        return None
    return report if (report.get("output") or {}).get("sha256") == written else None
