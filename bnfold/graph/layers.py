"""The user's own names for the nodes of a graph."""

from __future__ import annotations

import ast
import functools

import onnx_ir as ir

__all__ = ["layer_name", "layer_of_parameter", "parameter_layer", "scope_of"]

_SCOPES = "pkg.torch.onnx.name_scopes"
_EXPORTER_SCOPE = "_empty_nn_module_stack_from_metadata_hook"  # a node of the exporter, not of a layer
_PARAMETERS = frozenset(
    {"weight", "bias", "running_mean", "running_var", "gamma", "beta", "moving_mean", "moving_variance", "mean", "var"}
)


def _listed(node: ir.Node, key: str) -> tuple[str, ...]:
    text = node.metadata_props.get(key)
    return _items(text) if text else ()


@functools.lru_cache(maxsize=1 << 16)
def _items(text: str) -> tuple[str, ...]:
    return tuple(str(item) for item in ast.literal_eval(text))


def layer_name(node: ir.Node) -> str:
    """The module path in the user's model (`layer1.0.bn1`), else what the file itself says.

    `torch.onnx.export` writes the path of every node as name scopes, the last of which is the traced call. Files
    without them: the common prefix of the parameters' names, else the node's name, else that of its first output.
    """
    scopes = _listed(node, _SCOPES)
    if len(scopes) >= 2 and scopes[-2]:
        return scopes[-2]
    return parameter_layer(node) or node.name or node.outputs[0].name or node.op_type


def scope_of(node: ir.Node) -> str | None:
    """The module path that `torch.onnx.export` wrote, empty for the network itself; None where it wrote none."""
    scopes = _listed(node, _SCOPES)
    if not scopes:
        return None
    return "" if len(scopes) < 2 or scopes[-2] == _EXPORTER_SCOPE else scopes[-2]


def parameter_layer(node: ir.Node) -> str:
    """The common prefix of the names of the node's parameters (`layer1.0.conv1`), empty where it has none."""
    layers = (layer_of_parameter(value) for value in node.inputs[1:] if value is not None)
    return next((layer for layer in layers if layer), "")


def layer_of_parameter(value: ir.Value) -> str:
    """`layer1.0.bn1` of a parameter `layer1.0.bn1.running_var`, empty for a value of another kind of name."""
    if not value.name or value.const_value is None:
        return ""
    head, _, tail = value.name.replace("/", ".").rpartition(".")
    return head if tail in _PARAMETERS else ""
