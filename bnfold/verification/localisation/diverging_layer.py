"""Where a file that is not equal to its source goes wrong: the first layer that diverges, in the user's terms.

The file is compared node by node (`bnfold.verification.localisation.graph_walk`) with the source folded again, whose
values have the units that bnfold would have chosen, and with the source as it is. Of the two, the comparison that needs
the fewest suspects explains the failure best: against the wrong one nearly every layer diverges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from bnfold.folding import fold_model
from bnfold.graph.inlined import inlined
from bnfold.numerics.error_bounds import unit_roundoff
from bnfold.records import Departure
from bnfold.verification.data.precision import coarsest_format
from bnfold.verification.localisation.float64_nodes import Arrays, Nodes
from bnfold.verification.localisation.graph_walk import Suspect, Walk
from bnfold.verification.localisation.source_layers import Layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bnfold.verification.data.feeds import Feed

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
    plain: onnx.ModelProto

    def plain_values(self) -> Arrays:
        """Every value of the unfolded source in float64, on the feed of the walk."""
        return Nodes(self.plain).evaluate(self.walk.feed)


def localise(
    candidate: onnx.ModelProto, plain: onnx.ModelProto, feeds: Iterable[Feed], *, seed: int = 0
) -> Located | None:
    """Name the first layer of a file that computes something else than its source.

    Args:
        candidate: the file, external data loaded.
        plain: the unfolded graph of its source.
        feeds: inputs to compare on, tried in order until one shows a divergence.
        seed: of the roundings.

    Returns:
        The departure; None if the file computes in float64 what the graph of the source does.

    Raises:
        InputRefused: a graph has an operator without a float64 meaning, or the source cannot be folded.
    """
    candidate, plain = inlined(candidate), inlined(plain)
    u = unit_roundoff(coarsest_format(candidate))
    file, tried = Nodes(candidate), list(feeds)
    layers = Layers(plain)
    found: list[_Found] = []
    for name, other in ((FOLDED_AGAIN, _folded(plain)), (SOURCE, plain)):
        found += _first_departure(name, other, file, tried, u=u, seed=seed)
        if found and found[0].n_suspected == 1 and not found[0].is_hidden:
            break  # nothing explains a failure by less
    if not found:
        return None
    best = min(found, key=lambda one: (one.is_hidden, one.n_suspected))
    departure = layers.departure(best.suspects[0], best.walk, compared_with=best.name)
    return Located(departure, best.suspects[0], best.walk, layers, candidate, best.other, plain)


@dataclass(frozen=True)
class _Found:
    """What one comparison found: its first suspect, and those behind it; `is_hidden` where no output shows it."""

    name: str
    other: onnx.ModelProto
    walk: Walk
    suspects: Sequence[Suspect]
    is_hidden: bool = False

    @property
    def n_suspected(self) -> int:
        return len({node.output[0] for suspect in self.suspects for node in suspect.region})


def _first_departure(
    name: str, other: onnx.ModelProto, file: Nodes, feeds: Sequence[Feed], *, u: float, seed: int
) -> list[_Found]:
    """The departure on the first feed that shows one; none, or one."""
    nodes, walk = Nodes(other), None
    for feed in feeds:
        walk = Walk(file, nodes, feed.arrays, u=u, seed=seed)
        suspects = walk.suspects()
        if suspects:
            return [_Found(name, other, walk, suspects)]
    if walk is not None and name == FOLDED_AGAIN and (suspects := walk.hidden()):
        return [_Found(name, other, walk, suspects, is_hidden=True)]
    return []


def _folded(plain: onnx.ModelProto) -> onnx.ModelProto:
    model = ir.from_proto(plain)
    fold_model(model)
    return ir.to_proto(model)
