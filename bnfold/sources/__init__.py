"""Everything that can be folded: zoo names, model files, runs, timm, torchvision, factories, .pt2, .onnx."""

from __future__ import annotations

from bnfold.sources.load import load_source
from bnfold.sources.onnx_file import graph_inputs
from bnfold.sources.types import OnnxSource, Source, TorchSource

__all__ = ["OnnxSource", "Source", "TorchSource", "graph_inputs", "load_source"]
