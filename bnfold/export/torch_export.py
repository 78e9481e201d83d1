"""PyTorch to ONNX, unoptimized: every BatchNorm of the network is still a node."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.export.axes import axis_names, dynamic_shapes, lost_axes, name_axes
from bnfold.export.branching import branching_line
from bnfold.export.opsets import OLDEST_NATIVE, refuse_other_opset, refuse_unknown_opset
from bnfold.export.quiet import quiet, swallowed_output
from bnfold.graph import operators as op
from bnfold.interrupts import interruptible
from bnfold.sources.program import expression_axes, refuse_batch_statistics
from bnfold.sources.trial import TRIAL_BATCH, named_outputs, run_once, trial_inputs
from bnfold.sources.usercode import described

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from bnfold.sources.types import TorchSource

__all__ = ["default_opset", "export_torch"]

log = logging.getLogger("bnfold.export")

_TALKATIVE = (
    "torch.onnx", "torch.export", "torch.fx", "torch.fx.experimental.symbolic_shapes", "torch._dynamo", "onnxscript",
)  # fmt: skip
_SPECIALIZED = (
    "specializ",
    "inferred a static shape",
    "Constraints violated",
    "ConstraintViolation",
    "marked batch as dynamic",
)


def export_torch(source: TorchSource, *, opset: int | None, static_batch: int | None) -> torch.onnx.ONNXProgram:
    """Export with `torch.onnx.export(dynamo=True, optimize=False)`.

    https://docs.pytorch.org/docs/stable/onnx_export.html

    Args:
        source: a module, or an exported program, which keeps its own dynamic axes.
        opset: as asked, None for the exporter's own; the oldest that the exporter writes where that is newer.
        static_batch: a fixed batch size; None for a dynamic batch axis.

    Returns:
        The graph (`model`) and the program that it was made from (`exported_program`), whose values have its names.

    Raises:
        InputRefused: the exporter fails, cannot keep the batch dynamic, or cannot write the opset.
    """
    if opset is not None:
        refuse_unknown_opset(opset)
    native = opset if opset is None or opset >= OLDEST_NATIVE else OLDEST_NATIVE
    exported = _call_exporter(source, opset=native, static_batch=static_batch)
    model = exported.model
    _restore_interface(model, [spec.name for spec in source.inputs], source.output_names)
    refuse_other_opset(model, native, native=f"opset {default_opset()}, the exporter's own")
    if source.program is None:
        _refuse_fixed_axes(model, source, static_batch)
    name_axes(model, source.inputs)
    return exported


def default_opset() -> int:
    """The opset that `torch.onnx.export` writes where none is asked for."""
    from torch.onnx._constants import ONNX_DEFAULT_OPSET  # nothing public names it

    return int(ONNX_DEFAULT_OPSET)


def _call_exporter(source: TorchSource, *, opset: int | None, static_batch: int | None) -> torch.onnx.ONNXProgram:
    import torch

    arguments: dict[str, Any] = {}
    exported: Any = source.module
    inputs: tuple[Any, ...]
    if source.program is not None:
        exported, inputs = source.program, ()
        _refuse_program_batch(source, static_batch)
    else:
        inputs = trial_inputs(source.inputs, static_batch, example=source.example)
        if source.call is not None:
            inputs, arguments["kwargs"] = source.call.arguments(inputs)
        arguments["dynamic_shapes"] = dynamic_shapes(source, static_batch=static_batch is not None)
    try:
        # The exporter's loggers tell of packages it lacks, its warnings of its own deprecated calls; and it prints the
        # graph it could not trace. What the network prints has been seen in the trial run.
        with interruptible(), quiet(*_TALKATIVE), swallowed_output(), torch.no_grad():
            program = torch.onnx.export(
                exported,
                inputs,
                dynamo=True,
                optimize=False,
                verify=False,
                verbose=False,
                opset_version=opset,
                input_names=[spec.name for spec in source.inputs],
                output_names=list(source.output_names),
                **arguments,
            )
    except Exception as error:
        raise _export_failed(error, source, static_batch) from error
    if program is None:
        raise RuntimeError("torch.onnx.export(dynamo=True) returned no program")
    if program.exported_program is not None:
        refuse_batch_statistics(program.exported_program, source.facts.spec)
    return program


def _export_failed(error: Exception, source: TorchSource, static_batch: int | None) -> InputRefused:
    cause: BaseException = error
    text = str(error)
    while cause.__cause__ is not None:
        cause = cause.__cause__
        text += str(cause)
    formulas = [] if source.program is None else expression_axes(source.program)
    if formulas:
        return InputRefused(
            "PyTorch's exporter cannot write this program, whose axes are restricted by a formula",
            where=source.facts.spec,
            found=f"input {', '.join(formulas)}; {described(cause)[:200]}",
            expected="axes with a symbol of their own, or fixed ones",
            remedy="export the program again with torch.export.Dim or Dim.AUTO for the whole axis",
        )
    line = branching_line(text)
    if line is not None:
        return InputRefused(
            "forward decides by the values of its inputs, which an exported graph cannot",
            where=source.facts.spec,
            found=line,
            remedy="write both ways with torch.where or torch.cond, or leave the choice outside the network",
        )
    remedy = "change the operation named, or export the part of the network that ONNX can express"
    others = [name for spec in source.inputs for name in axis_names(spec, static_batch=True).values()]
    if others and any(sign in text for sign in _SPECIALIZED):
        remedy = f"leave {', '.join(others)} out of dynamic_shapes (--dynamic), or give a torch.export.Dim that fits"
    elif static_batch is None and any(sign in text for sign in _SPECIALIZED):
        remedy = "write forward without the batch size as a constant, or fix it with --static-batch N"
    return InputRefused(
        "PyTorch's exporter cannot write this network" + ("" if static_batch is not None else " with a dynamic batch"),
        where=source.facts.spec,
        found=described(cause)[:400],
        remedy=remedy,
    )


def _refuse_program_batch(source: TorchSource, static_batch: int | None) -> None:
    fixed = [spec.shape[0] for spec in source.inputs if spec.shape and not spec.batch_dynamic]
    if static_batch is not None and fixed != [static_batch] * len(source.inputs):
        raise InputRefused(
            "an exported program keeps the batch axis it was exported with",
            where=source.facts.spec,
            found=f"--static-batch {static_batch}",
            expected=f"batch {fixed[0]}" if fixed else "a dynamic batch",
            remedy="leave --static-batch out, or export the program again",
        )
    if fixed:
        log.warning("%s was exported with a fixed batch of %s, and keeps it", source.facts.spec, fixed[0])


def _restore_interface(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give every input and output its own value and name.

    The exporter renames an input that is returned as it is, and keeps one name for a value that is returned twice.
    """
    graph = model.graph
    for value, name in zip(graph.inputs, inputs, strict=True):
        value.name = name
    if len(graph.outputs) != len(outputs):
        raise RuntimeError(f"the exporter wrote {len(graph.outputs)} outputs and not {len(outputs)}")
    seen = {id(value) for value in graph.inputs} | {id(value) for value in graph.initializers.values()}
    for index, name in enumerate(outputs):
        value = graph.outputs[index]
        if id(value) in seen:
            node = ir.node(op.Identity, [value], num_outputs=1, name=f"{name}/Identity")
            node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
            graph.append(node)
            graph.outputs[index] = value = node.outputs[0]
        seen.add(id(value))
        value.name = name


def _refuse_fixed_axes(model: ir.Model, source: TorchSource, static_batch: int | None) -> None:
    """Refuse a graph with an axis that the exporter has fixed, at an input or at an output that depends on the batch.

    Raises:
        InputRefused: names the axes.
    """
    dynamic = {spec.name for spec in source.inputs if spec.batch_dynamic and static_batch is None}
    lost = lost_axes(model, source, static_batch=static_batch is not None)
    others = [name for name in lost if name not in dynamic]
    if others:
        raise InputRefused(
            "the exporter has fixed a dynamic axis",
            where=source.facts.spec,
            found=f"a constant size at {', '.join(others)}",
            remedy="write forward without that size as a constant, or leave the axis out of dynamic_shapes (--dynamic)",
        )
    fixed = [
        index
        for index, value in enumerate(model.graph.outputs)
        if value.shape is not None and all(isinstance(size, int) for size in value.shape)
    ]
    if fixed and dynamic:
        lost += _depending_on_batch(source, fixed)
    if lost:
        raise InputRefused(
            "the exporter has fixed the batch axis",
            where=source.facts.spec,
            found=f"a constant size at {', '.join(lost)}",
            expected="a dynamic batch",
            remedy="write forward without the batch size as a constant, or fix it with --static-batch N",
        )


def _depending_on_batch(source: TorchSource, indices: Sequence[int]) -> list[str]:
    """The names of those outputs whose shape is another at another batch; all, if the network does not run there."""
    where = source.facts.spec
    shapes = []
    for batch in (TRIAL_BATCH, TRIAL_BATCH + 1):
        try:
            inputs = trial_inputs(source.inputs, batch, example=source.example)
            outputs = run_once(source.runnable, inputs, where=where)
        except InputRefused as refusal:
            log.info("%s", refusal)
            return [source.output_names[index] for index in indices]
        shapes.append([tensor.shape for _, tensor in named_outputs(outputs, where=where)])
    return [source.output_names[index] for index in indices if shapes[0][index] != shapes[1][index]]
