"""Where the time goes: ONNX Runtime's own profile of a file, by operator and by layer.

onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html. Profiling itself takes some microseconds for each
node, so that the sum is no latency: shares are what to read. On a GPU the times are those of the host, which launches
the kernels, not those of the device.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.benchmarking.layers import Layers
from bnfold.benchmarking.timing import bind
from bnfold.records import BenchProfile, ProfileEntry
from bnfold.runtime import open_session, provider_spec, require_onnxruntime
from bnfold.runtime.settings import set_graph_level

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.benchmarking.axes import Cell
    from bnfold.records.tuning import SessionSettings

__all__ = ["profile_file"]

N_WARM_UP = 3
MOST_RUNS = 200
LIMIT_S = 1.0
_NODE = "_kernel_time"


def profile_file(
    name: str,
    file: Path,
    source: Path,
    cell: Cell,
    inputs: Mapping[str, Any],
    *,
    settings: SessionSettings | None = None,
) -> BenchProfile:
    """Profile a file in a cell of the grid.

    Args:
        name: of the file in the report.
        file: what ONNX Runtime loads.
        source: the file that it was made from, which has the names of the layers; the same, unless `file` is optimized.
        cell: provider, threads and level.
        inputs: name -> array.
        settings: the rest of the session's options.

    Raises:
        InputRefused: the file does not load.
        EnvironmentNotReady: the provider does not load.
    """
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        events = _profiled(file, cell, inputs, settings, str(Path(folder) / "profile"))
    starts = [event["ts"] for event in events if event.get("name") == "model_run"]
    runs = [event["dur"] for event in events if event.get("name") == "model_run"][N_WARM_UP:]
    nodes = [
        event
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_NODE) and event["ts"] >= starts[N_WARM_UP]
    ]
    layers = Layers(source)
    kinds = [str(event["args"]["op_name"]) for event in nodes]
    places = [
        layers.of(event["name"].removesuffix(_NODE), kind) for event, kind in zip(nodes, kinds, strict=True)
    ]  # fmt: skip
    times_ms = [own_us / 1e3 for own_us in _own_us(nodes)]
    return BenchProfile(
        name=name,
        provider=provider_spec(cell.provider).ort_name,
        batch=cell.batch,
        threads=cell.threads,
        opt_level=cell.opt_level,
        optimize=cell.optimize,
        n=len(runs),
        run_ms=float(np.median(runs)) / 1e3,
        operators=_summed(kinds, times_ms, len(runs)),
        layers=_summed(places, times_ms, len(runs)),
    )


def _profiled(
    file: Path, cell: Cell, inputs: Mapping[str, Any], settings: SessionSettings | None, prefix: str
) -> list[dict[str, Any]]:
    """The events of warm-up and measured runs; their start times ascend."""
    ort = require_onnxruntime(cell.provider)

    def configure(options: Any) -> None:
        set_graph_level(ort, options, cell.load_level)
        options.enable_profiling = True
        options.profile_file_prefix = prefix

    session = open_session(
        file, provider=cell.provider, threads=cell.threads, configure=configure, fallback=True, settings=settings
    )  # fmt: skip
    binding = bind(session, inputs, cell.provider)
    for _ in range(N_WARM_UP):
        session.run_with_iobinding(binding)
    deadline, n_runs = time.monotonic() + LIMIT_S, 0
    while n_runs == 0 or (n_runs < MOST_RUNS and time.monotonic() < deadline):
        session.run_with_iobinding(binding)
        n_runs += 1
    events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return events


def _own_us(nodes: Sequence[Mapping[str, Any]]) -> list[int]:
    """The time of each node without that of the nodes in its subgraphs: an If or a Loop holds the time of its body.

    Args:
        nodes: events of operators that ran one after the other: two that overlap are one inside the other.
    """
    own = [event["dur"] for event in nodes]
    around: list[int] = []
    for index in sorted(range(len(nodes)), key=lambda index: (nodes[index]["ts"], -nodes[index]["dur"])):
        while around and nodes[around[-1]]["ts"] + nodes[around[-1]]["dur"] <= nodes[index]["ts"]:
            around.pop()
        if around:
            own[around[-1]] -= nodes[index]["dur"]
        around.append(index)
    return [max(0, us) for us in own]  # the clock counts whole microseconds


def _summed(names: Sequence[str], times_ms: Sequence[float], n_runs: int) -> tuple[ProfileEntry, ...]:
    """The time of each name in one run, and its share, the largest first."""
    sums: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, int] = defaultdict(int)
    for name, time_ms in zip(names, times_ms, strict=True):
        sums[name] += time_ms
        counts[name] += 1
    total = sum(times_ms) or 1.0
    return tuple(
        ProfileEntry(name, ms=sums[name] / n_runs, share=sums[name] / total, n_nodes=round(counts[name] / n_runs))
        for name in sorted(sums, key=lambda key: (-sums[key], key))
    )
