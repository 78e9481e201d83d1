"""Quantise random networks of timm to int8, and print what is in integers, the noise, and the time against float.

    python scripts/int8/speed.py make DIR [NAME ...]      NAME.float.onnx and NAME.int8.onnx into DIR, with their proof
    python scripts/int8/speed.py time DIR [NAME ...]      int8 over folded float, interleaved, one thread

Gammas are drawn from 0.5 to 1.5 and the statistics calibrated on random data, as scripts/fold_zoo.py does: a ResNet of
timm begins with gammas of 0, whose blocks would be pruned away. LIMITS: ratios that each network has to stay below.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # where common/ lies
from common.networks import build, calibrate, randomise, source_of

from bnfold.benchmarking import Axes, bench_files
from bnfold.export import finish, plain_graph, save
from bnfold.folding import fold_model
from bnfold.quantisation.measure_error import output_errors
from bnfold.quantisation.prove import prove
from bnfold.quantisation.quantise import quantise
from bnfold.quantisation.samples import batches, split_samples
from bnfold.quantisation.targets import this_target
from bnfold.workflows.candidates import share_of_int8

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = {
    "resnet18": 0.40, "resnet50": 0.42, "repvgg_a0": 0.36, "mobileone_s0": 0.62, "mobilenetv2_100": 0.62,
    "densenet121": 0.48, "efficientnet_b0": 0.97, "mobilenetv3_large_100": 0.97, "ghostnetv3_100": 0.97,
}  # fmt: skip
N_SAMPLES = 24


def make(name: str, folder: Path) -> dict[str, object]:
    """Write both files of a network; what was found out about them."""
    module, inputs = build(name)
    randomise(module, "positive", seed=1)
    calibrate(module, inputs)
    source = source_of(name, module, inputs)
    model = plain_graph(source)
    fold_model(model)
    folded = finish(model)
    start = time.perf_counter()
    torch.manual_seed(2)
    arrays = {source.inputs[0].name: torch.randn(N_SAMPLES, *inputs[0].shape[1:]).numpy()}
    samples = split_samples(arrays, seed=0, where=name)
    made = quantise(folded, samples, source.inputs, target=this_target(), threads=1, where=name)
    seconds = time.perf_counter() - start
    file, exact = folder / f"{name}.int8.onnx", folder / f"{name}.float.onnx"
    save(folded, exact)
    save(made.model, file)
    few = {key: array[:1] for key, array in samples.held_out.items()}
    proof = prove(file, made.source, made.recipe, batches(few, source.inputs, 1), threads=1)
    (error,) = output_errors(file, exact, samples.held_out, source.inputs, threads=1)
    return {
        "int8": dict(Counter(plan.op for plan in made.recipe.nodes)),
        "float": dict(Counter(made.recipe.reasons.values())),
        "kernels": dict(proof.facts.integer_kernels),
        "off_by_one": f"{proof.facts.n_off_by_one} of {proof.facts.n_compared}",
        "share": round(share_of_int8(made) or 0.0, 3),
        "sqnr_db": round(error.sqnr_db, 1),
        "failures": list(proof.failures[:5]),
        "seconds": round(seconds, 1),
    }


def timed(name: str, folder: Path, budget_s: float) -> str:
    """A row: the ratio and its interval."""
    files = [folder / f"{name}.{kind}.onnx" for kind in ("int8", "float")]
    shape = tuple(dim.dim_value or 1 for dim in onnx.load(files[1]).graph.input[0].type.tensor_type.shape.dim)
    report = bench_files(
        files,
        Axes(threads=1, batch=(1,), input_shapes=[[shape]]),
        names=["int8", "float"],
        cold_starts=False,
        budget_s=budget_s,
    )
    (ratio,), (own, exact) = report.ratios, report.runs
    limit = LIMITS.get(name)
    kept = "" if limit is None else f"{limit:.2f} {'ok' if ratio.high <= limit else 'NO'}"
    return (
        f"{name:24} {own.median_ms:8.3f} {exact.median_ms:8.3f} {ratio.ratio:7.3f} {ratio.low:7.3f} {ratio.high:7.3f} "
        f"{ratio.verdict:10} {kept}"
    )


def main(show: Callable[[str], None] = print) -> None:
    """Make the files, or time them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("make", "time"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=list(LIMITS))
    parser.add_argument("--budget", type=float, default=8.0, help="seconds a network")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.work == "time":
        show(f"{'network':24} {'int8 ms':>8} {'float ms':>8} {'ratio':>7} {'low':>7} {'high':>7} verdict    limit")
    for name in arguments.names:
        if arguments.work == "make":
            show(f"{name} {json.dumps(make(name, arguments.folder))}")
        else:
            show(timed(name, arguments.folder, arguments.budget))


if __name__ == "__main__":
    main()
