"""Other ways to run the same source, measured in the same rounds: `bnfold bench --against`."""

from __future__ import annotations

import logging
import time
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bnfold.benchmarking.offline import write_offline
from bnfold.benchmarking.subjects import Subject, file_subject
from bnfold.benchmarking.timing import Runner
from bnfold.errors import BnfoldError
from bnfold.records import MissingPeer
from bnfold.runtime import provider_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import onnx

    from bnfold.benchmarking.axes import Cell
    from bnfold.sources import Source

__all__ = ["build_peers"]

PACKAGES = {"onnxsim": "onnxsim", "onnxslim": "onnxslim", "torch": "torch", "torch-compile": "torch"} | {
    "openvino": "openvino"
}

log = logging.getLogger("bnfold.workflows")


def build_peers(names: Sequence[str], source: Source, folder: Path) -> tuple[list[Subject], list[MissingPeer]]:
    """Build each peer from one source.

    Args:
        names: some of `bnfold.workflows.arguments.PEERS`.
        source: the network that all of them compute.
        folder: takes the files of the peers; they must outlive the measurement.

    Returns:
        The peers in the order of `names`, and those that cannot take part, each with the reason.
    """
    import onnx_ir as ir

    from bnfold.export import plain_graph, save
    from bnfold.workflows.fold_export import plain_file

    plain = plain_file(source, ir.to_proto(plain_graph(source)))
    save(plain, folder / "plain.onnx")
    peers, missing = [], []
    for name in names:
        package = PACKAGES.get(name)
        if package is not None and find_spec(package) is None:
            remedy = f"run `pip install {package}`"
            missing.append(MissingPeer(name, f"the package {package} is not installed", remedy))
            continue
        try:
            peers.append(_build(name, source, plain, folder))
        except BnfoldError as error:
            missing.append(MissingPeer(name, error.what, error.remedy or "leave it out of --against"))
        except Exception as error:  # another project's tool may raise anything; the table names it
            log.debug("%s", name, exc_info=True)
            missing.append(MissingPeer(name, f"{type(error).__name__}: {error}"[:300], "leave it out of --against"))
    return peers, missing


def _build(name: str, source: Source, plain: onnx.ModelProto, folder: Path) -> Subject:
    from bnfold.export import save

    path = folder / f"{name}.onnx"
    if name in ("torch", "torch-compile"):
        return _torch_peer(name, source)
    if name == "openvino":
        return Subject(name, source.facts.spec, partial(_open_openvino, folder / "plain.onnx"), engine=name)
    if name == "onnxsim":
        import onnxsim

        save(onnxsim.simplify(plain)[0], path)
    elif name == "onnxslim":
        save(import_module("onnxslim").slim(plain), path)
    elif name == "ort-offline":
        write_offline(folder / "plain.onnx", path, "extended")  # what fits any CPU
    return file_subject(name, path)


def _torch_peer(name: str, source: Source) -> Subject:
    from bnfold.sources import TorchSource

    if not isinstance(source, TorchSource):
        raise BnfoldError("the source is no PyTorch network", remedy="give a --source that is one")
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
