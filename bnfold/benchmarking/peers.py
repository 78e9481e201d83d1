"""Other runtimes that take part in a measurement: PyTorch, compiled or not, and OpenVINO."""

from __future__ import annotations

import time
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bnfold.benchmarking.subjects import Subject
from bnfold.benchmarking.timing import Runner
from bnfold.errors import BnfoldError
from bnfold.runtime import provider_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bnfold.benchmarking.axes import Cell
    from bnfold.sources import Source

__all__ = ["openvino_peer", "torch_peer"]


def openvino_peer(spec: str, plain: Path) -> Subject:
    """OpenVINO on the plain export.

    Args:
        spec: the source as the user named it.
        plain: the file.
    """
    return Subject("openvino", spec, partial(_open_openvino, plain), engine="openvino")


def torch_peer(name: str, source: Source) -> Subject:
    """PyTorch on the source itself.

    Args:
        name: "torch", or "torch-compile" for `torch.compile`.
        source: the network.

    Raises:
        BnfoldError: the source is not a PyTorch network.
    """
    from bnfold.sources import TorchSource

    if not isinstance(source, TorchSource):
        raise BnfoldError("the source is not a PyTorch network", remedy="give a --source that is one")
    order = [spec.name for spec in source.inputs]
    opener = partial(_open_torch, source.runnable, order, compiled=name == "torch-compile")
    return Subject(name, source.facts.spec, opener, engine=name)


def _open_torch(module: Any, order: Sequence[str], cell: Cell, inputs: Mapping[str, Any], *, compiled: bool) -> Runner:
    import torch

    torch.set_num_threads(cell.threads)
    device = torch.device(provider_spec(cell.provider).device)
    network = module.to(device)
    values = [torch.from_numpy(inputs[name]).to(device) for name in order]
    call = torch.compile(network) if compiled else network

    def run() -> None:
        with torch.inference_mode():
            call(*values)
        if device.type != "cpu":
            torch.get_device_module(device).synchronize()

    return _opened(run)


def _open_openvino(path: Path, cell: Cell, inputs: Mapping[str, Any]) -> Runner:
    hints = {"INFERENCE_NUM_THREADS": cell.threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = import_module("openvino").Core().compile_model(str(path), "CPU", hints)

    def another() -> Callable[[], object]:
        request = compiled.create_infer_request()  # serves one at a time
        request.infer(dict(inputs))
        call: Callable[[], object] = request.infer
        return call

    return _opened(another(), another)


def _opened(call: Callable[[], object], another: Callable[[], Callable[[], object]] | None = None) -> Runner:
    """A runner whose first call, which may compile, is over."""
    runner = Runner(call, another)
    start = time.perf_counter_ns()
    call()
    runner.first_ms = (time.perf_counter_ns() - start) / 1e6
    return runner
