"""From the folded graph to the file that ships: simplified, in the user's names, without traces of this machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.export.facts import all_graphs, count_batchnorms
from bnfold.export.metadata import name_nodes_by_layer, strip_metadata
from bnfold.export.opsets import convert_opset
from bnfold.export.quiet import quiet
from bnfold.export.sizes import fits_protobuf, proto_fits
from bnfold.sources.extras import require
from bnfold.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["finish"]

log = logging.getLogger("bnfold.export")

# Passes of onnxsim that compute new parameters, in float32: that is the fold's work, which rounds once, and leaves the
# constants that runtimes look for (`bnfold.graph.kernels`).
_ARITHMETIC = (
    "fuse_consecutive_mul", "fuse_matmul_into_conv", "fuse_mul_into_conv", "fuse_preceding_mul_into_conv",
    "fuse_reduce_sum_into_conv",
)  # fmt: skip


def finish(
    model: ir.Model, *, opset: int | None = None, where: str = "the folded graph", simplify: bool = True
) -> onnx.ModelProto:
    """Simplify a folded graph with onnxsim, name its nodes by layer, and remove what tells of this machine.

    onnxsim folds no BatchNorm here: what the ledger says stays true. Inputs and outputs keep their names, element
    types and shapes; there is no value_info, since stale ones mislead ONNX Runtime's optimizer.

    Args:
        model: unchanged.
        opset: to convert to, None for that of the model.
        where: the source, for messages.
        simplify: whether onnxsim is asked at all.

    Returns:
        A checked model; the same bytes every time it is serialized deterministically.

    Raises:
        InputRefused: onnxsim or the ONNX checker refuses the graph, or it cannot be converted to the opset.
        EnvironmentNotReady: onnxsim is not installed.
    """
    model = model.clone() if opset is None else convert_opset(model.clone(), opset, where=where)
    name_nodes_by_layer(model)
    strip_metadata(model)
    model.producer_name, model.producer_version = "bnfold", __version__
    model.graph.name = "bnfold"
    proto = ir.to_proto(model)
    _drop_value_info(proto)
    _drop_tensor_notes(proto)
    if simplify and fits_protobuf(model):
        proto = _simplified(proto)
    elif simplify:
        log.warning("the model is over 2 GB, which onnxsim cannot take: it is written without simplification")
    _name_unnamed(proto)
    if proto_fits(proto):
        _check(proto)
    return proto


def _simplified(before: onnx.ModelProto) -> onnx.ModelProto:
    """Run onnxsim and check that the interface, the opset and the BatchNorms are still the same."""
    # no extra: the one that is not in use would bring a second ONNX Runtime
    onnxsim = require("onnxsim", extra=None, purpose="simplifying the graph")
    inputs = {value.name for value in before.graph.input}
    overridable = any(tensor.name in inputs for tensor in before.graph.initializer)  # inputs with a default value
    try:
        with quiet("onnx_ir"):  # its passes count what they remove
            after, _ = onnxsim.simplify(
                before, skip_fuse_bn=True, certify=False, mutable_initializer=overridable,
                skipped_optimizers=list(_ARITHMETIC),
            )  # fmt: skip
    except Exception as error:
        raise InputRefused(
            "onnxsim cannot simplify the graph",
            found=f"{type(error).__name__}: {error}"[:300],
            remedy="export the network again, or report the message with the network's code",
        ) from error
    _drop_value_info(after)
    if narrowed := _narrowed_input(after.graph.input, before.graph.input):
        log.warning("onnxsim found a number for the named sizes of %s: the graph is not simplified", narrowed)
        return before
    _restore_interface(after.graph.input, before.graph.input)
    _restore_interface(after.graph.output, before.graph.output, inferred=True)
    n_before, n_after = count_batchnorms(before), count_batchnorms(after)
    if n_after > n_before or _opsets(after) != _opsets(before):
        raise RuntimeError(
            f"onnxsim turned {n_before} BatchNorms into {n_after}, {_opsets(before)} into {_opsets(after)}"
        )
    if n_after < n_before:
        log.info("onnxsim removed %d BatchNorms that were unused, constant or duplicates", n_before - n_after)
    after.ir_version = before.ir_version
    del after.metadata_props[:]
    after.metadata_props.extend(before.metadata_props)
    after.producer_name, after.producer_version = before.producer_name, before.producer_version
    after.doc_string = before.doc_string
    after.graph.doc_string = ""
    result: onnx.ModelProto = after
    return result


def _narrowed_input(after: Sequence[onnx.ValueInfoProto], before: Sequence[onnx.ValueInfoProto]) -> str:
    """The first input that lost a named size, as a batch that the graph can take at 1 only; "" for none."""
    sizes = {value.name: [dim.dim_param for dim in value.type.tensor_type.shape.dim] for value in after}
    for value in before:
        names = [dim.dim_param for dim in value.type.tensor_type.shape.dim]
        found = sizes.get(value.name, names)
        if len(found) == len(names) and any(name and not left for name, left in zip(names, found, strict=True)):
            return value.name
    return ""


def _restore_interface(
    after: Sequence[onnx.ValueInfoProto], before: Sequence[onnx.ValueInfoProto], *, inferred: bool = False
) -> None:
    """Give inputs or outputs their declared types back, after a check that none was changed.

    A size may have been found where none was declared, and for outputs, whose sizes are inferred, where an exporter
    gave a name to one that follows from fixed inputs. A named size of an input, as the batch, must still be free.
    """
    if [value.name for value in after] != [value.name for value in before]:
        raise RuntimeError(f"onnxsim changed {[value.name for value in before]} into {[value.name for value in after]}")
    for new, old in zip(after, before, strict=True):
        new_type, old_type = new.type.tensor_type, old.type.tensor_type
        same = new_type.elem_type == old_type.elem_type
        if new_type.HasField("shape") and old_type.HasField("shape"):
            new_dims, old_dims = new_type.shape.dim, old_type.shape.dim
            same &= len(new_dims) == len(old_dims) and all(
                was == now or not was.HasField("value") or (inferred and bool(was.dim_param))
                for now, was in zip(new_dims, old_dims, strict=True)
            )
        if not same:
            raise RuntimeError(f"onnxsim changed {old.name} from {old.type} to {new.type}")
        new.CopyFrom(old)


def _opsets(proto: onnx.ModelProto) -> dict[str, int]:
    used = {node.domain for graph in all_graphs(proto) for node in graph.node} | {""}
    return {entry.domain: entry.version for entry in proto.opset_import if entry.domain in used}


def _drop_value_info(proto: onnx.ModelProto) -> None:
    for graph in all_graphs(proto):
        del graph.value_info[:]


def _drop_tensor_notes(proto: onnx.ModelProto) -> None:
    """Remove doc strings and metadata of stored tensors, which the IR cannot change on tensors it only maps."""
    for graph in all_graphs(proto):
        for tensor in getattr(graph, "initializer", ()):
            tensor.ClearField("doc_string")
            del tensor.metadata_props[:]


def _name_unnamed(proto: onnx.ModelProto) -> None:
    """Name the nodes that onnxsim made, without touching the others."""
    used = {node.name for graph in all_graphs(proto) for node in graph.node}
    for graph in all_graphs(proto):
        for node in graph.node:
            if node.name:
                continue
            count = 0
            while (name := f"{node.op_type}_{count}") in used:
                count += 1
            node.name = name
            used.add(name)


def _check(proto: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise InputRefused(
            "the finished graph breaks the ONNX specification",
            found=" ".join(str(error).split())[:300],
            remedy="report the message with the network's code",
        ) from error
