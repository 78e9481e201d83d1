"""The fold as a pass of `onnx_ir`: stage after stage on one model in place, and the sums that must come out."""

from __future__ import annotations

import dataclasses

import onnx_ir as ir
import onnx_ir.passes.common as passes

from bnfold.errors import InputRefused
from bnfold.folding.apply import apply_choice, plan_parameters
from bnfold.folding.blocked_scales import scales_as_convolutions
from bnfold.folding.blocks import CHANNEL_BLOCK
from bnfold.folding.choose import choose
from bnfold.folding.compose import compose_batchnorms, restore_digits
from bnfold.folding.found import Found, find_batchnorms
from bnfold.folding.ledger import Fate, account
from bnfold.folding.merge import merge_branches
from bnfold.folding.preprocessing import fold_preprocessing
from bnfold.folding.provenance import Digits, begin, certify
from bnfold.folding.prune import remove_dead_channels
from bnfold.folding.ranges import beyond_range
from bnfold.folding.relate import part_of, relate_graph
from bnfold.folding.relations.affine import batchnorm_parameters
from bnfold.folding.shifted_relu import move_behind_relu
from bnfold.folding.takers import Takers
from bnfold.folding.units import Deviations
from bnfold.graph import operators as op
from bnfold.graph.attempts import Failure
from bnfold.graph.canonical import canonicalise
from bnfold.graph.constants import round_constants, unrounded
from bnfold.graph.edit import drop_unused_initializers
from bnfold.graph.inlined import inline_functions
from bnfold.graph.kernels import fused_kernels
from bnfold.graph.operators import kind_of
from bnfold.graph.subgraphs import subgraphs
from bnfold.records import Ledger, MergedBranches, RemovedChannels
from bnfold.records.causes import Stays

__all__ = ["FoldOptions", "FoldPass"]

_KEPT = Fate("kept")


@dataclasses.dataclass(frozen=True)
class FoldOptions:
    """What a fold does besides choosing units: the keyword arguments of `bnfold.folding.fold_model`."""

    move_behind_relus: bool = False
    merge_branches: bool = True
    remove_channels: bool = True
    rounded: bool = True
    certified: bool = True
    channel_block: int = CHANNEL_BLOCK
    pixels: str | None = None
    ones_limit: int | None = None


class FoldPass(ir.passes.InPlacePass):
    """Folds the BatchNorms of a model.

    Before (`requires`): nodes stand behind those that they read. After (`ensures`): inputs and outputs have their
    names; every BatchNorm that was there is in the ledger once, with an end and, if it was kept, a cause; no more are
    left than were kept.

    Attributes:
        ledger: the account of the model that the pass was last called on.
    """

    def __init__(self, options: FoldOptions | None = None) -> None:
        self.options = options or FoldOptions()
        self.ledger = Ledger(())
        self._n_found = 0
        self._interface: tuple[list[str | None], list[str | None]] = ([], [])

    def requires(self, model: ir.Model) -> None:
        """Nodes are in topological order, in every graph."""
        for graph in model.graphs():
            seen: set[ir.Node] = set()
            for node in graph:
                early = [x for x in node.inputs if x is not None and _is_unwritten(x, graph, seen)]
                if early:
                    raise ir.passes.PreconditionError(
                        f"nodes must be in topological order, got {node.op_type} {node.name} in front of the node that "
                        f"writes {early[0].name}; do graph.sort() first"
                    )
                seen.add(node)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold.

        Raises:
            InputRefused: a BatchNorm has a negative or non-finite variance, or a weight leaves the range of its type.
        """
        self._interface = _interface(model)
        inline_functions(model)
        composed = compose_batchnorms(model)
        self._n_found = _count_batchnorms(model)
        found = find_batchnorms(model)
        canonicalise(model)
        restore_digits(composed)
        begin(model)
        pixels = self.options.pixels
        preprocessing = None if pixels is None else fold_preprocessing(model, pixels, self.options.ones_limit)
        ledger = _Fold(model, found, self.options).run()
        self.ledger = dataclasses.replace(ledger, preprocessing=preprocessing)
        return ir.passes.PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        """The sums come out."""
        ledger, n_left = self.ledger, _count_batchnorms(model)
        n_ended = ledger.absorbed + ledger.merged + ledger.removed + ledger.kept
        unexplained = [entry.name for entry in ledger.entries if entry.outcome == "kept" and not entry.cause]
        wrong = ""
        if ledger.found != self._n_found or n_ended != self._n_found:
            wrong = f"the graph had {self._n_found} BatchNorms, the ledger has {ledger.found}, {n_ended} with an end"
        elif unexplained:
            wrong = f"kept without a cause: {', '.join(unexplained)}"
        elif n_left > ledger.kept:
            wrong = f"{n_left} BatchNorms are left, the ledger kept {ledger.kept}"
        elif _interface(model) != self._interface:
            wrong = f"inputs and outputs must be {self._interface}, got {_interface(model)}"
        if wrong:
            raise ir.passes.PostconditionError(wrong)


def _is_unwritten(value: ir.Value, graph: ir.Graph, seen: set[ir.Node]) -> bool:
    node = value.producer()
    return node is not None and node.graph is graph and node not in seen


def _interface(model: ir.Model) -> tuple[list[str | None], list[str | None]]:
    return [value.name for value in model.graph.inputs], [value.name for value in model.graph.outputs]


def _count_batchnorms(model: ir.Model) -> int:
    """How many BatchNormalization nodes (ai.onnx) a model without functions has, subgraphs included."""
    return sum(kind_of(node) == op.BatchNormalization for node in model.graph.all_nodes())


class _Fold:
    """One fold: the model in canonical form, and what its stages know of each other."""

    def __init__(self, model: ir.Model, found: tuple[Found, ...], options: FoldOptions) -> None:
        self.model, self.found, self.options = model, found, options
        self.graphs = [*subgraphs(model.graph), model.graph]
        self.facts = {item.node: batchnorm_parameters(item.node) for item in found}
        self.removed: dict[ir.Node, RemovedChannels] = {}
        self.merged: list[MergedBranches] = []
        self.deviations: Deviations = {}
        self.blocked: set[ir.Node] = set()

    def run(self) -> Ledger:
        fates = self._settle()
        if self.options.move_behind_relus:
            moved = move_behind_relu(item.node for item in self.found if fates.get(item.node, _KEPT).outcome == "kept")
            fates |= self._fold_once() if moved else {}
        # Branches that had BatchNorms in front of them have one source now.
        fates |= self._merge()
        for graph in self.graphs:
            scales_as_convolutions(graph, self.blocked)
        ledger = account(self.found, self.facts, fates)
        digits, beyond = self._round()
        passes.RemoveUnusedNodesPass()(self.model)
        for graph in self.graphs:
            drop_unused_initializers(graph)
        passes.NameFixPass()(self.model)
        return dataclasses.replace(
            ledger,
            beyond_float16=beyond,
            removed_channels=tuple(self.removed.values()),
            merged_branches=tuple(reversed(self.merged)),  # sums are looked at from the last to the first
            certificate=certify(self.model, digits) if self.options.certified else None,
        )

    def _round(self) -> tuple[Digits, tuple[str, ...]]:
        """Remove the last dead channels and round, graph by graph; the digits before, and what float16 cannot hold."""
        digits: Digits = {}
        beyond: list[str] = []
        try:
            for graph in self.graphs:
                self._prune(graph)
                digits |= unrounded(graph) if self.options.certified else {}
                beyond += round_constants(graph) if self.options.rounded else ()
        except OverflowError as error:
            raise InputRefused(
                f"a folded weight does not fit: {error}", remedy="convert the model to float32 before folding"
            ) from error
        return digits, tuple(beyond)

    def _settle(self) -> dict[ir.Node, Fate]:
        """Fold until nothing more goes: what vanishes may leave linear branches, or a dead channel, not seen before."""
        fates: dict[ir.Node, Fate] = {}
        settled = False
        while not settled:
            news = self._fold_once()
            n_dead = sum(self._prune(graph) for graph in self.graphs)
            kept = any(news[item.node].outcome == "kept" for item in self.found if item.node in news)
            settled = not kept or (not n_dead and all(fate.outcome == "kept" for fate in news.values()))
            fates |= news
        return fates

    def _fold_once(self) -> dict[ir.Node, Fate]:
        fates = self._merge()
        for graph in self.graphs:
            fates |= self._choose_units(graph)
        return fates

    def _prune(self, graph: ir.Graph) -> int:
        """Remove the dead channels of a graph, if that is wanted; returns how many parameters changed."""
        if not self.options.remove_channels:
            return 0
        opset = self.model.opset_imports.get("", 20)
        return remove_dead_channels(graph, opset, self.options.channel_block, self.removed, self.deviations)

    def _merge(self) -> dict[ir.Node, Fate]:
        """Merge branches, if that is wanted, and drop what they were made of: it must not tie any units."""
        fates = {
            node: Fate("merged", (layer,))
            for graph in self.graphs if self.options.merge_branches
            for node, layer in merge_branches(graph, self.blocked, self.merged).items()
        }  # fmt: skip
        passes.RemoveUnusedNodesPass()(self.model)
        return fates

    def _choose_units(self, graph: ir.Graph) -> dict[ir.Node, Fate]:
        """Fold one graph, not those inside it: what they capture keeps its units, as does what it captures itself."""
        failures: dict[ir.Node, Failure] = {}
        kernels = list(fused_kernels(graph))
        whole = {node: kernel.name for kernel in kernels for node in kernel.whole}
        stay: dict[ir.Node, Stays] = {node: part_of(kernel.name) for kernel in kernels for node in kernel.affine}
        units = relate_graph(graph, None, whole, self.deviations)
        while True:
            choice = choose(units, stay)
            plan, failed = plan_parameters(graph, choice)
            if failed:
                failures |= failed
                units = relate_graph(graph, failures, whole, self.deviations)
                continue
            takers = Takers(plan, choice.gauge)
            beyond = beyond_range(choice, plan, takers)
            if not beyond:
                break
            stay |= beyond
        refused = {node: why for node, why in units.refused.items() if kind_of(node) == op.BatchNormalization}
        fates = {node: Fate("kept", stays=why) for node, why in refused.items()}
        fates |= {site.node: Fate("absorbed", takers.names(site)) for site in choice.vanished}
        fates |= {site.node: Fate("kept", stays=stays) for site, stays in choice.refused}
        apply_choice(graph, choice, plan)
        return fates
