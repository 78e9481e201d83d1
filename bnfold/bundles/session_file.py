"""The session that `bnfold tune` chose, read from its session.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SESSION_SCHEMA", "SessionChoice", "read_session", "session_notes"]

SESSION_SCHEMA = "bnfold.tune/1"


@dataclass(frozen=True)
class SessionChoice:
    """Options of a session, by their names in ONNX Runtime's Python API.

    `session_options` are attributes of `SessionOptions`, where `graph_optimization_level` is "disabled", "basic",
    "extended" or "all", and `execution_mode` "sequential" or "parallel"; `config_entries` its configuration entries.
    """

    session_options: Mapping[str, Any] = field(default_factory=dict)
    config_entries: Mapping[str, str] = field(default_factory=dict)
    provider_options: Mapping[str, str] = field(default_factory=dict)
    disabled_optimizers: tuple[str, ...] = ()
    provider: str = "cpu"

    def as_options(self) -> dict[str, Any]:
        """What the scripts of a bundle read."""
        return {
            "session_options": dict(self.session_options),
            "config_entries": dict(self.config_entries),
            "provider_options": dict(self.provider_options),
            "disabled_optimizers": list(self.disabled_optimizers),
        }


def read_session(path: Path) -> tuple[SessionChoice, Mapping[str, Any]]:
    """The options in a session.json, and all that it says.

    Raises:
        InputRefused: it cannot be read, or is no session of `bnfold tune`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputRefused(
            "the session cannot be read", where=str(path), found=f"{type(error).__name__}: {error}",
            remedy="write one with `bnfold tune`",
        ) from error  # fmt: skip
    if found != SESSION_SCHEMA:
        raise InputRefused(
            "this is no session of bnfold tune", where=str(path), found=str(found), expected=SESSION_SCHEMA,
            remedy="write one with `bnfold tune`",
        )  # fmt: skip
    parts = {name: content.get(name) or {} for name in ("session_options", "config_entries", "provider_options")}
    wrong = next((name for name, value in parts.items() if not isinstance(value, dict)), None)
    if wrong is not None:
        raise InputRefused(
            f"{wrong} of the session must be an object", where=str(path), found=repr(parts[wrong]),
            remedy="write it again with `bnfold tune`",
        )  # fmt: skip
    optimizers = tuple(content.get("disabled_optimizers") or ())
    return SessionChoice(**parts, disabled_optimizers=optimizers, provider=content.get("provider", "cpu")), content


def session_notes(content: Mapping[str, Any], *, sha256: str, cpu: str) -> tuple[str, ...]:
    """What is odd about a session: of another machine, or of another file.

    Args:
        content: all that a session.json says.
        sha256: of the file that it is used for.
        cpu: of this machine.
    """
    notes = []
    tuned_on = (content.get("environment") or {}).get("cpu")
    if tuned_on not in (None, cpu):
        notes.append(f"the session was tuned on another machine ({tuned_on}); this one has {cpu}")
    files = [each.get("sha256") for each in content.get("files") or () if isinstance(each, dict)]
    if files and sha256 not in files:
        notes.append("the session was tuned for another file")
    return tuple(notes)
