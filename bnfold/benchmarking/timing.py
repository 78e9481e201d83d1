"""One file opened for timing: inputs bound, runs timed one by one."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.benchmarking.axes import OptLevel
from bnfold.errors import InputRefused
from bnfold.runtime import Provider, open_session, provider_spec, require_onnxruntime
from bnfold.runtime.settings import set_graph_level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bnfold.records.tuning import SessionSettings

__all__ = ["BoundFile", "Runner", "bind", "garbage_collection_paused", "n_runs_for", "output_sizes"]

BLOCK_MS = 5.0  # a block of runs lasts at least this long: a thousand times what the clock and the loop cost
SETTLE_MS = 1.0  # runs that are not counted: threads and caches come back after the other file's turn


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """No collection of Python's garbage inside, as `timeit` does it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def bind(session: Any, inputs: Mapping[str, Any], provider: Provider, outputs: Mapping[str, Any] | None = None) -> Any:
    """Bind inputs and outputs to the provider's device (onnxruntime.ai/docs/api/python, "IOBinding").

    The inputs are copied to the device once, here; the outputs stay there. A timed run therefore holds no copy
    between host and device.

    Args:
        session: of ONNX Runtime.
        inputs: name -> array.
        provider: whose device.
        outputs: name -> (shape, dtype), where the outputs must keep their addresses; None lets each run allocate them.
    """
    ort, device = require_onnxruntime(provider), provider_spec(provider).device
    binding = session.io_binding()
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value, device, 0))
    for node in session.get_outputs():
        if outputs is None:
            binding.bind_output(node.name, device, 0)
        else:
            shape, dtype = outputs[node.name]
            value = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, device, 0)
            binding.bind_ortvalue_output(node.name, value)
    return binding


def output_sizes(path: Path, inputs: Mapping[str, Any], provider: Provider) -> dict[str, Any]:
    """Name -> (shape, dtype) of each output of a file, found by running it once."""
    session = open_session(path, provider=provider, fallback=True)
    names = [node.name for node in session.get_outputs()]
    values = session.run(names, dict(inputs))
    return {name: (list(value.shape), value.dtype) for name, value in zip(names, values, strict=True)}


class Runner:
    """Something that answers one request when it is called, timed call by call.

    Args:
        call: returns when the result is complete.
        another: makes a call that may run at the same time as the others; None where `call` itself may.
    """

    load_ms: float | None = None
    first_ms: float | None = None
    least_runs = 1  # of a block
    end_to_end: Callable[[], object] | None = None
    """Answers one request from NumPy arrays to NumPy arrays, where that is another thing than a call."""

    def __init__(self, call: Callable[[], object], another: Callable[[], Callable[[], object]] | None = None) -> None:
        self._call = call
        self._another = another

    def another(self) -> Callable[[], object]:
        """A call that may run at the same time as the others."""
        return self._call if self._another is None else self._another()

    def timed_ms(self) -> float:
        """One run, in milliseconds."""
        start = time.perf_counter_ns()
        self._call()
        return (time.perf_counter_ns() - start) / 1e6

    def settle(self) -> None:
        """Run without counting: at least once, and for at least `SETTLE_MS`."""
        deadline = time.perf_counter_ns() + SETTLE_MS * 1e6
        self._call()
        while time.perf_counter_ns() < deadline:
            self._call()

    def block_ms(self, n_runs: int) -> list[float]:
        """`n_runs` runs in a row after settling, each timed in milliseconds."""
        self.settle()
        return [self.timed_ms() for _ in range(n_runs)]

    def end_to_end_ms(self, n_runs: int) -> list[float]:
        """A block of runs from NumPy arrays to NumPy arrays, none where that is no other thing than a call."""
        return [] if self.end_to_end is None else Runner(self.end_to_end).block_ms(n_runs)

    def round_ms(self, n_runs: int) -> tuple[float, list[float]]:
        """What a block took for one request (the median), and every time of it."""
        times = self.block_ms(n_runs)
        return float(np.median(times)), times

    def warm_up(self, limit_s: float) -> None:
        """Run blocks until one is no faster than the fastest before it, for `limit_s` at the longest."""
        deadline = time.monotonic() + limit_s
        fastest = float("inf")
        while time.monotonic() < deadline:
            block = float(np.median(self.block_ms(n_runs_for(fastest, self.least_runs))))
            if block >= fastest:
                return
            fastest = block


class BoundFile(Runner):
    """A session with its inputs and outputs bound. A call returns when the result is complete.

    Args:
        path: the file.
        inputs: name -> array.
        provider: that runs it.
        threads: threads of one operator, None for every CPU this process may use.
        opt_level: how far ONNX Runtime may change the graph.
        graph_outputs: from `output_sizes`: capture the kernels' launches once, in the first run, and replay them, on a
            provider that can; None for no such graph.
        provider_options: of the provider, besides its own.
        settings: the rest of the session's options.

    Nodes that the provider does not take run on the CPU; `placement` tells which. A CUDA graph has room for none but
    arithmetic on shapes, whose results it keeps: ONNX Runtime refuses others.

    Raises:
        InputRefused: the file does not load, does not run on these inputs, or makes no CUDA graph.
        EnvironmentNotReady: the provider does not load.
    """

    def __init__(
        self,
        path: Path,
        inputs: Mapping[str, Any],
        *,
        provider: Provider,
        threads: int | None,
        opt_level: OptLevel = "all",
        graph_outputs: Mapping[str, Any] | None = None,
        provider_options: Mapping[str, str] | None = None,
        settings: SessionSettings | None = None,
    ) -> None:
        configure = partial(set_graph_level, require_onnxruntime(provider), level=opt_level)
        graph_options = None if graph_outputs is None else provider_spec(provider).graph_options
        asked = {**(provider_options or {}), **(graph_options or {})}
        start = time.perf_counter_ns()
        self.session = open_session(
            path, provider=provider, threads=threads, configure=configure, provider_options=asked,
            fallback=True, settings=settings,
        )  # fmt: skip
        self.load_ms = (time.perf_counter_ns() - start) / 1e6
        # Inputs and outputs of its own for each call: a session may run several at once.
        another = partial(_bound_call, self.session, inputs, provider, graph_outputs)
        super().__init__(another(), another)
        if graph_outputs is None:  # a graph replays its own addresses
            self.end_to_end = partial(self.session.run, None, dict(inputs))
        try:
            self.first_ms = self.timed_ms()
        except Exception as error:
            raise InputRefused(
                "ONNX Runtime does not run it", where=str(path), found=str(error), remedy="check or re-export the file"
            ) from error


def _bound_call(
    session: Any, inputs: Mapping[str, Any], provider: Provider, outputs: Mapping[str, Any] | None
) -> Callable[[], object]:
    binding = bind(session, inputs, provider, outputs)
    if outputs is not None:
        return partial(session.run_with_iobinding, binding)
    return _BoundRun(session, binding, provider_spec(provider).device)


class _BoundRun:
    """A run with everything bound.

    A file may declare another shape of an output than it computes. The first run passes; the next would find the tensor
    of the one before, of the wrong shape, and ONNX Runtime refuses that: the outputs of such a file are bound for each
    run, which takes microseconds.
    """

    def __init__(self, session: Any, binding: Any, device: str) -> None:
        self._session, self.binding, self._device = session, binding, device
        self._bound = partial(session.run_with_iobinding, binding)
        self._run: Callable[[], object] = self._first

    def __call__(self) -> None:
        self._run()

    def _first(self) -> None:
        self._bound()
        pairs = zip(self._session.get_outputs(), self.binding.get_outputs(), strict=True)
        tensors = [(node.shape, value.shape()) for node, value in pairs if value.is_tensor()]
        self._run = self._bound if all(_fits(*shapes) for shapes in tensors) else self._bind_and_run

    def _bind_and_run(self) -> None:
        for node in self._session.get_outputs():
            self.binding.bind_output(node.name, self._device, 0)
        self._bound()


def _fits(declared: Sequence[int | str | None], computed: Sequence[int]) -> bool:
    pairs = zip(declared, computed, strict=False)
    return len(declared) == len(computed) and all(size == own for size, own in pairs if isinstance(size, int))


def n_runs_for(run_ms: float, least: int = 1) -> int:
    """How many runs make a block of at least `BLOCK_MS`; the least where the time of a run is not known yet."""
    return max(least, int(np.ceil(BLOCK_MS / run_ms)))
