"""What a loaded source is: a PyTorch module or an ONNX graph, with the facts about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import onnx_ir as ir
    import torch

    from bnfold.records import InputSpec, SourceFacts
    from bnfold.records.input_format import InputFormat
    from bnfold.sources.calling import Call

__all__ = ["OnnxSource", "Source", "TorchSource"]


@dataclass(frozen=True)
class TorchSource:
    """A PyTorch network in eval mode on the CPU.

    `inputs` are in the order of `forward`. `samples` holds real inputs by name, first axis the sample, where the
    source has a data set. `program` is set for an exported program, whose `module` is `program.module()`. `call` says
    where the inputs go where `forward` does not take them one after the other. `example` holds inputs that the user
    gave, in the order of `inputs`. `dims` are `torch.export.Dim`s of the user's, by name of a dynamic axis. `form` is
    set where pixels take the place of an input, as `inputs` says; `own_inputs` are those of `forward` then.
    """

    facts: SourceFacts
    module: torch.nn.Module
    inputs: tuple[InputSpec, ...]
    output_names: tuple[str, ...]
    samples: Mapping[str, np.ndarray] | None = None
    program: torch.export.ExportedProgram | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    call: Call | None = None
    example: tuple[torch.Tensor, ...] | None = None
    dims: Mapping[str, Any] = field(default_factory=dict)
    form: InputFormat | None = None
    own_inputs: tuple[InputSpec, ...] = ()

    @property
    def runnable(self) -> torch.nn.Module:
        """A module that takes the inputs one after the other."""
        from bnfold.sources.calling import runnable
        from bnfold.sources.pixels import preprocessed

        network = runnable(self.module, self.call)
        return network if self.form is None else preprocessed(network, self.form, self.inputs)

    @property
    def without_form(self) -> TorchSource:
        """The network by itself, in front of which no pixels are preprocessed."""
        return self if self.form is None else replace(self, inputs=self.own_inputs, form=None, own_inputs=())


@dataclass(frozen=True)
class OnnxSource:
    """An ONNX graph, whoever exported it; external data has been found and is mapped, not copied.

    `path` is its file, None where it was given in memory. `form` is set where pixels take the place of an input.
    """

    facts: SourceFacts
    path: Path | None
    model: ir.Model
    inputs: tuple[InputSpec, ...]
    output_names: tuple[str, ...]
    samples: Mapping[str, np.ndarray] | None = None
    form: InputFormat | None = None


Source = TorchSource | OnnxSource
