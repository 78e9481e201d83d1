"""The session that `bnfold tune` chose, read from its session.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SESSION_SCHEMA", "SessionChoice", "read_session"]

SESSION_SCHEMA = "bnfold.tune/1"
OPTIONS = {
    "threads": "intra_op_num_threads",
    "inter_op_threads": "inter_op_num_threads",
    "execution_mode": "execution_mode",
    "opt_level": "graph_optimization_level",
    "arena": "enable_cpu_mem_arena",
    "mem_pattern": "enable_mem_pattern",
}
"""Settings of `bnfold tune`, and what they are called in ONNX Runtime's Python API."""
LEFT_OUT = {
    "optimize": ("offline", "the graph is optimized when the session opens, not in a file written before"),
    "cuda_graph": (True, "CUDA graphs want inputs and outputs that stay where they are, which requests do not"),
}
"""Settings that a server does not take: the value that says so, and why."""
_REMEDY = "write one with `bnfold tune`"


@dataclass(frozen=True)
class SessionChoice:
    """Options of a session, by their names in ONNX Runtime's Python API.

    `session_options` are attributes of `SessionOptions`, where `graph_optimization_level` is "disabled", "basic",
    "extended" or "all", and `execution_mode` "sequential" or "parallel"; `config_entries` its configuration entries.
    """

    session_options: Mapping[str, Any] = field(default_factory=dict)
    config_entries: Mapping[str, str] = field(default_factory=dict)
    provider_options: Mapping[str, str] = field(default_factory=dict)
    provider: str = "cpu"

    def as_options(self) -> dict[str, Any]:
        """What the scripts of a bundle read."""
        return {
            "session_options": dict(self.session_options),
            "config_entries": dict(self.config_entries),
            "provider_options": dict(self.provider_options),
        }


def read_session(path: Path, *, sha256: str, cpu: str) -> tuple[SessionChoice, tuple[str, ...]]:
    """The session of a file, and what is odd about it: tuned for another file, or on another machine.

    Args:
        path: the session.json.
        sha256: of the file.
        cpu: the name of this machine's CPU.

    Raises:
        InputRefused: it cannot be read, is no session of `bnfold tune`, or is of several other files.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["schema"]
        entries = content["files"] if found == SESSION_SCHEMA else []
        sessions = [(entry.get("sha256"), dict(entry["session"])) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputRefused(
            "the session cannot be read", where=str(path), found=f"{type(error).__name__}: {error}", remedy=_REMEDY
        ) from error
    if found != SESSION_SCHEMA or not sessions:
        raise InputRefused(
            "this is no session of bnfold tune", where=str(path), found=str(found), expected=SESSION_SCHEMA,
            remedy=_REMEDY,
        )  # fmt: skip
    own = [settings for digest, settings in sessions if digest == sha256]
    if not own and len(sessions) > 1:
        raise InputRefused(
            "the session file is of other files", where=str(path), found=f"{len(sessions)} sessions",
            remedy="tune this file: bnfold tune FILE",
        )  # fmt: skip
    settings = own[0] if own else sessions[0][1]
    notes = [f"the session's {key} was left out: {why}" for key, (value, why) in LEFT_OUT.items()
             if settings.get(key) == value]  # fmt: skip
    if not own:
        notes.append("the session was tuned for another file: what is fastest for that need not be for this")
    tuned_on = (content.get("machine") or {}).get("cpu")
    if tuned_on not in (None, cpu):
        notes.append(f"the session was tuned on another machine: {tuned_on}, here {cpu}")
    return _choice(settings), tuple(notes)


def _choice(settings: Mapping[str, Any]) -> SessionChoice:
    entries: dict[str, str] = {}
    if settings.get("spinning") is False:
        entries |= {f"session.{kind}_op.allow_spinning": "0" for kind in ("intra", "inter")}
    if settings.get("denormals_as_zero"):
        entries["session.set_denormal_as_zero"] = "1"
    if settings.get("disabled_optimizers"):
        entries["optimization.disable_specified_optimizers"] = ";".join(settings["disabled_optimizers"])
    return SessionChoice(
        {theirs: settings[ours] for ours, theirs in OPTIONS.items() if settings.get(ours) is not None},
        entries,
        dict(settings.get("provider_options") or {}),
        settings.get("provider", "cpu"),
    )
