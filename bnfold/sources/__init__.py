"""Everything that can be folded: zoo names, model files, runs, timm, torchvision, factories, .pt2, .onnx.

And networks in memory: modules, exported programs, ONNX models.
"""

from __future__ import annotations

from bnfold.sources.file_facts import facts_of, stated
from bnfold.sources.graph_inputs import graph_inputs
from bnfold.sources.in_memory import load_network
from bnfold.sources.interface import with_interface
from bnfold.sources.load import load_source
from bnfold.sources.types import OnnxSource, Source, TorchSource

__all__ = [
    "OnnxSource",
    "Source",
    "TorchSource",
    "facts_of",
    "graph_inputs",
    "load_network",
    "load_source",
    "stated",
    "with_interface",
]
