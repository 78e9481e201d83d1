"""The proof: every value of the file, in graph order, is what its counterpart in the source says.

A value is proven from proven ones, by the smallest region that computes it and its counterpart; operators that are the
same, on values that are the same, need no numbers. Outputs are in the units of the source, and whole: so the file
computes what the source does. Translation validation (Pnueli, Siegel and Singerman 1998; Necula 2000).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, numpy_helper

from bnfold.errors import InputRefused
from bnfold.records.certificate import Certificate, Counterpart
from bnfold.verification.certificate.graph import Graph
from bnfold.verification.certificate.judge import Outcome
from bnfold.verification.certificate.nodes import bodies_of, holds_graph
from bnfold.verification.certificate.parameters import MAX_ULPS, Parameters
from bnfold.verification.certificate.proof import Failed, Options, Proof
from bnfold.verification.certificate.regions import LARGE_REGION, Proven, Region, cuts
from bnfold.verification.certificate.same import Same
from bnfold.verification.certificate.sizes import BATCH, default_sizes, sized
from bnfold.verification.certificate.trial import Found, Trial

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["prove"]

_EMPTY = Certificate({}, {})
_DEEPEST = 12  # how many operators back constants are looked for


def prove(
    file: onnx.ModelProto,
    source: onnx.ModelProto,
    certificate: Certificate | None = None,
    *,
    sizes: Mapping[str, Sequence[int | None]] | None = None,
    seed: int = 0,
    max_ulps: float = MAX_ULPS,
    whole: bool = True,
) -> Proof:
    """Prove that a file computes what its source does.

    Args:
        file: as written, external data loaded.
        source: as read, the same.
        certificate: what the fold says; None leaves the names of values.
        sizes: shapes of the inputs at which operators are compared that depend on them; None inside takes some.
        seed: of the random numbers.
        max_ulps: how far parameters may lie from their digits.
        whole: whether the first failure ends it; else the value is taken for right, and failures are counted.

    Raises:
        InputRefused: a graph cannot be read.
    """
    source = onnx.inliner.inline_local_functions(source) if source.functions else source
    file = onnx.inliner.inline_local_functions(file) if file.functions else file
    certificate = certificate or _EMPTY
    options = Options(seed, max_ulps, whole)
    proofs: list[Proof] = []
    changed = _changed_default(file, source)
    if changed is not None:
        failed = Failed(changed, changed, None, Outcome(np.inf), f"the default of input {changed} is another one")
        return Proof(n_failed=1, failed=failed)
    for take in (False, True) if _branches(source) else (False,):
        for batch in (BATCH, 1):
            asked = default_sizes(source, sizes, batch)
            proof = Proof()
            ours, theirs = (_graph(model, asked, take_branches=take) for model in (file, source))
            _Prover(ours, theirs, certificate, "", proof=proof, options=options).run()
            proofs.append(proof)
            if proof.failed is None or np.isfinite(proof.failed.outcome.error):
                return proof
            if asked == default_sizes(source, sizes, 1):  # else a network whose batch is open may yet be but one
                break
    return proofs[0]


def _branches(model: onnx.ModelProto) -> bool:
    """Whether a graph of the model, or one inside it, holds an `If`."""

    def inside(nodes: Iterable[onnx.NodeProto]) -> bool:
        return any(node.op_type == "If" or any(inside(body.node) for _, body in bodies_of(node)) for node in nodes)

    return inside(model.graph.node)


def _changed_default(file: onnx.ModelProto, source: onnx.ModelProto) -> str | None:
    """The first input whose default value differs."""
    defaults = [
        {
            t.name: numpy_helper.to_array(t)
            for t in model.graph.initializer
            if t.name in {v.name for v in model.graph.input}
        }
        for model in (file, source)
    ]
    both = defaults[0].keys() & defaults[1].keys()
    return next((name for name in sorted(both) if not np.array_equal(defaults[0][name], defaults[1][name])), None)


def _graph(model: onnx.ModelProto, sizes: Mapping[str, Sequence[int]], *, take_branches: bool) -> Graph:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    inputs = [value.name for value in model.graph.input]
    return Graph(sized(model, sizes).graph, tensors, opsets, inputs, take_branches=take_branches)


class _Prover:
    """Proves one graph of the file, and the bodies that its nodes hold."""

    def __init__(
        self,
        file: Graph,
        source: Graph,
        certificate: Certificate,
        place: str,
        *,
        proof: Proof,
        options: Options,
        outer: _Prover | None = None,
    ) -> None:
        self.file, self.source, self.certificate, self.place = file, source, certificate, place
        self.proof, self.options, self.outer = proof, options, outer
        self._proven: dict[str, list[Proven]] = {}
        self._bodies: dict[tuple[int, int], bool] = {}
        self._constants: set[str] = set()  # values whose constants have been looked for
        exact = certificate.parameters.get(place, {})
        for taken in dict.fromkeys(file.taken.values()):
            exact = {**exact, **certificate.parameters.get(self._place(taken), {})}
        self._parameters = Parameters(exact, frozenset(file.tensors), self._unchanged, options.max_ulps)
        self._same = Same(file, source, self.proven)
        self._trial = Trial(file, source, self._parameters_of, options.seed)

    def _parameters_of(self, name: str) -> Parameters | None:
        prover: _Prover | None = self
        while prover is not None and name not in prover.file.tensors:
            prover = prover.outer
        return None if prover is None else prover._parameters

    def _unchanged(self, name: str) -> np.ndarray | None:
        """What the source stores by the name of a parameter that the fold did not compute; float64 is never rounded."""
        type_ = self.file.type(name)
        same = self.source.is_stored(name) and self.source.type(name) == type_ != TensorProto.DOUBLE
        return self.source.stored(name) if same and self.place in self.certificate.parameters else None

    def run(self) -> bool:
        """Prove everything, once; False where something failed, which `proof` holds."""
        try:
            return self._run()
        finally:  # what asks a prover holds it, and it holds what asks: let go of the graphs at once
            del self._parameters, self._same, self._trial

    def _run(self) -> bool:
        self._pair_inputs()
        outputs = dict(zip(self.file.outputs, self.source.outputs, strict=False))
        for k, node in enumerate(self.file.nodes):
            for name in node.output:
                if not name or self.file.is_known(name):
                    continue
                own = self._claimed(name)
                if name in outputs and not any(c.is_whole and c.source == outputs[name] for c in own):
                    own.append(Counterpart(outputs[name]))
                known = [c for c in own if c.source in self.source.writers]
                for counterpart in sorted(known, key=lambda c: self.source.writers[c.source]):
                    if not self._prove(k, name, counterpart, needed=name in outputs):
                        if self.options.whole:
                            return False
                        self._proven.setdefault(self.file.alias(name), []).append(
                            Proven(counterpart, self.source.alias(counterpart.source))
                        )
        self.proof.max_ulps = max(self.proof.max_ulps, self._parameters.max_ulps)
        if self._parameters.max_ulps > self.options.max_ulps:
            worst = self._parameters.worst
            reason = f"parameter {worst} is {self._parameters.max_ulps:.3g} units in the last place off its digits"
            self._fail(worst, worst, None, Outcome(np.inf, reason), reason)
            self.proof.n_failed -= 1  # the operator that reads it has been counted
            return False
        return self._outputs(outputs)

    def _place(self, taken: str) -> str:
        """The place of a branch that was taken, in this graph's."""
        return f"{self.place}/{taken}" if self.place else taken

    def _claimed(self, name: str) -> list[Counterpart]:
        """What the certificate says of a value, else that it is the one of its name."""
        place = self._place(self.file.taken[name]) if name in self.file.taken else self.place
        claims = self.certificate.values.get(place)
        return [Counterpart(name)] if claims is None else list(claims.get(name, ()))

    def _pair_inputs(self) -> None:
        if self.outer is None:
            pairs = [(name, name) for name in self.file.inputs if name in self.source.inputs]
        else:
            pairs = list(zip(self.file.inputs, self.source.inputs, strict=False))
        for name, other in pairs:
            self._proven.setdefault(name, []).append(Proven(Counterpart(other), other))

    def proven(self, name: str) -> tuple[Proven, ...]:
        """What is proven of a value of this graph, or of one around it."""
        first = self.file.alias(name)
        found = tuple(self._proven.get(first, ()))
        if not found and self.outer is not None and first not in self.file.writers:
            return self.outer.proven(first)
        return found

    def _fail(
        self, value: str, counterpart: str, region: Region | None, outcome: Outcome, reason: str, *, known: bool = True
    ) -> bool:
        if self.proof.failed is None:
            self.proof.failed = Failed(value, counterpart, region, outcome, reason, known)
        self.proof.n_failed += 1
        self.proof.max_ulps = max(self.proof.max_ulps, self._parameters.max_ulps)
        return False

    def _outputs(self, outputs: Mapping[str, str]) -> bool:
        if len(self.file.outputs) != len(self.source.outputs):
            return self._fail("", "", None, Outcome(np.inf), "another number of outputs")
        for name, other in outputs.items():
            if self.file.is_known(name) or self.source.is_known(other):
                if self._same.known(name, other):
                    continue
            elif any(p.counterpart.is_whole and p.source == self.source.alias(other) for p in self.proven(name)):
                continue
            return self._fail(name, other, None, Outcome(np.inf), "no region proves this output", known=False)
        return True

    def _prove(self, k: int, name: str, counterpart: Counterpart, *, needed: bool) -> bool:
        """Prove one statement on a value of the file; one that cannot be stated is left to what lies behind it."""
        first, other = self.file.alias(name), self.source.alias(counterpart.source)
        if self.source.is_known(other):
            return True
        if any(p.source == other and p.counterpart.is_whole and counterpart.is_whole for p in self.proven(first)):
            return True
        self.proof.regions += 1
        if counterpart.is_whole and self._same.operator(k, name, other) and self._same_bodies(k, other):
            self._note(first, Proven(counterpart, other), 1)
            return True
        self.proof.n_compared += 1
        last: tuple[Region, Found | InputRefused] | None = None
        for region in cuts(self.file, self.source, first, other, self.proven):
            read = self._read(region)
            if read is None:
                continue
            asked = bool(counterpart.kept) or (
                counterpart.scale is not None and bool(np.isnan(counterpart.scale).any())
            )
            try:
                found = self._trial.run(region, counterpart, read, asked=asked)
                if found.outcome.failure is not None and found.outcome.fits:
                    read = {leaf: self._with_constants(leaf, read[leaf]) for leaf in read}
                    found = self._trial.run(region, counterpart, read, asked=asked)
            except InputRefused as refused:
                last = last or (region, refused)
                if not self._constrains(region):
                    break
                continue
            if found.outcome.failure is None and not found.unexcited:
                proven = Proven(counterpart, other, found.source_constant, found.file_constant)
                self.proof.largest_error = max(self.proof.largest_error, found.outcome.error)
                self._note(first, proven, len(region.source.operators), region)
                return True
            last = last or (region, found)
            if not self._constrains(region):
                break
        self.proof.regions -= 1
        return self._unproven(name, counterpart.source, last, needed=needed)

    def _unproven(
        self, name: str, counterpart: str, last: tuple[Region, Found | InputRefused] | None, *, needed: bool
    ) -> bool:
        if last is None:
            reason = "no region computes both"
            return not needed or self._fail(name, counterpart, None, Outcome(np.inf), reason, known=False)
        region, found = last
        if isinstance(found, InputRefused):
            return not needed or self._fail(name, counterpart, region, Outcome(np.inf), str(found), known=False)
        if not found.outcome.fits and not needed:
            return True  # another value of the same name
        if found.outcome.failure is None:
            self.proof.unexcited_channels += found.unexcited
            reason = f"{found.unexcited} channels were seen on one side of their activation only"
            return self._fail(name, counterpart, region, found.outcome, reason)
        return self._fail(name, counterpart, region, found.outcome, found.outcome.failure)

    def _note(self, name: str, proven: Proven, size: int, region: Region | None = None) -> None:
        self._proven.setdefault(name, []).append(proven)
        self.proof.certified += 1
        self.proof.largest_region = max(self.proof.largest_region, size)
        if size > LARGE_REGION and region is not None:
            self.proof.large_regions.append(tuple(node.output[0] for node in region.source.operators))

    def _read(self, region: Region) -> dict[str, tuple[Proven, ...]] | None:
        """The counterparts of what the file's operators read, those that the source's read first of all."""
        wanted = set(region.source.leaves)
        read = {}
        for leaf in region.file.leaves:
            every = self.proven(leaf)
            used = tuple(one for one in every if one.source in wanted)
            if not every:
                return None
            read[leaf] = used or every[:1]
        return read

    def _with_constants(self, leaf: str, read: tuple[Proven, ...], depth: int = _DEEPEST) -> tuple[Proven, ...]:
        """What is proven of a value, with the elements that always are one number, which its readers may rely on.

        They are found where they are computed, from those of what is read there.
        """
        first = self.file.alias(leaf)
        if first not in self.file.writers or first not in self._proven or not depth:
            return read
        if first not in self._constants:
            self._constants.add(first)
            self._proven[first] = [self._with_constants_of(first, one, depth) for one in self._proven[first]]
        wanted = {one.source for one in read}
        return tuple(one for one in self._proven[first] if one.source in wanted)

    def _with_constants_of(self, first: str, one: Proven, depth: int) -> Proven:
        def others(name: str) -> tuple[Proven, ...]:
            return () if self.file.alias(name) == first else self.proven(name)

        for region in cuts(self.file, self.source, first, one.source, others):
            read = self._read(region)
            if read is None:
                continue
            rich = {leaf: self._with_constants(leaf, own, depth - 1) for leaf, own in read.items()}
            try:
                found = self._trial.run(region, one.counterpart, rich, asked=True)
            except InputRefused:
                return one
            return dataclasses.replace(one, source_constant=found.source_constant, file_constant=found.file_constant)
        return one

    def _constrains(self, region: Region) -> bool:
        """Whether a value that is read obeys something that random numbers do not: rows of a Softmax sum to 1."""
        return any(self._sums_to_one(leaf, 4) for leaf in region.file.leaves)

    def _sums_to_one(self, name: str, depth: int) -> bool:
        if name not in self.file.writers or not depth:
            return False
        node = self.file.nodes[self.file.writers[name]]
        if node.op_type == "Softmax":
            return True
        carries = node.op_type in ("Cast", "Dropout", "Identity", "Reshape", "Transpose")
        return carries and self._sums_to_one(node.input[0], depth - 1)

    def _same_bodies(self, k: int, other: str) -> bool:
        """Prove the bodies of a node, once; one without any has none that differ."""
        if not holds_graph(self.file.nodes[k]):
            return True
        j = self.source.writers[other]
        if (k, j) not in self._bodies:
            name = self.file.nodes[k].output[0]
            others = dict(self.source.bodies(j))
            good = True
            for attribute, body in self.file.bodies(k):
                place = f"{self.place}/{name}.{attribute}" if self.place else f"{name}.{attribute}"
                good = good and attribute in others and self._inside(body, others[attribute], place).run()
            self._bodies[k, j] = good
        return self._bodies[k, j]

    def _inside(self, body: Graph, other: Graph, place: str) -> _Prover:
        return _Prover(body, other, self.certificate, place, proof=self.proof, options=self.options, outer=self)
