"""What exporters write beside the graph: names of layers, which we use, and paths of a machine, which we remove."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

__all__ = ["keep_layer_names", "layer_of", "name_nodes_by_layer", "strip_metadata"]

SCOPES = "pkg.torch.onnx.name_scopes"
CLASSES = "pkg.torch.onnx.class_hierarchy"
_EXPORTER_SCOPE = "_empty_nn_module_stack_from_metadata_hook"  # a node of the exporter, not of a layer
_MACHINE_PATH = re.compile(r"(^|[\s\"'(=:,\[])(/|~/|[A-Za-z]:[\\/]|\\\\|file:)[^\s]|\.py\b")


def keep_layer_names(model: ir.Model, *, keep_model_properties: bool) -> None:
    """Remove metadata and doc strings, except the layer's name and class on nodes.

    Args:
        model: changed in place.
        keep_model_properties: keep entries of the model itself that hold no path (class names, licences).
    """
    for node in _nodes(model):
        kept = {key: node.metadata_props[key] for key in (SCOPES, CLASSES) if key in node.metadata_props}
        node.metadata_props.clear()
        node.metadata_props.update(kept)
        node.doc_string = None
    _strip_all_but_nodes(model, keep_model_properties=keep_model_properties)


def strip_metadata(model: ir.Model) -> None:
    """Remove all metadata and doc strings in place, except entries of the model itself that hold no path."""
    for node in _nodes(model):
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None
    _strip_all_but_nodes(model, keep_model_properties=True)


def _strip_all_but_nodes(model: ir.Model, *, keep_model_properties: bool) -> None:
    for graph in model.graphs():
        graph.metadata_props.clear()
        graph.doc_string = None
        outputs = [value for node in graph for value in node.outputs]
        for value in (*graph.inputs, *graph.initializers.values(), *outputs):
            value.metadata_props.clear()
            value.doc_string = None
    for function in model.functions.values():
        function.metadata_props.clear()
        function.doc_string = None
    kept = {key: text for key, text in model.metadata_props.items() if not _MACHINE_PATH.search(text)}
    model.metadata_props.clear()
    if keep_model_properties:
        model.metadata_props.update(kept)
    if not keep_model_properties or (model.doc_string and _MACHINE_PATH.search(model.doc_string)):
        model.doc_string = None


def layer_of(node: ir.Node) -> str | None:
    """The layer that a node comes from, as the user names it (`layer1.0.bn1`), "" for the network itself, or None.

    PyTorch's exporter writes the stack of modules, and behind it the name of the operation.
    """
    text = node.metadata_props.get(SCOPES)
    if text is None:
        return None
    scopes = ast.literal_eval(text)
    if len(scopes) < 2 or scopes[-2] == _EXPORTER_SCOPE:
        return ""
    return str(scopes[-2])


def name_nodes_by_layer(model: ir.Model) -> None:
    """Name every node that comes from a layer `LAYER/OPERATOR`; every node gets a name, and no two the same."""
    used: set[str] = set()
    for node in _nodes(model):
        layer = layer_of(node)
        if layer is not None:
            name = f"{layer}/{node.op_type}" if layer else node.op_type
        else:
            name = node.name or node.op_type
        unique, count = name, 1
        while unique in used:
            unique, count = f"{name}_{count}", count + 1
        used.add(unique)
        node.name = unique


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()
