"""A network as the nodes of its graph, before the fold and after it: what a drawing is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

__all__ = ["GraphNodes", "NetworkFacts", "NetworkNode", "module_path"]


@dataclasses.dataclass(frozen=True)
class NetworkNode:
    """A node of a graph.

    Attributes:
        name: no other node or input of the graph has it; mostly the file's own.
        op: the operator's type.
        layer: path of the module it is of (`layer1.0.conv1`), empty for the network itself.
        reads: the names of the nodes and graph inputs whose values it takes, in the order of its operands.
        parameters: path of the module that its parameters are named after, where that is another one.
        batchnorm: in the source, the name that the ledger has for it if it is a BatchNorm.
    """

    name: str
    op: str
    layer: str
    reads: tuple[str, ...]
    parameters: str | None = None
    batchnorm: str | None = None


@dataclasses.dataclass(frozen=True)
class GraphNodes:
    """The nodes of a graph in its order, those of its subgraphs included, without arithmetic on constants and shapes.

    `outputs` maps the graph's outputs to the node or input that writes each; one that is a constant is left out.
    """

    inputs: tuple[str, ...]
    nodes: tuple[NetworkNode, ...]
    outputs: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class NetworkFacts:
    """The network as its source has it, functions inlined, and as it is written."""

    before: GraphNodes
    after: GraphNodes


def module_path(scope: str) -> str:
    """A path with dots, from a name with slashes whose parts may repeat what stands in front of them.

    `/layer1/layer1.0/conv1`, as PyTorch's exporter of TorchScript writes it, is `layer1.0.conv1`.
    """
    parts: list[str] = []
    for part in filter(None, scope.split("/")):
        if parts and (part == parts[-1] or part.startswith(f"{parts[-1]}.")):
            parts.pop()
        parts.append(part)
    return ".".join(parts)
