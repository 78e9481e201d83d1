"""The changes of a session that may make a file faster, one option at a time, and which of them change nothing.

Denormal numbers are not among them: ONNX Runtime takes them for 0 on the main thread only where the first session of a
process says so, so that they are measured in processes of their own (`session_runs`).
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.benchmarking.offline import write_offline
from bnfold.errors import BnfoldError
from bnfold.records.tuning import GraphLevel, SessionSettings
from bnfold.runtime import provider_spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bnfold.runtime import ProviderSpec

__all__ = ["GraphEffects", "default_settings", "merged", "option_changes"]

LEVELS: tuple[GraphLevel, ...] = ("extended", "basic")
OPTIMIZERS = (
    "NchwcTransformer", "NhwcTransformer", "TransposeOptimizer", "ConvAddActivationFusion", "ConvActivationFusion",
    "GemmActivationFusion", "MatMulActivationFusion", "MatmulTransposeFusion", "BiasGeluFusion", "GeluFusionL1",
    "GeluFusionL2", "LayerNormFusionL1", "LayerNormFusionL2", "QuickGeluFusion", "WeightBiasQuantization",
)  # fmt: skip
"""ONNX Runtime's optimizers that choose kernels and layouts (core/optimizer/graph_transformer_utils.cc); those that
only leave work out, as ConvBNFusion does, are never in the way."""


def default_settings(provider: str, threads: int) -> SessionSettings:
    """What others are compared with: bnfold's own session, in which float32 is computed as float32.

    Args:
        provider: that the file shall run on.
        threads: that the process may use.
    """
    exact = dict(provider_spec(provider).exact_options)
    return SessionSettings(provider=provider, threads=threads, provider_options=exact)


def option_changes(default: SessionSettings, *, allow_tf32: bool = False) -> Iterator[SessionSettings]:
    """The default session with one option changed, each in turn.

    Args:
        default: with the number of threads that the process may use.
        allow_tf32: whether float32 may be rounded to TF32, where the provider has it.
    """
    spec = provider_spec(default.provider)
    change = _Changes(default)
    if spec.on_host:
        yield from _of_threads(change, default.threads or 1)
        yield change(arena=False)
        yield change(mem_pattern=False)
    yield from (change(opt_level=level) for level in LEVELS)
    yield from (change(disabled_optimizers=(name,)) for name in OPTIMIZERS)
    yield from _of_provider(change, spec)
    if allow_tf32 and spec.tf32_options is not None:
        yield change(provider_options={**default.provider_options, **spec.tf32_options})


class _Changes:
    def __init__(self, default: SessionSettings) -> None:
        self._default = default

    def __call__(self, **fields: Any) -> SessionSettings:
        return dataclasses.replace(self._default, **fields)


def _of_threads(change: _Changes, threads: int) -> Iterator[SessionSettings]:
    """Fewer threads, by halves; those that sleep while they wait; operators side by side."""
    counts = {threads // 2**power for power in range(1, threads.bit_length())} | {1}
    yield from (change(threads=count) for count in sorted(counts - {threads, 0}, reverse=True))
    if threads > 1:
        yield change(spinning=False)
        yield change(execution_mode="parallel", inter_op_threads=2, threads=max(1, threads // 2), mem_pattern=False)


def _of_provider(change: _Changes, spec: ProviderSpec) -> Iterator[SessionSettings]:
    own = change().provider_options
    yield from (change(provider_options={**own, **options}) for options in spec.tuned_options)
    if spec.graph_options is not None:
        yield change(cuda_graph=True)


def merged(default: SessionSettings, ranked: Iterable[SessionSettings]) -> SessionSettings:
    """The default with the changes of several sessions, the first in rank first; a later one never undoes an earlier.

    Args:
        default: that each of the others changes.
        ranked: the fastest first.
    """
    taken: dict[str, Any] = {}
    for settings in ranked:
        changes = settings.changes(default)
        if taken.keys().isdisjoint(changes) or _only_adds(changes, taken):
            taken = _added(taken, changes)
    return dataclasses.replace(default, **taken)


def _only_adds(changes: dict[str, Any], taken: dict[str, Any]) -> bool:
    """Whether what both change are lists, or provider options of different names."""
    both = changes.keys() & taken.keys()
    return all(
        key == "disabled_optimizers" or (key == "provider_options" and _agree(changes[key], taken[key])) for key in both
    )


def _agree(one: dict[str, str], other: dict[str, str]) -> bool:
    return all(one[name] == other[name] for name in one.keys() & other.keys())


def _added(taken: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    found = {**taken, **changes}
    if "disabled_optimizers" in taken and "disabled_optimizers" in changes:
        both = (*taken["disabled_optimizers"], *changes["disabled_optimizers"])
        found["disabled_optimizers"] = tuple(dict.fromkeys(both))
    if "provider_options" in taken and "provider_options" in changes:
        found["provider_options"] = {**taken["provider_options"], **changes["provider_options"]}
    return found


class GraphEffects:
    """What ONNX Runtime makes of a file: levels and optimizers without which it makes the same need no measurement.

    Args:
        file: the file.
        default: the session that the others are compared with.
    """

    def __init__(self, file: Path, default: SessionSettings) -> None:
        self._file = file
        self._default = default
        self._graph = self._optimized(default)

    @property
    def is_written(self) -> bool:
        """Whether the optimized graph can be written, and so loaded as it is."""
        return self._graph is not None

    def changes_graph(self, settings: SessionSettings) -> bool:
        """Whether a session's graph is another one than the default's; true where that cannot be told.

        Of sessions that change other options than the graph's it is not asked.
        """
        if not set(settings.changes(self._default)) <= {"opt_level", "disabled_optimizers"}:
            return True
        found = self._optimized(settings)
        return found is None or found != self._graph

    def _optimized(self, settings: SessionSettings) -> list[Sequence[Any]] | None:
        """The nodes of the optimized graph; None where it cannot be written, as of graphs compiled by a provider."""
        import onnx

        with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
            target = Path(folder) / "optimized.onnx"
            try:
                write_offline(self._file, target, settings.opt_level, settings.provider, settings)
                graph = onnx.load(target, load_external_data=False).graph
            except (BnfoldError, OSError):
                return None
        return [(node.op_type, node.domain, len(node.input), sorted(map(str, node.attribute))) for node in graph.node]
