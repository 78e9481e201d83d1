"""ONNX Runtime's own int8 as peers of `bnfold bench`: `quantize_static`, with its defaults and with its best setting.

The best setting is what its documentation says for the processor at hand: the graph pre-processed, activations u8,
weights s8 with one scale for each output channel, on x86 without VNNI 7 bits of them. (Its Percentile and Entropy
calibrations lose more; docs/int8.md.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.errors import BnfoldError, InputRefused
from bnfold.records.benchmark import BenchLoss

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from bnfold.benchmarking.subjects import Subject
    from bnfold.records import InputSpec
    from bnfold.sources.types import Source

__all__ = ["STATIC_PEERS", "Calibration", "files_of", "losses_of", "open_calibration", "write_static"]

STATIC_PEERS = ("ort-static", "ort-static-best")
MOST_SAMPLES = 128  # all of whose activations quantize_static holds in memory
log = logging.getLogger("bnfold.workflows")


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Samples that a peer is calibrated on and judged by, of which a part is held out.

    Attributes:
        calibration: arrays by input name, samples first.
        held_out: likewise; what files lose is measured on these.
        specs: the inputs of the network.
        data: the data set that they come from, which may have labels; None for samples alone.
    """

    calibration: Mapping[str, np.ndarray]
    held_out: Mapping[str, np.ndarray]
    specs: Sequence[InputSpec]
    data: str | None


def open_calibration(
    source: Source, plain: Path, *, inputs: Path | None, data: str | None, seed: int, download: bool = False
) -> Calibration:
    """The samples: those given, or the source's own.

    Args:
        source: whose plain file is quantised; that file gets the facts that say how data becomes its input.
        plain: that file.
        inputs: an `.npz` file of arrays by input name, or a folder of images.
        data: a data set, see `bnfold evaluate`.
        seed: of the part that is held out.
        download: whether data that is not on this machine may be fetched.

    Raises:
        InputRefused: there are none, or they cannot be used.
    """
    import onnx

    from bnfold.export import complete_facts, write_facts
    from bnfold.quantisation.samples import split_samples
    from bnfold.sources import facts_of
    from bnfold.workflows.calibration_samples import calibration_samples

    if inputs is None and data is None:
        if source.samples is None:
            raise InputRefused("there are no samples to calibrate on", remedy="give them with --inputs or --data")
        called, arrays = source.facts.spec, dict(source.samples)
    else:
        model = onnx.load(plain)
        facts = complete_facts(facts_of(source), source, model, None)
        write_facts(model, facts)
        onnx.save(model, plain)
        called, arrays = calibration_samples(
            inputs, data, plain, source.inputs, facts, where=source.facts.spec, download=download
        )
    found = split_samples(arrays, seed=seed, where=called)
    few = {name: array[:MOST_SAMPLES] for name, array in found.calibration.items()}
    return Calibration(few, found.held_out, source.inputs, data)


def write_static(plain: Path, file: Path, calibration: Calibration, *, best: bool, per_channel: bool = True) -> None:
    """Write what `onnxruntime.quantization.quantize_static` makes of a float file.

    Args:
        plain: the float file.
        file: to write.
        calibration: the samples.
        best: its best setting in place of its defaults.
        per_channel: whether weights have one scale for each output channel in its best setting.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from bnfold.benchmarking.offline import write_offline
    from bnfold.quantisation.targets import this_target

    source, options = plain, {}
    with _quiet_root():
        if best:
            # In two steps: before 1.31 its preparation leaves out the graph that it has optimised.
            shaped, source = (file.with_name(f"{file.stem}.{step}.onnx") for step in ("shaped", "prepared"))
            quant_pre_process(str(plain), str(shaped), skip_optimization=True, skip_symbolic_shape=True)
            write_offline(shaped, source, "basic", "cpu")
            options = {
                "per_channel": per_channel,
                "activation_type": QuantType.QUInt8,
                "weight_type": QuantType.QInt8,
                "reduce_range": this_target() == "x86",
            }
        quantize_static(str(source), str(file), _Reader(calibration), **options)
    metadata = onnx.load(plain, load_external_data=False).metadata_props
    model = onnx.load(file)
    del model.metadata_props[:]
    model.metadata_props.extend(metadata)  # with how data becomes its input
    onnx.save(model, file)


class _Reader:
    """Feeds of one sample, or of as many as a fixed batch holds, as ONNX Runtime's quantiser reads them."""

    def __init__(self, calibration: Calibration) -> None:
        from bnfold.quantisation.samples import batches

        self._feeds: Iterator[dict[str, np.ndarray]] = batches(calibration.calibration, calibration.specs, 1)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next feed; None at the end."""
        return next(self._feeds, None)


@contextlib.contextmanager
def _quiet_root() -> Iterator[None]:
    """Its quantiser writes advice to the root logger."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def losses_of(
    files: Mapping[str, Path], plain: Path, calibration: Calibration, *, threads: int | None = None
) -> tuple[BenchLoss, ...]:
    """What files say otherwise than the plain one, on the samples held out, and how good they are, with labels.

    Args:
        files: by the name that they have in the report; one with other outputs is left out.
        plain: the float file that the source's plain export is.
        calibration: with the samples.
        threads: of one operator.
    """
    from bnfold.quantisation.measure_error import output_errors

    metrics = _metrics(files, plain, calibration, threads)
    found = []
    for name, file in files.items():
        if not _same_interface(file, plain):
            log.warning("%s has other inputs or outputs than the plain export: what it loses is not measured", name)
            continue
        errors = output_errors(file, plain, calibration.held_out, calibration.specs, threads=threads)
        metric, value, exact = metrics.get(name, (None, None, None))
        found += [BenchLoss(name, error.name, error.sqnr_db, error.agreement, metric, value, exact) for error in errors]
    return tuple(found)


def _same_interface(file: Path, plain: Path) -> bool:
    """Whether two files have the same names of inputs and outputs."""
    import onnx

    graphs = [onnx.load(path, load_external_data=False).graph for path in (file, plain)]
    first, second = ([{value.name for value in values} for values in (graph.input, graph.output)] for graph in graphs)
    return first == second


def _metrics(
    files: Mapping[str, Path], plain: Path, calibration: Calibration, threads: int | None
) -> dict[str, tuple[str, float, float]]:
    """The metric of each file and that of the plain one by name, on the test part of labelled data."""
    if calibration.data is None:
        return {}
    from bnfold.workflows.evaluate import evaluate

    found: dict[str, tuple[str, float, float]] = {}
    for name, file in files.items():
        try:
            report = evaluate(file, plain, data=calibration.data, threads=threads)
        except BnfoldError as error:
            log.warning("the accuracy of %s was not measured: %s", name, error)
            continue
        (pair,) = report.pairs
        own, exact = (each.metrics[pair.metric].value for each in report.files)
        found[name] = (pair.metric, own, exact)
    return found


def files_of(subjects: Sequence[Subject]) -> dict[str, Path]:
    """Those subjects that are files, by name."""
    return {subject.name: subject.file for subject in subjects if isinstance(subject.file, Path)}
