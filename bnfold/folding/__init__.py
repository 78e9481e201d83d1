"""The fold core: BatchNorms vanish into the weights around them.

`fold_model` works in place on an `onnx_ir` model, `fold` on an `onnx.ModelProto`. Stages: BatchNorms in parts put
together, canonical form (constants computed), linear branches merged, relations between the units of all tensors,
choice of units, new parameters, ledger, dead channels.
"""

from __future__ import annotations

import dataclasses

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from bnfold.errors import InputRefused
from bnfold.folding.apply import apply_choice, plan_parameters
from bnfold.folding.blocks import CHANNEL_BLOCK
from bnfold.folding.choose import choose
from bnfold.folding.compose import compose_batchnorms, restore_digits
from bnfold.folding.ledger import Fate, Found, Takers, account, find_batchnorms
from bnfold.folding.merge import merge_branches, scales_as_convolutions
from bnfold.folding.preprocessing import fold_preprocessing
from bnfold.folding.provenance import Digits, begin, certify
from bnfold.folding.prune import remove_dead_channels
from bnfold.folding.ranges import beyond_range
from bnfold.folding.relate import part_of, relate_graph
from bnfold.folding.relations.affine import batchnorm_parameters
from bnfold.folding.shifted_relu import move_behind_relu
from bnfold.graph import operators as op
from bnfold.graph.attempts import Failure
from bnfold.graph.canonical import canonicalise
from bnfold.graph.claims import settle_claims
from bnfold.graph.constants import round_constants, unrounded
from bnfold.graph.edit import drop_unused_initializers
from bnfold.graph.kernels import fused_kernels
from bnfold.graph.operators import kind_of
from bnfold.graph.reading import read_model
from bnfold.graph.subgraphs import subgraphs
from bnfold.records import Ledger, RemovedChannels
from bnfold.records.causes import Stays

__all__ = ["CHANNEL_BLOCK", "fold", "fold_model"]

_KEPT = Fate("kept")


def fold(onnx_model: onnx.ModelProto, *, channel_block: int = CHANNEL_BLOCK) -> tuple[onnx.ModelProto, Ledger]:
    """Fold the BatchNorms of a model and return the new model with the ledger; the argument stays as it is.

    `channel_block`: see `fold_model`.

    Raises:
        InputRefused: the argument is no `onnx.ModelProto` or cannot be read, a BatchNorm has a negative or non-finite
            variance, or a weight leaves the range of its type.
    """
    if not isinstance(onnx_model, onnx.ModelProto):
        raise InputRefused(
            "fold takes a model in memory", found=type(onnx_model).__name__, expected="an onnx.ModelProto",
            remedy="read the file with onnx.load, or give its path to fold_export",
        )  # fmt: skip
    model = read_model(onnx_model)
    settle_claims(model)
    ledger = fold_model(model, channel_block=channel_block)
    return ir.to_proto(model), ledger


def fold_model(
    model: ir.Model,
    *,
    move_behind_relus: bool = False,
    merge_branches: bool = True,
    remove_channels: bool = True,
    rounded: bool = True,
    certified: bool = True,
    channel_block: int = CHANNEL_BLOCK,
    pixels: str | None = None,
) -> Ledger:
    """Fold the BatchNorms of a model in place; inputs, outputs and their names stay.

    Args:
        model: the model to fold.
        move_behind_relus: whether a BatchNorm that could not vanish in front of a ReLU goes behind it, which makes the
            ReLU a Max with a constant; whether that is faster depends on the runtime.
        merge_branches: whether sums of convolutions of one tensor become one convolution.
        remove_channels: whether channels that are constant leave.
        rounded: whether new parameters are rounded to their type at the end; else they keep their float64 digits, and
            the ledger does not say which are beyond float16.
        certified: whether the ledger has a certificate. It holds the source's weights in memory, of which it computes
            the digits that are rounded off.
        channel_block: dead channels leave in such blocks, see `bnfold.folding.blocks`: a property of the target, so
            that the same source gives the same file on whatever machine.
        pixels: an input of pixels whose preprocessing is to go into the convolutions behind it, see
            `bnfold.folding.preprocessing`.

    Raises:
        InputRefused: a BatchNorm has a negative or non-finite variance, or a weight leaves the range of its type.
    """
    if model.functions:
        passes.InlinePass()(model)
    compose_batchnorms(model)
    found = find_batchnorms(model)
    canonicalise(model)
    restore_digits(item.node for item in found)
    begin(model)
    preprocessing = None if pixels is None else fold_preprocessing(model, pixels)
    facts = {item.node: batchnorm_parameters(item.node) for item in found}
    graphs = [*subgraphs(model.graph), model.graph]
    pruning = _Pruning(model.opset_imports.get("", 20), channel_block, enabled=remove_channels)
    fates = _settle(model, graphs, found, pruning, merge=merge_branches)
    if move_behind_relus:
        moved = move_behind_relu(item.node for item in found if fates.get(item.node, _KEPT).outcome == "kept")
        fates |= _fold_once(model, graphs, merge=merge_branches) if moved else {}
    # Branches that had BatchNorms in front of them have one source now.
    fates |= _merge(model, graphs, merge=merge_branches)
    for graph in graphs:
        scales_as_convolutions(graph)
    ledger = account(found, facts, fates)
    beyond: list[str] = []
    digits: Digits = {}
    try:
        for graph in graphs:
            pruning.apply(graph)
            digits |= unrounded(graph) if certified else {}
            beyond += round_constants(graph) if rounded else ()
    except OverflowError as error:
        raise InputRefused(
            f"a folded weight does not fit: {error}", remedy="convert the model to float32 before folding"
        ) from error
    passes.RemoveUnusedNodesPass()(model)
    for graph in graphs:
        drop_unused_initializers(graph)
    passes.NameFixPass()(model)
    certificate = certify(model, digits) if certified else None
    return dataclasses.replace(
        ledger,
        beyond_float16=tuple(beyond),
        removed_channels=tuple(pruning.removed.values()),
        certificate=certificate,
        preprocessing=preprocessing,
    )


@dataclasses.dataclass
class _Pruning:
    """The removal of dead channels, if it is wanted, and what it removed so far, by operator."""

    opset: int
    block: int
    enabled: bool
    removed: dict[ir.Node, RemovedChannels] = dataclasses.field(default_factory=dict)

    def apply(self, graph: ir.Graph) -> int:
        """Remove the dead channels of a graph, in place; returns how many parameters changed."""
        return remove_dead_channels(graph, self.opset, self.block, self.removed) if self.enabled else 0


def _settle(
    model: ir.Model, graphs: list[ir.Graph], found: tuple[Found, ...], pruning: _Pruning, *, merge: bool
) -> dict[ir.Node, Fate]:
    """Fold until nothing more goes: what vanishes may leave linear branches, or a dead channel, not seen before."""
    fates: dict[ir.Node, Fate] = {}
    settled = False
    while not settled:
        news = _fold_once(model, graphs, merge=merge)
        n_dead = sum(pruning.apply(graph) for graph in graphs)
        kept = any(news[item.node].outcome == "kept" for item in found if item.node in news)
        settled = not kept or (not n_dead and all(fate.outcome == "kept" for fate in news.values()))
        fates |= news
    return fates


def _fold_once(model: ir.Model, graphs: list[ir.Graph], *, merge: bool) -> dict[ir.Node, Fate]:
    fates = _merge(model, graphs, merge=merge)
    for graph in graphs:
        fates |= _choose_units(graph)
    return fates


def _merge(model: ir.Model, graphs: list[ir.Graph], *, merge: bool) -> dict[ir.Node, Fate]:
    """Merge branches, if that is wanted, and drop what they were made of: it must not tie any units."""
    fates = {
        node: Fate("merged", (layer,))
        for graph in graphs if merge
        for node, layer in merge_branches(graph).items()
    }  # fmt: skip
    passes.RemoveUnusedNodesPass()(model)
    return fates


def _choose_units(graph: ir.Graph) -> dict[ir.Node, Fate]:
    """Fold one graph, not those inside it: what they capture keeps its units, as does what it captures itself."""
    failures: dict[ir.Node, Failure] = {}
    kernels = list(fused_kernels(graph))
    whole = {node: kernel.name for kernel in kernels for node in kernel.whole}
    stay: dict[ir.Node, Stays] = {node: part_of(kernel.name) for kernel in kernels for node in kernel.affine}
    units = relate_graph(graph, whole=whole)
    while True:
        choice = choose(units, stay)
        plan, failed = plan_parameters(graph, choice)
        if failed:
            failures |= failed
            units = relate_graph(graph, failures, whole)
            continue
        takers = Takers(plan, choice.gauge)
        beyond = beyond_range(choice, plan, takers)
        if not beyond:
            break
        stay |= beyond
    fates = {
        node: Fate("kept", stays=why) for node, why in units.refused.items() if kind_of(node) == op.BatchNormalization
    }
    fates |= {site.node: Fate("absorbed", takers.names(site)) for site in choice.vanished}
    fates |= {site.node: Fate("kept", stays=stays) for site, stays in choice.refused}
    apply_choice(graph, choice, plan)
    return fates
