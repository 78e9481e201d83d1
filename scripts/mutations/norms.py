"""What a mutation returns, and a BatchNormalization node to be spoilt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from mutations.networks import parameter, set_parameter

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["Mutant", "Norm", "attribute"]


@dataclass(frozen=True)
class Mutant:
    """A wrong file; `layers` are the names that are right for the layer that is wrong, None where it is no layer."""

    model: onnx.ModelProto
    layers: frozenset[str] | None


class Norm:
    """A BatchNormalization of the unfolded graph: its numbers, read and written by name."""

    def __init__(self, model: onnx.ModelProto, node: NodeProto) -> None:
        self.model = model
        self.node = node

    def read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Scale gamma, shift beta, mean, variance."""
        gamma, beta, mean, variance = (parameter(self.model, name) for name in self.node.input[1:])
        return gamma, beta, mean, variance

    def write(self, **values: np.ndarray) -> None:
        """Store some of gamma, beta, mean, variance."""
        names = dict(zip(("gamma", "beta", "mean", "variance"), self.node.input[1:], strict=True))
        for key, value in values.items():
            set_parameter(self.model, names[key], value)

    @property
    def epsilon(self) -> float:
        """As the node has it."""
        return float(attribute(self.node, "epsilon").f)

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        attribute(self.node, "epsilon").f = value

    def remove(self) -> None:
        """Its readers read what it read."""
        for node in self.model.graph.node:
            for position, name in enumerate(node.input):
                if name == self.node.output[0]:
                    node.input[position] = self.node.input[0]
        self.model.graph.node.remove(self.node)


def attribute(node: NodeProto, name: str) -> onnx.AttributeProto:
    """The attribute of a node; made with the value 0 where it has its default."""
    known: dict[str, onnx.AttributeProto] = {found.name: found for found in node.attribute}
    if name not in known:
        known[name] = node.attribute.add()
        known[name].CopyFrom(onnx.helper.make_attribute(name, 0))
    return known[name]
