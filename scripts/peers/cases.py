"""The files and networks that the tools are given: those of the field lane, and networks of timm and torchvision.

`NETWORKS` are those of the smallest of each family, and of scripts/fold_zoo.py, in which some tool leaves a BatchNorm
(docs/survey.md), and ResNet-18, of which an exporter's files were reported wrong (pytorch issue 169178).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import field_networks
import onnx_ir as ir
import torch
from common.networks import calibrate, randomise, source_of
from field.sources import field_sources

from bnfold.errors import BnfoldError
from bnfold.export import plain_graph, save
from bnfold.runtime import open_session
from bnfold.sources.library import build_timm, build_torchvision

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CASES", "FIELD", "NETWORKS", "Network", "exported", "module_of", "written"]

NETWORKS = (
    "timm:resnet18", "timm:resnetv2_18", "timm:resnetv2_50", "timm:repvgg_a0", "timm:visformer_tiny", "timm:levit_128s",
    "timm:levit_384", "timm:mobileone_s0", "timm:mobileone_s1", "timm:repghostnet_050", "timm:starnet_s050",
    "timm:shvit_s1", "timm:swiftformer_xs", "timm:efficientvit_m0", "timm:efficientformerv2_s0", "timm:fastvit_t8",
    "timm:repvit_m1", "timm:inception_next_atto", "timm:xcit_nano_12_p8_224", "timm:iformer_t",
    "timm:maxvit_pico_rw_256", "timm:ghostnetv3_100", "timm:densenet121", "timm:dpn48b", "timm:xception41p",
    "timm:convmixer_768_32", "timm:halonet_h1", "timm:nextvit_small", "torchvision:densenet121", "timm:pnasnet5large",
    "timm:nasnetalarge",
)  # fmt: skip
Network = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]  # and what it is called with
FIELD = {source.name: source for source in field_sources()}
CASES = (*FIELD, *NETWORKS)


def module_of(case: str) -> Network | None:
    """The network of a case and what it is called with; None where the case is a file."""
    torch.manual_seed(0)
    if case in FIELD:
        source = FIELD[case]
        if source.factory is None:
            return None
        shapes = source.shapes or ()
        return getattr(field_networks, source.factory)(), tuple(torch.randn(4, *shape[1:]) for shape in shapes)
    library, _, name = case.partition(":")
    module, shape = {"timm": build_timm, "torchvision": build_torchvision}[library](name, pretrained=False)
    inputs = (torch.randn(4, *shape[1:]),)
    module.eval()
    randomise(module, "positive", seed=1)
    calibrate(module, inputs)
    return module, inputs


def exported(network: Network, file: Path) -> torch.onnx.ONNXProgram:
    """The default export of a network, written."""
    module, inputs = network
    program = torch.onnx.export(
        module, inputs, file, dynamo=True, optimize=True,
        input_names=[f"x{k}" for k in range(len(inputs))], output_names=["output"],
        dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),
    )  # fmt: skip
    if program is None:
        raise RuntimeError("torch.onnx.export gives a program with dynamo=True")
    return program


def written(case: str, network: Network | None, folder: Path) -> Path:
    """The file that every tool is given: that of the field, or the unoptimized export of a network.

    PyTorch's exporter states a tensor where SplitToSequence writes a sequence, which ONNX Runtime refuses: such a
    network is given as it is exported by default, where Split stands in its place.
    """
    if network is None:
        given = FIELD[case]
        return given.folder / (given.path or "")
    (path, *_) = save(ir.to_proto(plain_graph(source_of(case, *network))), folder / "unoptimized.onnx")
    try:
        open_session(path)
    except BnfoldError:
        path = folder / "exported.onnx"
        exported(network, path)
        open_session(path)
    return path
