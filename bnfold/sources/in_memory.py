"""Networks in memory: a module, an exported program, an ONNX model, beside the SOURCE of the command line."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.examples import Example, example_of, example_shapes, refuse_other_dtypes
from bnfold.sources.load import load_source
from bnfold.sources.onnx_file import onnx_source
from bnfold.sources.options import source_options
from bnfold.sources.program import program_source
from bnfold.sources.torch_source import module_source

if TYPE_CHECKING:
    from typing import Unpack

    from bnfold.sources.options import SourceOptions
    from bnfold.sources.types import Source

__all__ = ["Kind", "is_in_memory", "kind_of_network", "load_network", "named"]

Kind = str
"""module, program, onnx (a ModelProto), onnx_ir (an ir.Model) or source."""

_KINDS = "a torch.nn.Module, a torch.export.ExportedProgram, an onnx.ModelProto, an onnx_ir.Model, or a SOURCE"


def kind_of_network(network: Any) -> Kind:
    """What a network is; the packages that it could be of are not imported for that.

    Raises:
        InputRefused: it is no network.
    """
    if isinstance(network, str | os.PathLike):
        return "source"
    torch, onnx, ir = (sys.modules.get(name) for name in ("torch", "onnx", "onnx_ir"))
    if torch is not None and isinstance(network, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        raise InputRefused(
            "the network is TorchScript, whose layers can no longer be told apart",
            found=type(network).__name__,
            expected=_KINDS,
            remedy="give the module that it was scripted or traced from",
        )
    if torch is not None and isinstance(network, torch.nn.Module):
        return "module"
    if torch is not None and isinstance(network, torch.export.ExportedProgram):
        return "program"
    if onnx is not None and isinstance(network, onnx.ModelProto):
        return "onnx"
    if ir is not None and isinstance(network, ir.Model):
        return "onnx_ir"
    found = f"the class {network.__name__}" if isinstance(network, type) else type(network).__name__
    raise InputRefused(
        "the network must be a module, an exported program or an ONNX model",
        found=found,
        expected=_KINDS,
        remedy="make one of the class first" if isinstance(network, type) else "give one of these",
    )


def is_in_memory(network: Any) -> bool:
    """Whether a network is no SOURCE.

    Raises:
        InputRefused: it is no network.
    """
    return kind_of_network(network) != "source"


def named(network: Any) -> str:
    """The network in messages and reports: the SOURCE, or its kind and class."""
    kind = kind_of_network(network)
    if kind == "source":
        return str(os.fspath(network))
    names = {"program": "exported program", "onnx": "onnx.ModelProto", "onnx_ir": "onnx_ir.Model"}
    return names.get(kind) or f"module {type(network).__name__}"


def load_network(network: Any, example: Any = None, **options: Unpack[SourceOptions]) -> Source:
    """Check any network; it stays as it is, whatever comes of it.

    Args:
        network: a `torch.nn.Module`, on whatever device and in whatever mode; a `torch.export.ExportedProgram`; an
            `onnx.ModelProto` or an `onnx_ir.Model`; or a SOURCE, see `bnfold.sources.load.load_source`.
        example: what `forward` is called with: a tensor, a tuple of its arguments, a dict by keyword; or shapes.
        options: see `SourceOptions`; of a network in memory those of its kind.

    Raises:
        InputRefused: it is not a network, the example does not fit, or it cannot be folded safely.
        EnvironmentNotReady: a package is missing.
    """
    kind, where = kind_of_network(network), named(network)
    given = example_of(example, where=where)
    options = source_options(options)
    shapes, dtypes = options["input_shapes"], options["input_dtypes"]
    if given is not None and shapes:
        raise InputRefused(
            "an example and input shapes exclude each other", where=where, remedy="leave one of them out"
        )
    if kind == "source":
        states_types = where.endswith((".onnx", ".pt2"))
        if given is not None:
            options["input_shapes"] = example_shapes(given)
            options["input_dtypes"] = dtypes or (None if states_types else given.dtypes or None)
        source = load_source(os.fspath(network), **options)
        if states_types:
            _refuse_other_inputs(source, given, where)
        return source
    _refuse_options(where, options, "weights", "pretrained")
    if kind in ("module", "program"):
        _refuse_options(where, options, "dims", "batch_dim")
    if kind == "module":
        return module_source(network, given, where, input_shapes=shapes, input_dtypes=dtypes)
    _refuse_options(where, options, "input_dtypes")
    if given is not None:
        shapes = example_shapes(given)
    if kind == "program":
        source = program_source(network, where, input_shapes=shapes)
    else:
        proto = network if kind == "onnx" else _as_proto(network)
        source = onnx_source(
            proto, where, input_shapes=shapes, dims=options["dims"], batch_dim=options["batch_dim"],
            runs=options["runs"],
        )  # fmt: skip
    _refuse_other_inputs(source, given, where)
    return source


def _as_proto(model: Any) -> Any:
    import onnx_ir as ir

    return ir.to_proto(ir.external_data.load_to_model(model.clone()))


def _refuse_options(where: str, options: SourceOptions, *useless: str) -> None:
    """Refuse options that a network in memory has no use for."""
    given = [name for name in useless if options.get(name)]
    if given:
        raise InputRefused(
            "the network in memory states these itself", where=where, found=", ".join(given), remedy="leave it out"
        )


def _refuse_other_inputs(source: Source, given: Example | None, where: str) -> None:
    """Refuse an example of other types than the inputs of a graph have."""
    if given is not None and given.dtypes and source.inputs:
        refuse_other_dtypes(given, source.inputs, where=where)
