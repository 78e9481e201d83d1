"""Exported programs: `.pt2` files of `torch.export.save`, and what `torch.export.export` returns."""

from __future__ import annotations

import copy
import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.records import InputSpec, SourceFacts
from bnfold.sources.axes import tested_spec
from bnfold.sources.calling import TENSOR, Call
from bnfold.sources.extras import require_torch
from bnfold.sources.healthy import refuse_bad_variance
from bnfold.sources.module_facts import n_parameters, refuse_unhealthy, sha256_of_module
from bnfold.sources.program_archive import read_program
from bnfold.sources.trial import batch_statistics_refusal, trial_output_names
from bnfold.sources.types import TorchSource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

__all__ = ["dynamic_axes", "expression_axes", "load_program", "program_source", "refuse_batch_statistics"]

log = logging.getLogger("bnfold.sources")
FREE_FROM = 2
UNBOUNDED = 1 << 31


def load_program(path: Path, spec: str, *, input_shapes: Sequence[tuple[int, ...]] | None = None) -> TorchSource:
    """Load an exported program; its dynamic axes are those it was exported with.

    Args:
        path: the `.pt2` file.
        spec: the source as the user named it.
        input_shapes: sizes to test dynamic axes with, besides the batch.

    Raises:
        InputRefused: damaged, wants to run code, exported in training mode, or unsafe to fold.
    """
    require_torch()
    return program_source(read_program(path), spec, input_shapes=input_shapes)


def program_source(
    program: torch.export.ExportedProgram, spec: str, *, input_shapes: Sequence[tuple[int, ...]] | None = None
) -> TorchSource:
    """Check an exported program and collect the facts about it; it stays as it is.

    Args:
        program: on whatever device; one that is not on the CPU is copied there.
        spec: the source as the user named it.
        input_shapes: sizes to test dynamic axes with, besides the batch; those of its example where None.

    Raises:
        InputRefused: exported in training mode, or unsafe to fold.
    """
    program = _on_cpu(program)
    refuse_batch_statistics(program, spec)
    module = program.module()
    refuse_unhealthy(module)
    for name, tensor in program.constants.items():
        if name.endswith("running_var"):
            refuse_bad_variance(name.removesuffix(".running_var"), tensor.numpy())
    call = _call(program, spec)
    inputs = _inputs(program, call.names, spec, input_shapes or _example_shapes(program, call))
    return TorchSource(
        facts=SourceFacts(spec=spec, sha256=sha256_of_module(module), n_parameters=n_parameters(module)),
        module=module,
        inputs=inputs,
        output_names=trial_output_names(module, inputs, where=spec, call=call),
        program=program,
        call=None if call.is_plain else call,
    )


def _on_cpu(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    if all(tensor.device.type == "cpu" for tensor in program.state_dict.values()):
        return program
    from torch.export.passes import move_to_device_pass

    return move_to_device_pass(copy.deepcopy(program), "cpu")


def _call(program: torch.export.ExportedProgram, where: str) -> Call:
    """Where the tensors go; numbers and None that it was exported with stay as they were."""
    from torch.export.graph_signature import ConstantArgument, InputKind, TensorArgument

    arguments = [spec.arg for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]
    strangers = [arg for arg in arguments if not isinstance(arg, TensorArgument | ConstantArgument)]
    if strangers:
        raise InputRefused(
            "the exported program takes an input that is not a tensor",
            where=where,
            found=f"{getattr(strangers[0], 'name', '?')}: {type(strangers[0]).__name__}",
            remedy="export it again with tensors only",
        )
    leaves = tuple(arg.value if isinstance(arg, ConstantArgument) else TENSOR for arg in arguments)
    names = tuple(str(arg.name) for arg in arguments if isinstance(arg, TensorArgument))
    return Call(names, leaves, program.call_spec.in_spec)


def _example_shapes(program: torch.export.ExportedProgram, call: Call) -> list[tuple[int, ...]] | None:
    """The shapes that the program was exported with, where it still has them."""
    from torch.utils import _pytree as pytree

    tensors = [leaf for leaf in pytree.tree_leaves(program.example_inputs) if hasattr(leaf, "shape")]
    return [tuple(tensor.shape) for tensor in tensors] if len(tensors) == len(call.names) else None


def _inputs(
    program: torch.export.ExportedProgram,
    names: Sequence[str],
    where: str,
    shapes: Sequence[tuple[int, ...]] | None,
) -> tuple[InputSpec, ...]:
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    specs = []
    for index, name in enumerate(names):
        value = values[name]
        shape = tuple(size if isinstance(size, int) else None for size in value.shape)
        dtype = str(value.dtype).removeprefix("torch.")
        given = shapes[index] if shapes is not None and index < len(shapes) else None
        smallest, largest = _batch_range(program, value)
        spec = tested_spec(name, shape, dtype, given, where=where)
        specs.append(dataclasses.replace(spec, smallest_batch=smallest, largest_batch=largest))
        if (smallest, largest) != (1, None):
            upto = "or more" if largest is None else f"to {largest}"
            log.info(
                "%s takes batches of %d %s at input %s, and is compared at some of these", where, smallest, upto, name
            )
    return tuple(specs)


def dynamic_axes(program: torch.export.ExportedProgram, index: int) -> tuple[int, ...]:
    """The dynamic axes of an input tensor, by its position."""
    from torch.export.graph_signature import InputKind, TensorArgument

    arguments = [spec.arg for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]
    name = [arg.name for arg in arguments if isinstance(arg, TensorArgument)][index]
    value = next(node.meta["val"] for node in program.graph.nodes if node.name == name)
    return tuple(axis for axis, size in enumerate(value.shape) if not isinstance(size, int))


def _batch_range(program: torch.export.ExportedProgram, value: torch.Tensor) -> tuple[int, int | None]:
    """The smallest and the largest batch that a program takes; no largest where that has no bound.

    A symbol starts at 2 where nothing else is asked for, and the program takes 1 all the same.
    """
    size: Any = value.shape[0] if value.ndim else 1  # torch.SymInt, which torch declares as int
    if isinstance(size, int):
        return 1, None
    bounds = program.range_constraints.get(size.node.expr)
    if bounds is None:
        return 1, None
    smallest = int(bounds.lower)
    return (smallest if smallest > FREE_FROM else 1), int(bounds.upper) if bounds.upper < UNBOUNDED else None


def expression_axes(program: torch.export.ExportedProgram) -> list[str]:
    """The axes of inputs whose size is a formula, such as 8*s74, as "input 8*s74x3x8x8"."""
    values = [(node.name, node.meta.get("val")) for node in program.graph.nodes if node.op == "placeholder"]
    shapes = [(name, value.shape) for name, value in values if hasattr(value, "shape")]
    return [
        f"{name} {'x'.join(map(str, shape))}"
        for name, shape in shapes
        if any(not isinstance(size, int) and not size.node.expr.is_Symbol for size in shape)
    ]


def refuse_batch_statistics(program: torch.export.ExportedProgram, where: str) -> None:
    """Refuse batch norms in training mode on anything that depends on an input.

    On weights they are harmless: weight standardization is written like this. On data, the ONNX exporter would write
    them as if they were in eval mode.

    Raises:
        InputRefused: names the layers.
    """
    inputs = {str(name) for name in program.graph_signature.user_inputs}
    data: set[Any] = set()
    layers, exported_in_training = [], False
    for node in program.graph.nodes:
        if node.name in inputs or data.intersection(node.all_input_nodes):
            data.add(node)
        if node.op == "call_function" and _uses_batch(node) and node.args[0] in data:
            layers.append(_layer(node))
            exported_in_training |= not str(node.target).endswith("no_stats") and node.args[3] is not None
    if layers:
        raise batch_statistics_refusal(layers, where=where, exported=exported_in_training)


def _uses_batch(node: Any) -> bool:
    """Whether a node is a batch norm with the argument training=True.

    `aten.batch_norm(input, weight, bias, running_mean, running_var, training, ...)`, its functional kinds, and
    `aten._native_batch_norm_legit.no_stats(input, weight, bias, training, ...)`.
    """
    name = str(node.target)
    if not name.startswith(("aten.batch_norm.", "aten.native_batch_norm.", "aten._native_batch_norm_legit")):
        return False
    if "no_training" in name:
        return False
    return bool(node.args[3 if name.endswith("no_stats") else 5])


def _layer(node: Any) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    return str(next(reversed(stack.values()), (node.name,))[0]) or str(node.name)
