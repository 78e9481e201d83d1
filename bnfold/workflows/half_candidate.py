"""A float16 file beside the float file that it was made from, judged as a GPU computes it."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import TYPE_CHECKING

from bnfold.records.quantisation import FloatOperators, LayerPrecision, QuantisationError
from bnfold.workflows.int8_candidate import SENTENCES, Candidate

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import onnx

    from bnfold.quantisation.half.convert import Half
    from bnfold.quantisation.prove import Proof
    from bnfold.records.recipes import PrecisionReason

__all__ = ["HalfCandidate"]

_OWN_SENTENCES: Mapping[PrecisionReason, str] = {
    **SENTENCES,
    "no_kernel": "ONNX does not define it in float16",
    "range": "its values or parameters would leave the range of float16",
}


@dataclasses.dataclass(frozen=True)
class HalfCandidate(Candidate):
    """A file in float16; `made` is a `Half`.

    A simulation in float32 that rounds what is stored (`bnfold.quantisation.half.simulate`) stands for the file where
    values are computed: this machine's CPU would hide overflow.
    """

    made: Half  # type: ignore[assignment]
    is_half = True

    @cached_property
    def _simulated(self) -> onnx.ModelProto:
        from bnfold.quantisation.half.simulate import simulated

        return simulated(self.made.model)

    @property
    def judged(self) -> Path:
        """The simulation, as a file beside the float one."""
        from bnfold.export import save

        path = self.float_file.with_name("simulated.onnx")
        if not path.exists():
            save(self._simulated, path)
        return path

    def prove(self) -> Proof:
        """The three checks of `bnfold.quantisation.half.prove`, on every sample that was held out."""
        from bnfold.quantisation.half.prove import prove_half
        from bnfold.quantisation.samples import batches

        feeds = batches(self.samples.held_out, self.specs, 1)
        return prove_half(self.file, self.made.source, self.made.recipe, feeds, threads=self.threads)

    def float_operators(self, unknown: Collection[str]) -> tuple[FloatOperators, ...]:
        """None: `layers` has them all."""
        del unknown
        return ()

    def layers(self) -> tuple[LayerPrecision, ...]:
        """Every Conv, Gemm, MatMul and Add, with what it lost, and every other operator that stays in float32."""
        from bnfold.quantisation.half.errors import half_layer_sqnr
        from bnfold.quantisation.operators import LAYERS
        from bnfold.quantisation.quantise import layer_of_node

        reference, reasons = self.made.reference, self.made.recipe.reasons
        nodes = [node for node in reference.graph.node if node.op_type in LAYERS or node.name in reasons]
        layers = [node for node in nodes if node.op_type in LAYERS]
        written = [node.output[0] for node in layers]
        sqnr = half_layer_sqnr(self.made.model, reference, written, self._few(), threads=self.threads)
        names = [layer_of_node(node.name) for node in nodes]
        return tuple(
            LayerPrecision(
                name=name if names.count(name) == 1 else node.name,
                op=node.op_type,
                precision="float32" if node.name in reasons else "fp16",
                reason=reasons.get(node.name),
                sqnr_db=sqnr.get(node.output[0]),
                bias_corrected=False,
                sentence=_OWN_SENTENCES[reasons[node.name]] if node.name in reasons else None,
            )
            for node, name in zip(nodes, names, strict=True)
        )

    def error(self, simulation_steps: int) -> QuantisationError:
        """What the outputs lose on all samples that were held out."""
        from bnfold.quantisation.measure_error import output_errors, share_outside

        held_out = self.samples.held_out
        outputs = output_errors(
            self._simulated.SerializeToString(deterministic=True), self.float_file, held_out, self.specs,
            optimized=False, threads=self.threads,
        )  # fmt: skip
        ranges = {name: (-peak, peak) for name, peak in self.made.recipe.peaks.items() if name in held_out}
        return QuantisationError(
            outputs=outputs, simulation_steps=simulation_steps, held_out=True, n=self.samples.n_held_out,
            outside_range=share_outside(held_out, ranges),
        )  # fmt: skip
