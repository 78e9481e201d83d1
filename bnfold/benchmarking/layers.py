"""Which layer of the user's network a node of ONNX Runtime's optimized graph stands for."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

import onnx_ir as ir

from bnfold.graph.layers import layer_name, parameter_layer
from bnfold.runtime import is_ort_format

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NO_LAYER", "Layers"]

NO_LAYER = "(unnamed, or added by ONNX Runtime)"
_TOKEN = re.compile(r"_token_\d+$")  # what the layout transformation adds to the name of a node
_LAYOUTS = ("_nchwc", "_nhwc")  # what the layout transformers append to the name of the output they replace


class Layers:
    """The layers of a file's nodes.

    Args:
        file: the file before ONNX Runtime changes it; one in its own format tells no layers.
    """

    def __init__(self, file: Path) -> None:
        nodes = [] if is_ort_format(file) else list(ir.load(file).graph.all_nodes())
        self._by_name = {node.name: node for node in nodes if node.name}
        self._by_output = {value.name: node for node in nodes for value in node.outputs if value.name}

    def of(self, name: str, kind: str) -> str:
        """The layer of a node of the optimized graph.

        A fused operator keeps the name of one of its parts, or takes that of the output it ends with; from there, the
        nearest operator of the same kind upstream is the one that gave it its work.

        Args:
            name: of the node, as ONNX Runtime's profile gives it.
            kind: its operator (`FusedConv`).
        """
        name = _TOKEN.sub("", name)
        node = self._by_name.get(name)
        if node is None:
            base = next((name.removesuffix(layout) for layout in _LAYOUTS if name.endswith(layout)), name)
            node = self._by_output.get(base) or self._by_name.get(base)
            if node is not None:
                node = _upstream(node, kind.removeprefix("Fused")) or node
        if node is None:
            return NO_LAYER
        # The parameters first: an exporter that merges Conv and BatchNorm names the result after the BatchNorm.
        return parameter_layer(node) or _without_operator(layer_name(node), node)


def _upstream(node: ir.Node, kind: str) -> ir.Node | None:
    """The nearest node of a kind that this one depends on, itself included."""
    seen, waiting = {node}, deque([node])
    while waiting:
        found = waiting.popleft()
        if found.op_type == kind:
            return found
        for value in found.inputs:
            producer = None if value is None else value.producer()
            if producer is not None and producer not in seen:
                seen.add(producer)
                waiting.append(producer)
    return None


def _without_operator(layer: str, node: ir.Node) -> str:
    """`layer1.0.act` where a node is named `layer1.0.act/Relu_1`, as our own files do."""
    return layer.rpartition("/")[0] or layer if layer == node.name else layer
