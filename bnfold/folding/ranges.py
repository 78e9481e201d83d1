"""Parameters in new units that the type they are stored in cannot hold: the BatchNorm that asks for them stays."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnfold.folding.apply import parameter_type
from bnfold.folding.choose import Choice
from bnfold.folding.relations import Rewrite
from bnfold.folding.takers import Takers
from bnfold.folding.units import Site
from bnfold.graph.layers import layer_name
from bnfold.graph.scaled import Scaled, fits, largest
from bnfold.records.causes import Overflow

__all__ = ["beyond_range"]


def beyond_range(choice: Choice, plan: dict[ir.Node, Rewrite], takers: Takers) -> dict[ir.Node, Overflow]:
    """The sites that must not vanish, and why: each takes a parameter out of the range of its type.

    Of several sites that one operator takes it is the steepest; the others may still vanish when all is chosen again.
    """
    offenders = {node: why for node, new in plan.items() if (why := _overflow(node, new)) is not None}
    if not offenders:
        return {}
    found: dict[ir.Node, tuple[Site, float]] = {}
    for site in choice.vanished:
        steepness = _steepness(site)
        for node in takers.of(site):
            if node in offenders and (node not in found or steepness > found[node][1]):
                found[node] = site, steepness
    return {site.node: offenders[node] for node, (site, _) in found.items()}


def _steepness(site: Site) -> float:
    """How far the site moves magnitudes, up or down, or shifts them."""
    scale = np.abs(site.scale[site.scale != 0])
    return float(max(scale.max(initial=1.0), 1 / scale.min(initial=1.0), largest(site.shift)))


def _overflow(node: ir.Node, new: Rewrite) -> Overflow | None:
    """The last of a node's new parameters that its type cannot hold; None where it holds all."""
    n_inputs = len(node.inputs)
    arrays = [*new.parameters.items(), *([] if new.bias is None else [(n_inputs, new.bias)])]
    beyond = [index for index, array in arrays if not _fits(array, parameter_type(node, index))]
    if not beyond:
        return None
    index, layer = beyond[-1], layer_name(node)
    old = node.inputs[index] if index < n_inputs else None
    name = old.name if old is not None and old.name else f"{layer}.bias"
    return Overflow(name, layer, parameter_type(node, index).name.lower())


def _fits(array: np.ndarray | Scaled, dtype: ir.DataType) -> bool:
    return array.fits(dtype) if isinstance(array, Scaled) else fits(largest(array), dtype)
