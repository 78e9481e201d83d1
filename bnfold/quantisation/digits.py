"""Parameters of layers in float64, as the fold computed them before it rounded them to be stored.

    W' = a_y W (1 / a_x)      b' = a_y b          in other units

A node carries them from the folded graph to the file, so that integers are rounded once.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant
from bnfold.graph.operators import kind_of
from bnfold.quantisation.operators import WEIGHTED, channel_axis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx_ir as ir

    from bnfold.records.certificate import Exact

__all__ = ["attach_digits", "digits_of", "digits_to_units"]

_KEY = "bnfold.digits"
_PARAMETERS = (1, 2)
Array = np.ndarray


def attach_digits(graph: ir.Graph, digits: Mapping[str, Exact]) -> None:
    """Let each layer carry its parameters in float64.

    Args:
        graph: as `prepared` made it.
        digits: by the name of the initializer, see `Certificate.parameters`; one without is as it is stored.
    """
    for node in graph:
        if kind_of(node) in WEIGHTED:
            node.meta[_KEY] = {
                index: functools.partial(_in_float64, stored, digits.get(str(value.name)))
                for index, value in enumerate(node.inputs)
                if index in _PARAMETERS and value is not None and (stored := constant(value)) is not None
            }


def digits_of(node: ir.Node, index: int) -> Array | None:
    """The weight (1) or the bias (2) of a layer in float64; None where it has none that is constant."""
    carried: dict[int, Callable[[], Array]] = node.meta.get(_KEY, {})
    if index in carried:
        return carried[index]()
    stored = constant(node.inputs[index]) if index < len(node.inputs) else None
    return None if stored is None else stored.astype(np.float64)


def digits_to_units(graph: ir.Graph, scales: Mapping[str, Array]) -> None:
    """Change what layers carry to other units.

    Args:
        graph: whose layers carry their parameters in the units before.
        scales: a of what layers read and write, by the value's name, one number for each channel.
    """
    for node in graph:
        carried = node.meta.get(_KEY)
        if not carried:
            continue
        read, written = (scales.get(str(value.name)) for value in (node.inputs[0], node.outputs[0]) if value)
        if read is not None or written is not None:
            in_units = {1: functools.partial(_weight, node, carried[1], read, written)}
            if 2 in carried:
                in_units[2] = functools.partial(_bias, carried[2], written)
            node.meta[_KEY] = in_units


def _in_float64(stored: Array, exact: Exact | None) -> Array:
    found = None if exact is None else exact(stored)
    return stored.astype(np.float64) if found is None or found.shape != stored.shape else np.array(found, np.float64)


def _weight(node: ir.Node, before: Callable[[], Array], read: Array | None, written: Array | None) -> Array:
    axis = channel_axis(node)
    rows = np.moveaxis(before(), axis, 0).copy()
    m, per_group = rows.shape[:2]
    if written is not None:
        rows *= written.reshape(-1, *(1,) * (rows.ndim - 1))
    if read is not None:
        groups = int(attribute(node, "group", 1)) if kind_of(node) == op.Conv else 1
        own = read.reshape(groups, per_group)[np.arange(m) // (m // groups)]
        rows *= (1 / own).reshape(m, per_group, *(1,) * (rows.ndim - 2))
    return np.moveaxis(rows, 0, axis)


def _bias(before: Callable[[], Array], written: Array | None) -> Array:
    return before() if written is None else before() * written
