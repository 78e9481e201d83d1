"""What `bnfold doctor` found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from bnfold.shown import Shown

__all__ = ["Check", "CheckStatus", "DoctorReport"]

CheckStatus = Literal["ok", "missing", "broken"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing `bnfold doctor` looked at; `remedy` is None where it is ok, `needed` says whether the job needs it."""

    name: str
    status: CheckStatus
    needed: bool
    found: str
    remedy: str | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class DoctorReport(Shown):
    """What `bnfold doctor` found; `able` when every needed check is ok."""

    provider: str
    checks: tuple[Check, ...]
    environment: Mapping[str, Any]
    schema: ClassVar[str] = "bnfold.doctor/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)
    json_properties: ClassVar[tuple[str, ...]] = ("able",)

    def in_a_line(self) -> str:
        """Whether this machine is able, and what is not ok."""
        wrong = [f"{check.name} {check.status}" for check in self.checks if check.status != "ok"]
        return f"{self.provider}: {', '.join(['able' if self.able else 'not able', *wrong])}"

    @property
    def able(self) -> bool:
        """Whether this machine can do the main job."""
        return all(check.status == "ok" for check in self.checks if check.needed)
