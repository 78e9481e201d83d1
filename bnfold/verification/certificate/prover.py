"""One graph of the file, proven value by value in graph order, and the bodies that its nodes hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from bnfold.errors import InputRefused
from bnfold.records.certificate import Counterpart
from bnfold.verification.certificate.judge import Outcome
from bnfold.verification.certificate.nodes import holds_graph
from bnfold.verification.certificate.parameters import Parameters
from bnfold.verification.certificate.proof import Failed, Options, Proof
from bnfold.verification.certificate.proven_values import ProvenValues, constrains
from bnfold.verification.certificate.regions import LARGE_REGION, Proven, Region, cuts
from bnfold.verification.certificate.same import Same
from bnfold.verification.certificate.trial import Found, Trial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.records.certificate import Certificate
    from bnfold.verification.certificate.graph import Graph

__all__ = ["Prover"]


class Prover:
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
        outer: Prover | None = None,
    ) -> None:
        self.file, self.source, self.certificate, self.place = file, source, certificate, place
        self.proof, self.options, self.outer = proof, options, outer
        self._values: ProvenValues = ProvenValues(file, source, None if outer is None else outer._values)
        self._bodies: dict[tuple[int, int], bool] = {}
        exact = certificate.parameters.get(place, {})
        for taken in dict.fromkeys(file.taken.values()):
            exact = {**exact, **certificate.parameters.get(self._place(taken), {})}
        self._parameters = Parameters(exact, frozenset(file.tensors), self._unchanged, options.max_ulps)
        self._same = Same(file, source, self._values.of)
        self._trial = Trial(file, source, self._parameters_of, options.seed)

    def _parameters_of(self, name: str) -> Parameters | None:
        prover: Prover | None = self
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
        self._values.pair_inputs()
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
                        self._values.add(
                            self.file.alias(name), Proven(counterpart, self.source.alias(counterpart.source))
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
            elif any(p.counterpart.is_whole and p.source == self.source.alias(other) for p in self._values.of(name)):
                continue
            return self._fail(name, other, None, Outcome(np.inf), "no region proves this output", known=False)
        return True

    def _prove(self, k: int, name: str, counterpart: Counterpart, *, needed: bool) -> bool:
        """Prove one statement on a value of the file; one that cannot be stated is left to what lies behind it."""
        first, other = self.file.alias(name), self.source.alias(counterpart.source)
        if self.source.is_known(other):
            return True
        if any(p.source == other and p.counterpart.is_whole and counterpart.is_whole for p in self._values.of(first)):
            return True
        self.proof.regions += 1
        if counterpart.is_whole and self._same.operator(k, name, other) and self._same_bodies(k, other):
            self._note(first, Proven(counterpart, other), 1)
            return True
        self.proof.n_compared += 1
        last: tuple[Region, Found | InputRefused] | None = None
        for region in cuts(self.file, self.source, first, other, self._values.of):
            read = self._values.read(region)
            if read is None:
                continue
            asked = bool(counterpart.kept) or (
                counterpart.scale is not None and bool(np.isnan(counterpart.scale).any())
            )
            try:
                found = self._trial.run(region, counterpart, read, asked=asked)
                if found.outcome.failure is not None and found.outcome.fits:
                    read = self._values.with_constants(read, self._trial)
                    found = self._trial.run(region, counterpart, read, asked=asked)
            except InputRefused as refused:
                last = last or (region, refused)
                if not constrains(self.file, region):
                    break
                continue
            if found.outcome.failure is None and not found.unexcited:
                proven = Proven(counterpart, other, found.source_constant, found.file_constant)
                self.proof.largest_error = max(self.proof.largest_error, found.outcome.error)
                self._note(first, proven, len(region.source.operators), region)
                return True
            last = last or (region, found)
            if not constrains(self.file, region):
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
        self._values.add(name, proven)
        self.proof.certified += 1
        self.proof.largest_region = max(self.proof.largest_region, size)
        if size > LARGE_REGION and region is not None:
            self.proof.large_regions.append(tuple(node.output[0] for node in region.source.operators))

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

    def _inside(self, body: Graph, other: Graph, place: str) -> Prover:
        return Prover(body, other, self.certificate, place, proof=self.proof, options=self.options, outer=self)
