"""From an exported program to one without the BatchNorms that can vanish: folded as a module, and exported again."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.modules.fold import fold_source
from bnfold.sources.copies import copied_module
from bnfold.sources.program import program_source
from bnfold.sources.usercode import described

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from bnfold.modules.writing import Writing
    from bnfold.records import Ledger

__all__ = ["fold_program"]

_TRANSPOSED = ("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d")
_LINEAR = ("aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.linear", *_TRANSPOSED)
_GROUPS = 6  # the position of groups in conv_transpose(input, weight, bias, stride, padding, output_padding, groups)
_RUNNING_VAR = 4


def fold_program(
    program: torch.export.ExportedProgram, where: str, *, progress: Callable[[str], None] | None = None
) -> tuple[torch.export.ExportedProgram, Ledger]:
    """Fold the BatchNorms of an exported program; it stays as it is, and its dynamic axes stay dynamic.

    Raises:
        InputRefused: it has no example inputs, or cannot be exported again.
        GateFailed: the folded program is not equal.
    """
    if program.example_inputs is None:
        raise InputRefused(
            "the exported program has no example inputs, with which it is exported again", where=where,
            remedy="export it from the module, or fold the module",
        )  # fmt: skip
    source = program_source(program, where)
    work: Any = copied_module(source.module, where=where)
    new = _give_biases(work)
    solution = fold_source(dataclasses.replace(source, program=None, module=work), progress)
    _take_out(work, solution.writing, new)
    return _exported_again(program, work, where), solution.ledger


def _name(node: Any) -> str:
    return str(node.target).rpartition(".")[0]  # without the overload: conv2d.default, conv_transpose2d.input


def _give_biases(module: Any) -> dict[str, Any]:
    """Zeros as the bias of each linear operator that has none, in place; their names and the operators come back."""
    import torch

    found: dict[str, Any] = {}
    for node in list(module.graph.nodes):
        if (
            node.op != "call_function"
            or _name(node) not in _LINEAR
            or (len(node.args) > 2 and node.args[2] is not None)
        ):
            continue
        weight = node.args[1]
        if weight.op != "get_attr" or "bias" in node.kwargs:
            continue
        path, _, attribute = weight.target.rpartition(".")
        owner = module.get_submodule(path)
        if hasattr(owner, "bias") or attribute != "weight":
            continue
        tensor = getattr(owner, attribute)
        groups = node.args[_GROUPS] if len(node.args) > _GROUPS else 1
        size = tensor.shape[1] * groups if _name(node) in _TRANSPOSED else tensor.shape[0]
        owner.register_parameter("bias", torch.nn.Parameter(tensor.new_zeros(size)))
        name = f"{path}.bias".lstrip(".")
        with module.graph.inserting_before(node):
            bias = module.graph.get_attr(name)
        node.args = (*node.args[:2], bias, *node.args[3:])
        found[name] = node
    module.recompile()
    return found


def _take_out(module: Any, writing: Writing, new: dict[str, Any]) -> None:
    """Remove the BatchNorms that are the identity now, and the biases that stayed zero, in place."""
    gone = set(writing.vanished)
    for node in list(module.graph.nodes):
        if node.op == "call_function" and _name(node) == "aten.batch_norm" and node.args[_RUNNING_VAR].target in gone:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    written = {str(place) for place in writing.parameters}
    for name, node in new.items():
        if name not in written:
            node.args = (*node.args[:2], None, *node.args[3:])
    module.graph.eliminate_dead_code()
    module.recompile()
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in (*module.named_parameters(), *module.named_buffers()) if name not in used]:
        path, _, attribute = name.rpartition(".")
        delattr(module.get_submodule(path), attribute)


def _exported_again(program: Any, module: Any, where: str) -> torch.export.ExportedProgram:
    import torch
    from torch.utils import _pytree as pytree

    args, kwargs = program.example_inputs
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    shapes = []
    for name in program.graph_signature.user_inputs:
        sizes = getattr(values.get(str(name)), "shape", ())
        dynamic = {k: torch.export.Dim.AUTO for k, size in enumerate(sizes) if not isinstance(size, int)}
        shapes.append(dynamic or None)
    tree_args, tree_kwargs = pytree.tree_unflatten(shapes, program.call_spec.in_spec)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own deprecated calls
            return torch.export.export(
                module, args, kwargs, dynamic_shapes=(*tree_args, *tree_kwargs.values()), strict=False
            )
    except Exception as error:
        raise InputRefused(
            "the folded program cannot be exported again",
            where=where,
            found=described(error)[:300],
            remedy="fold the module that it was exported from, and export that",
        ) from error
