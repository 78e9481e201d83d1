"""An int8 file beside the float file that it was made from: proof, error, accuracy, time."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, ClassVar

from bnfold.errors import InputRefused
from bnfold.graph.operators import kind_of
from bnfold.records.quantisation import (
    FloatOperators,
    LayerPrecision,
    PairedAccuracy,
    QuantisationError,
    QuantizedTiming,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from bnfold.quantisation.prove import Proof
    from bnfold.quantisation.quantise import Quantised
    from bnfold.quantisation.samples import Samples
    from bnfold.records import InputSpec
    from bnfold.records.recipes import PrecisionReason
    from bnfold.runtime import Provider

__all__ = ["SENTENCES", "Candidate", "LayerTimes", "timed_shapes", "with_times"]

LayerTimes = tuple[Mapping[str, float], Mapping[str, float]]
"""Milliseconds by layer, of the file and of the float file."""
N_SIMULATED = 4  # samples of the proof and of the layers' errors

SENTENCES: Mapping[PrecisionReason, str] = {
    "asked": "asked for with --keep-float",
    "no_kernel": "ONNX Runtime has no integer kernel for it",
    "no_simulation": "its integer kernel is not simulated, so that nothing would prove it",
    "not_constant": "its weight or bias is computed",
    "dtype": "it is not float32",
    "graph_output": "it writes an output, and outputs are not rounded to 8 bits",
    "float_neighbours": "what it reads is float anyway",
    "accumulator": "its sums could leave 32 bits",
    "cost": "int8 is slower there",
    "error": "int8 costs more accuracy there than its time is worth",
    "plan": "the plan says so",
    "range": "its values leave the range of the precision",
}

log = logging.getLogger("bnfold.workflows")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A file that was made, and what it is judged by.

    Attributes:
        file: the int8 one.
        float_file: the folded one.
        made: what the int8 file was made with.
        samples: of which a part was held out.
        specs: the inputs of both files.
        threads: of one operator of ONNX Runtime.
        provider: that times are measured on.
    """

    file: Path
    float_file: Path
    made: Quantised
    samples: Samples
    specs: Sequence[InputSpec]
    threads: int | None
    provider: Provider = "cpu"

    is_half: ClassVar[bool] = False

    @property
    def judged(self) -> Path:
        """The file whose accuracy is measured."""
        return self.file

    def _few(self) -> list[dict[str, np.ndarray]]:
        from bnfold.quantisation.samples import batches

        few = {name: array[:N_SIMULATED] for name, array in self.samples.held_out.items()}
        return list(batches(few, self.specs, 1))

    def prove(self) -> Proof:
        """The three checks of `bnfold.quantisation.prove`."""
        from bnfold.quantisation.prove import prove

        own = self.made
        return prove(self.file, own.source, own.recipe, self._few(), digits=own.digits, threads=self.threads)

    def layers(self) -> tuple[LayerPrecision, ...]:
        """Every Conv, Gemm, MatMul and Add, with what it lost."""
        from bnfold.quantisation.measure_error import layer_sqnr
        from bnfold.quantisation.operators import LAYERS
        from bnfold.quantisation.quantise import layer_of_node

        recipe, reference = self.made.recipe, self.made.reference
        plans = {plan.name: plan for plan in recipe.nodes}
        nodes = [node for node in reference.graph.node if node.op_type in LAYERS]
        writes = {node.name: plans[node.name].output if node.name in plans else node.output[0] for node in nodes}
        sqnr = layer_sqnr(self.made.model, reference, writes.values(), self._few())
        names = [layer_of_node(node.name) for node in nodes]
        found = []
        for node, name in zip(nodes, names, strict=True):
            reason = None if node.name in plans else recipe.reasons.get(node.name)
            found.append(
                LayerPrecision(
                    name=name if names.count(name) == 1 else node.name,
                    op=node.op_type,
                    precision="int8" if node.name in plans else "float32",
                    reason=reason,
                    sqnr_db=sqnr.get(writes[node.name]),
                    bias_corrected=node.name in recipe.corrections,
                    sentence=None if reason is None else SENTENCES[reason],
                )
            )
        return tuple(found)

    def float_operators(self, unknown: Collection[str]) -> tuple[FloatOperators, ...]:
        """What stays float besides layers, by operator and reason.

        Args:
            unknown: the nodes that the proof could not compute in float64.
        """
        others = self.made.recipe.others
        groups: dict[tuple[str, PrecisionReason, bool], list[str]] = {}
        for node in self.made.reference.graph.node:
            if node.name in others:
                key = str(kind_of(node)), others[node.name], node.name not in unknown
                groups.setdefault(key, []).append(node.name)
        return tuple(
            FloatOperators(op, reason, _sentence(reason, simulated=simulated), tuple(names), simulated)
            for (op, reason, simulated), names in sorted(groups.items())
        )

    def error(self, simulation_steps: int) -> QuantisationError:
        """What the outputs lose on all samples that were held out."""
        from bnfold.quantisation.measure_error import output_errors, share_outside

        held_out = self.samples.held_out
        return QuantisationError(
            outputs=output_errors(self.file, self.float_file, held_out, self.specs, threads=self.threads),
            simulation_steps=simulation_steps,
            held_out=True,
            n=self.samples.n_held_out,
            outside_range=share_outside(held_out, self.made.recipe.ranges),
        )

    def accuracy(
        self, data: str | None, max_drop: float | None, *, normalize: str | None, download: bool
    ) -> PairedAccuracy | None:
        """The metric of both files on the test part of the data; None where there are no labels."""
        if data is None:
            return None
        from bnfold.workflows.evaluate import evaluate

        try:
            report = evaluate(
                self.judged, self.float_file, data=data, normalize=normalize, max_drop=max_drop, threads=self.threads,
                download=download,
            )  # fmt: skip
        except InputRefused as refused:
            if max_drop is not None:
                raise InputRefused(
                    refused.what, where=data, found=refused.found, expected=refused.expected, remedy=refused.remedy
                ) from refused  # the file lies in a place of its own until it has passed
            log.warning("the accuracy was not measured: %s", refused)
            return None
        (pair,) = report.pairs
        own, exact = (found.metrics[pair.metric].value for found in report.files)
        verdicts = [gate.verdict for gate in report.gates]
        return PairedAccuracy(
            metric=pair.metric, float_=exact, int8=None if self.is_half else own,
            fp16=own if self.is_half else None, difference=pair.difference, low=pair.low, high=pair.high,
            n=report.data.n, limit=max_drop, passed="failed" not in verdicts, undecided="undecided" in verdicts,
        )  # fmt: skip

    def timing(self, budget_s: float, seed: int) -> tuple[QuantizedTiming | None, LayerTimes]:
        """The file beside the folded float file, and both by layer; None and nothing, with a warning, if not."""
        from bnfold.benchmarking import Axes, bench_files

        shapes = timed_shapes(self.specs, self.samples)
        try:
            report = bench_files(
                [self.file, self.float_file],
                Axes(
                    provider=self.provider, threads=self.threads, batch=(_batch(self.specs),), input_shapes=shapes
                ),
                names=["own", "float"], cold_starts=False, budget_s=budget_s, seed=seed, profile=True,
            )  # fmt: skip
        except InputRefused as refused:
            log.warning("the time was not measured: %s", refused)
            return None, ({}, {})
        (ratio,), (own, exact) = report.ratios, report.runs
        by_layer = [{entry.name: entry.ms for entry in profile.layers} for profile in report.profiles]
        timing = QuantizedTiming(
            ratio=ratio.ratio, low=ratio.low, high=ratio.high, verdict=ratio.verdict, leaning=ratio.leaning,
            note=ratio.note, batch=own.batch, threads=own.threads, median_ms=own.median_ms, float_ms=exact.median_ms,
        )  # fmt: skip
        return timing, (by_layer[0], by_layer[1])


def _sentence(reason: PrecisionReason, *, simulated: bool) -> str:
    unproven = "" if simulated else "; it has no simulation either, and the proof takes what ONNX Runtime computes"
    return SENTENCES[reason] + unproven


def with_times(layers: Sequence[LayerPrecision], times: LayerTimes) -> tuple[LayerPrecision, ...]:
    """The layers with their times, those of a name that stands for several nodes left out."""
    own, exact = times
    names = [layer.name for layer in layers]
    return tuple(
        dataclasses.replace(layer, ms=own.get(layer.name), float_ms=exact.get(layer.name))
        if names.count(layer.name) == 1
        else layer
        for layer in layers
    )


def timed_shapes(specs: Sequence[InputSpec], samples: Samples) -> list[list[tuple[int, ...]]]:
    """The shape of each input that files are timed with: one sample, or as many as a fixed batch holds."""
    return [[_timed_shape(spec, samples.held_out[spec.name], _batch(specs))] for spec in specs]


def _batch(specs: Sequence[InputSpec]) -> int:
    return next((spec.fixed_batch for spec in specs if spec.fixed_batch), 1)


def _timed_shape(spec: InputSpec, rows: np.ndarray, batch: int) -> tuple[int, ...]:
    shape = list(rows.shape[1:])
    if spec.has_batch and spec.batch_axis is not None:
        shape.insert(spec.batch_axis, batch)
    return tuple(shape)
