"""Accuracy in int8 of networks that were trained, and how little it depends on the units they were trained in.

    python scripts/int8/networks.py FASHION.npz RUNS          trains them
    python scripts/int8/tables.py FASHION.npz RUNS OUT.jsonl [NAME ...] [--write docs/int8.md]

RUNS may hold other run folders too, as those of `bnfold train densenet`. For each network a line of OUT.jsonl: the
metric of the folded float file and of int8, paired on the test part, and for the first 2,000 images of Fashion-MNIST
the metric and the signal over noise of int8, per channel and per tensor, in the units that the network came in and with
every free class of channels 2^U(-4,4) times as large; beside it ONNX Runtime's quantize_static, and the same behind
pairwise equalization. All that can be is in integers here, whatever it costs. --write puts the tables into the page.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # where common/ lies
from common.tables import markdown_table
from equalize import equalized
from networks import CANVASES, CLASSIFIERS

from bnfold.export import save
from bnfold.quantisation.gauge import free_classes, in_units
from bnfold.quantisation.measure_error import output_errors
from bnfold.quantisation.prepare import prepared
from bnfold.quantisation.quantise import quantise
from bnfold.quantisation.samples import split_samples
from bnfold.records.recipes import WeightScales
from bnfold.sources import facts_of, load_source
from bnfold.workflows.calibration_samples import calibration_samples
from bnfold.workflows.candidates import sensitivities_of
from bnfold.workflows.conversion import convert, into_metadata
from bnfold.workflows.evaluate import evaluate
from bnfold.workflows.static_peers import Calibration, write_static
from bnfold.workflows.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable

N_INVARIANCE = 2_000  # test images for the second table
METHODS = ("bnfold", "quantize_static", "equalization and quantize_static")
SCALES: tuple[WeightScales, ...] = ("per-channel", "per-tensor")
MOST_DROP, MOST_MOVED, MOST_DB = 0.003, 0.005, 1.0


class Network:
    """A trained network, folded, with its samples.

    Args:
        name: of its run folder.
        runs: that it lies in.
        fashion: the data of the classifiers.
        folder: for files.
    """

    def __init__(self, name: str, runs: Path, fashion: Path, folder: Path) -> None:
        self.name, self.folder = name, folder
        data = json.loads((runs / name / "run.json").read_text())["recipe"]["data"]
        self.data = f"npz:{fashion}" if data.startswith("npz:") else str(data)
        source = load_source(str(runs / name))
        conversion = convert(source, Stopwatch(lambda _: None), opset=None, static_batch=None, provider="cpu")
        facts = into_metadata(facts_of(source), source, conversion)
        self.folded, self.specs = conversion.folded, source.inputs
        self.float_file = folder / "float.onnx"
        save(self.folded, self.float_file)
        called, arrays = calibration_samples(None, self.data, self.float_file, self.specs, facts, where=name)
        self.samples = split_samples(arrays, seed=0, where=called)
        self.known = sensitivities_of(conversion, source, self.samples, "int8")
        self.known_rescaled: dict[str, np.ndarray] = {}

    def rescaled(self) -> onnx.ModelProto:
        """The same function, every free class of channels 2^U(-4,4) times as large; gradients follow."""
        model = prepared(self.folded, where=self.name)
        scales = in_units(model, 2.0 ** np.random.default_rng(0).uniform(-4, 4, free_classes(model)))
        self.known_rescaled = {name: s / scales[name] ** 2 for name, s in self.known.items() if name in scales}
        return self._finished(model)

    def _finished(self, model: ir.Model) -> onnx.ModelProto:
        proto = ir.to_proto(model)
        del proto.graph.value_info[:], proto.metadata_props[:]
        proto.metadata_props.extend(self.folded.metadata_props)
        return proto

    def write(self, method: str, scales: WeightScales, model: onnx.ModelProto, file: Path) -> None:
        """The int8 file of a method."""
        if method == "bnfold":
            known = self.known if model is self.folded else self.known_rescaled
            options: Any = {"kept": {}, "sensitivities": known, "threads": 1, "where": self.name}
            made = quantise(model, self.samples, self.specs, weights=scales, **options)
            save(made.model, file)
            return
        plain = file.with_suffix(".float.onnx")
        save(equalized(model) if method.startswith("equal") else model, plain)
        few = {name: array[:128] for name, array in self.samples.calibration.items()}
        samples = Calibration(few, self.samples.held_out, self.specs, None)
        write_static(plain, file, samples, best=True, per_channel=scales == "per-channel")

    def metrics(self, files: list[Path], n: int | None) -> tuple[str, int, list[float], Any]:
        """The metric of files on the test part, of how many samples, in their order, and the pair of the first two."""
        report = evaluate(*files, data=self._data(n), threads=1)
        metric = report.pairs[0].metric
        return metric, report.data.n, [own.metrics[metric].value for own in report.files], report.pairs[0]

    def _data(self, n: int | None) -> str:
        """The data set, or one of its first n test images."""
        if n is None or not self.data.startswith("npz:"):
            return self.data
        place = self.folder / "few" / Path(self.data).name  # the name by which a file knows its data
        if not place.exists():
            place.parent.mkdir()
            with np.load(self.data.partition(":")[2]) as data:
                arrays = {name: data[name][:n] if name.endswith("_test") else data[name] for name in data}
            np.savez(place, **arrays)
        return f"npz:{place}"

    def sqnr_db(self, file: Path) -> float:
        """Of the output that lost most, on the samples held out."""
        errors = output_errors(file, self.float_file, self.samples.held_out, self.specs, threads=1)
        return min(error.sqnr_db for error in errors)


def measured(network: Network, *, invariance: bool) -> dict[str, Any]:
    """The line of a network, with what becomes of it in other units if that is asked for."""
    start = time.perf_counter()
    own = network.folder / "int8.onnx"
    network.write("bnfold", "per-channel", network.folded, own)
    metric, n, (value, exact), pair = network.metrics([own, network.float_file], None)
    facts: dict[str, Any] = {
        "network": network.name, "data": "Fashion-MNIST" if network.data.startswith("npz:") else network.data,
        "n": n, "metric": metric, "float": exact, "int8": value, "difference": pair.difference,
        "low": pair.low, "high": pair.high, "sqnr_db": network.sqnr_db(own),
    }  # fmt: skip
    if not invariance:
        return facts | {"seconds": round(time.perf_counter() - start, 1)}
    rescaled = network.rescaled()
    cells: list[dict[str, Any]] = []
    files: list[Path] = []
    for method in METHODS:
        for scales in SCALES:
            for units, model in (("as trained", network.folded), ("rescaled", rescaled)):
                file = network.folder / f"{len(files)}.onnx"
                network.write(method, scales, model, file)
                files.append(file)
                cells.append({"method": method, "weights": scales, "units": units, "sqnr_db": network.sqnr_db(file)})
    other = network.folder / "rescaled.onnx"
    save(rescaled, other)
    _, _, values, _ = network.metrics([network.float_file, other, *files], N_INVARIANCE)
    for cell, found in zip(cells, values[2:], strict=True):
        cell["value"] = found
    facts |= {"float_few": values[0], "float_rescaled": values[1], "cells": cells}
    facts["seconds"] = round(time.perf_counter() - start, 1)
    return facts


def _cell(facts: dict[str, Any], method: str, scales: str, units: str) -> dict[str, Any]:
    keys = {"method": method, "weights": scales, "units": units}
    return next(cell for cell in facts["cells"] if keys.items() <= cell.items())


def misses(facts: dict[str, Any]) -> list[str]:
    """What a network misses of the promises."""
    found = []
    if facts["difference"] < -MOST_DROP:
        found.append(f"{facts['network']}: {facts['metric']} falls by {-100 * facts['difference']:.2f} points")
    for scales in SCALES if "cells" in facts else ():
        before, after = (_cell(facts, "bnfold", scales, units) for units in ("as trained", "rescaled"))
        moved, db = (after[key] - before[key] for key in ("value", "sqnr_db"))
        if abs(moved) > MOST_MOVED:
            found.append(f"{facts['network']}, {scales}: rescaling moves it by {100 * moved:+.2f} points")
        if abs(db) > MOST_DB:
            found.append(f"{facts['network']}, {scales}: rescaling moves it by {db:+.1f} dB")
    return found


def tables(lines: list[dict[str, Any]]) -> str:
    """Both tables in Markdown."""
    accuracy, units = [], []
    for own in lines:
        interval = f"{100 * own['difference']:+.2f} ({100 * own['low']:+.2f} to {100 * own['high']:+.2f})"
        data, values = f"{own['data']}, {own['n']:,}", (f"{100 * own[key]:.2f} %" for key in ("float", "int8"))
        accuracy.append((own["network"], data, own["metric"], *values, interval, f"{own['sqnr_db']:.1f}"))
        called = f"{own['network']}, {own['data']}"
        measured_too = SCALES if "cells" in own else ()
        units += [(called, scales, *(_moved(own, method, scales) for method in METHODS)) for scales in measured_too]
    headings = ("network", "data, test samples", "metric", "float", "int8", "points (99 %)", "dB")
    between = "Units as trained -> every free class of channels 2^U(-4,4) times as large:"
    return "\n\n".join([
        markdown_table(headings, accuracy), between, markdown_table(("network", "weights", *METHODS), units)
    ])  # fmt: skip


def _moved(facts: dict[str, Any], method: str, scales: str) -> str:
    """The metric and the decibels of a method before and after the rescaling."""
    before, after = (_cell(facts, method, scales, units) for units in ("as trained", "rescaled"))
    return (
        f"{100 * before['value']:.1f} -> {100 * after['value']:.1f} %, "
        f"{before['sqnr_db']:.1f} -> {after['sqnr_db']:.1f} dB"
    )


BEGIN, END = "<!-- scripts/int8/tables.py -->", "<!-- end -->"


def main(show: Callable[[str], None] = print) -> None:
    """Measure what is missing, print both tables, and exit with 1 where a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fashion", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", default=[*CLASSIFIERS, *CANVASES])
    parser.add_argument("--write", type=Path, metavar="PAGE")
    parser.add_argument("--as-trained", action="store_true", help="measure no other units")
    arguments = parser.parse_args()
    done = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    for name in arguments.names:
        if any(own["network"] == name for own in done) or not (arguments.runs / name / "run.json").is_file():
            continue
        with tempfile.TemporaryDirectory() as place:
            network = Network(name, arguments.runs, arguments.fashion, Path(place))
            done.append(measured(network, invariance=not arguments.as_trained))
        with arguments.out.open("a") as stream:
            stream.write(json.dumps(done[-1]) + "\n")
    show(tables(done))
    missed = [sentence for own in done for sentence in misses(own)]
    for sentence in missed:
        show(f"MISSED {sentence}")
    if arguments.write is not None:
        before, _, rest = arguments.write.read_text().partition(BEGIN)
        arguments.write.write_text(f"{before}{BEGIN}\n{tables(done)}\n{END}{rest.partition(END)[2]}")
    if missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
