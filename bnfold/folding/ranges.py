"""Parameters in new units that the type they are stored in cannot hold: the BatchNorm that asks for them stays."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnfold.folding.apply import parameter_type
from bnfold.folding.choose import Choice
from bnfold.folding.ledger import Takers
from bnfold.folding.relations import Parameters
from bnfold.folding.units import Site
from bnfold.graph.layers import layer_name
from bnfold.graph.scaled import Scaled, fits, largest

__all__ = ["beyond_range"]


def beyond_range(choice: Choice, plan: dict[ir.Node, Parameters], takers: Takers) -> dict[ir.Node, str]:
    """The sites that must not vanish, with the reason: each takes a parameter out of the range of its type.

    Of several sites that one operator takes it is the steepest; the others may still vanish when all is chosen anew.
    """
    offenders = {
        node: index for node, new in plan.items() for index, array in new.items() if _overflows(node, index, array)
    }
    if not offenders:
        return {}
    found: dict[ir.Node, tuple[Site, float]] = {}
    for site in choice.vanished:
        steepness = _steepness(site)
        for node in takers.of(site):
            if node in offenders and (node not in found or steepness > found[node][1]):
                found[node] = site, steepness
    return {site.node: _reason(node, offenders[node]) for node, (site, _) in found.items()}


def _overflows(node: ir.Node, index: int, array: np.ndarray | Scaled) -> bool:
    dtype = parameter_type(node, index)
    return not (array.fits(dtype) if isinstance(array, Scaled) else fits(largest(array), dtype))


def _steepness(site: Site) -> float:
    """How far the site moves magnitudes, up or down, or shifts them."""
    scale = np.abs(site.scale[site.scale != 0])
    return float(max(scale.max(initial=1.0), 1 / scale.min(initial=1.0), largest(site.shift)))


def _reason(node: ir.Node, index: int) -> str:
    old = node.inputs[index] if index < len(node.inputs) else None
    name = old.name if old is not None and old.name else f"{layer_name(node)}.bias"
    return f"its scale takes `{name}` beyond the range of {parameter_type(node, index).name.lower()}"
