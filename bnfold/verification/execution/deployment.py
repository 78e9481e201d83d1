"""How a file is opened when it is judged as deployed, where a session file says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from bnfold.records.tuning import SessionSettings

__all__ = ["Deployment"]


@dataclass(frozen=True)
class Deployment:
    """The session that is deployed, instead of bnfold's own, which computes float32 as float32 with little memory.

    Attributes:
        settings: of the session; provider and threads are said to the file's sessions themselves.
        offline: the file that ONNX Runtime wrote of it, which is deployed in its place; None for itself.
    """

    settings: SessionSettings
    offline: Path | None = None
