"""Other ways to run the same source, measured in the same rounds: `bnfold bench --against`."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bnfold.benchmarking.offline import write_offline
from bnfold.benchmarking.peers import openvino_peer, torch_peer
from bnfold.benchmarking.subjects import Subject, file_subject
from bnfold.errors import BnfoldError
from bnfold.records import MissingPeer
from bnfold.workflows.static_peers import STATIC_PEERS, write_static

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import onnx

    from bnfold.sources import Source
    from bnfold.workflows.static_peers import Calibration

__all__ = ["build_peers"]

PACKAGES = {name: name for name in ("onnxsim", "onnxslim", "torch", "openvino")} | {"torch-compile": "torch"}

log = logging.getLogger("bnfold.workflows")


def build_peers(
    names: Sequence[str],
    source: Source,
    folder: Path,
    calibrated: Callable[[Path], Calibration] | None = None,
) -> tuple[list[Subject], list[MissingPeer]]:
    """Build each peer from one source.

    Args:
        names: some of `bnfold.workflows.arguments.PEERS`.
        source: the network that all of them compute.
        folder: takes the files of the peers; they must outlive the measurement.
        calibrated: samples for those in int8, given the plain file; None where there are none.

    Returns:
        The peers in the order of `names`, and those that cannot take part, each with the reason.
    """
    import onnx_ir as ir

    from bnfold.export import plain_graph, save
    from bnfold.workflows.files import plain_file

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
            peers.append(_build(name, source, plain, folder, calibrated))
        except BnfoldError as error:
            missing.append(MissingPeer(name, error.what, error.remedy or "leave it out of --against"))
        except Exception as error:  # another project's tool may raise anything; the table names it
            log.debug("%s", name, exc_info=True)
            missing.append(MissingPeer(name, f"{type(error).__name__}: {error}"[:300], "leave it out of --against"))
    return peers, missing


def _build(
    name: str,
    source: Source,
    plain: onnx.ModelProto,
    folder: Path,
    calibrated: Callable[[Path], Calibration] | None,
) -> Subject:
    from bnfold.export import save

    path = folder / f"{name}.onnx"
    if name in ("torch", "torch-compile"):
        return torch_peer(name, source)
    if name == "openvino":
        return openvino_peer(source.facts.spec, folder / "plain.onnx")
    if name == "onnxsim":
        import onnxsim

        save(onnxsim.simplify(plain)[0], path)
    elif name == "onnxslim":
        save(import_module("onnxslim").slim(plain), path)
    elif name == "ort-offline":
        write_offline(folder / "plain.onnx", path, "extended")  # what fits any CPU
    elif name in STATIC_PEERS:
        if calibrated is None:
            raise BnfoldError("there are no samples to calibrate on", remedy="give them with --inputs or --data")
        write_static(folder / "plain.onnx", path, calibrated(folder / "plain.onnx"), best=name == "ort-static-best")
    return file_subject(name, path)
