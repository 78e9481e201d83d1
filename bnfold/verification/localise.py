"""Where a file that is not equal to its source goes wrong: the first layer that departs, in the user's terms.

The file is compared node by node (`bnfold.verification.localise_walk`) with the source folded again, whose values have
the units that bnfold would have chosen, and with the source as it is. Of the two, the comparison that needs the fewest
suspects explains the failure best: against the wrong one nearly every layer departs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import onnx.inliner
import onnx_ir as ir

from bnfold.folding import fold_model
from bnfold.numerics.error_bounds import unit_roundoff
from bnfold.records import Departure
from bnfold.verification.graph_facts import coarsest_format
from bnfold.verification.localise_layers import Layers
from bnfold.verification.localise_nodes import Nodes
from bnfold.verification.localise_walk import Suspect, Walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnfold.verification.inputs import Feed

__all__ = ["FOLDED_AGAIN", "SOURCE", "Located", "localise"]

FOLDED_AGAIN = "the source folded again"
SOURCE = "the unfolded source"


@dataclass(frozen=True)
class Located:
    """The departure, and what a reproduction of it needs.

    `candidate` and `other` are the models in their own precision, functions inlined; `walk` compared them.
    """

    departure: Departure
    suspect: Suspect
    walk: Walk
    layers: Layers
    candidate: onnx.ModelProto
    other: onnx.ModelProto


def localise(
    candidate: onnx.ModelProto, plain: onnx.ModelProto, feeds: Iterable[Feed], *, seed: int = 0
) -> Located | None:
    """Name the first layer of a file that computes something else than its source.

    Args:
        candidate: the file, external data loaded.
        plain: the unfolded graph of its source.
        feeds: inputs to compare on, tried in order until one shows a departure.
        seed: of the roundings.

    Returns:
        The departure; None if the file computes in float64 what the graph of the source does.

    Raises:
        InputRefused: a graph has an operator without a float64 meaning, or the source cannot be folded.
    """
    candidate, plain = _inlined(candidate), _inlined(plain)
    u = unit_roundoff(coarsest_format(candidate))
    file, tried = Nodes(candidate), list(feeds)
    layers = Layers(plain)
    found: list[tuple[float, str, onnx.ModelProto, Walk, list[Suspect]]] = []
    for name, other in ((FOLDED_AGAIN, _folded(plain)), (SOURCE, plain)):
        nodes = Nodes(other)
        for feed in tried:
            walk = Walk(file, nodes, feed.arrays, u=u, seed=seed)
            suspects = walk.suspects()
            if suspects:
                found.append((_n_suspected(suspects), name, other, walk, suspects))
                break
        if found and found[0][0] == 1:
            break  # nothing explains a failure by less
    if not found:
        return None
    _, name, other, walk, suspects = min(found, key=lambda one: one[0])
    suspect = suspects[0]
    departure = layers.departure(suspect, walk, compared_with=name)
    return Located(departure, suspect, walk, layers, candidate, other)


def _n_suspected(suspects: Sequence[Suspect]) -> int:
    return len({node.output[0] for suspect in suspects for node in suspect.region})


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _folded(plain: onnx.ModelProto) -> onnx.ModelProto:
    model = ir.from_proto(plain)
    fold_model(model)
    return ir.to_proto(model)
