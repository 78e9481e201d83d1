"""The settings that `bnfold tune` chose, as the scripts of a bundle and Triton's configuration take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnfold.records.tuning import SessionSettings
from bnfold.runtime.settings import config_entries

if TYPE_CHECKING:
    from bnfold.runtime import Provider

__all__ = ["SessionChoice", "as_choice"]

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
    "optimize": "the graph is optimized when the session opens, not in a file written before",
    "cuda_graph": "CUDA graphs want inputs and outputs that stay where they are, which requests do not",
}
"""Settings that a server does not take, and why."""


@dataclass(frozen=True)
class SessionChoice:
    """Options of a session, by their names in ONNX Runtime's Python API.

    `session_options` are attributes of `SessionOptions`, where `graph_optimization_level` is "disabled", "basic",
    "extended" or "all", and `execution_mode` "sequential" or "parallel"; `config_entries` its configuration entries.
    """

    session_options: Mapping[str, Any] = field(default_factory=dict)
    config_entries: Mapping[str, str] = field(default_factory=dict)
    provider_options: Mapping[str, str] = field(default_factory=dict)
    provider: Provider = "cpu"

    def as_options(self) -> dict[str, Any]:
        """What the scripts of a bundle read."""
        return {
            "session_options": dict(self.session_options),
            "config_entries": dict(self.config_entries),
            "provider_options": dict(self.provider_options),
        }


def as_choice(settings: SessionSettings) -> tuple[SessionChoice, tuple[str, ...]]:
    """The options of a session that differ from the default, and what a server leaves out of them."""
    changes = settings.changes(SessionSettings())
    choice = SessionChoice(
        {theirs: changes[ours] for ours, theirs in OPTIONS.items() if ours in changes},
        config_entries(settings),
        settings.provider_options,
        settings.provider,
    )
    return choice, tuple(
        f"the session's {name} was left out: {why}" for name, why in LEFT_OUT.items() if name in changes
    )
