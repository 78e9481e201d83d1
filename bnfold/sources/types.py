"""What a loaded source is: a PyTorch module or an ONNX graph, with the facts about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import onnx_ir as ir
    import torch

    from bnfold.records import InputSpec, SourceFacts

__all__ = ["OnnxSource", "Source", "TorchSource"]


@dataclass(frozen=True)
class TorchSource:
    """A PyTorch network in eval mode on the CPU.

    `inputs` are in the order of `forward`. `samples` holds real inputs by name, first axis the sample, where the
    source has a data set. `program` is set for a `.pt2` source, whose `module` is `program.module()`.
    """

    facts: SourceFacts
    module: torch.nn.Module
    inputs: tuple[InputSpec, ...]
    output_names: tuple[str, ...]
    samples: Mapping[str, np.ndarray] | None = None
    program: torch.export.ExportedProgram | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OnnxSource:
    """An `.onnx` file, whoever exported it; external data has been found and is mapped, not copied."""

    facts: SourceFacts
    path: Path
    model: ir.Model
    inputs: tuple[InputSpec, ...]
    output_names: tuple[str, ...]
    samples: Mapping[str, np.ndarray] | None = None


Source = TorchSource | OnnxSource
