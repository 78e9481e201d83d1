"""How often does `bnfold bench` say the truth? A/A, A/B with 5 % more work, and how large is its overhead?

    python scripts/bench_quality.py [--runs 40] [--budget 20] [--threads 1] [--json FILE]

A/A: the same file twice; "faster" or "slower" is wrong. A/B: a file with an extra convolution, 5 % of
the multiply-adds, is called slower. The overhead is that of the timed loop over `model_run` in ONNX Runtime's own
profile of the same calls. A noisy machine counts apart: no winner is named there. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bnfold.benchmarking import bench_files
from bnfold.benchmarking.inputs import random_inputs
from bnfold.benchmarking.timing import BoundFile, bind
from bnfold.records import InputSpec
from bnfold.runtime import open_session

CHANNELS, SIZE, N_CONVOLUTIONS = 64, 28, 20
SHAPE = (1, CHANNELS, SIZE, SIZE)


def network(path: Path, n_convolutions: int) -> Path:
    """A chain of equal 3x3 convolutions with ReLUs: one more of twenty is 5 % more work."""
    random = np.random.default_rng(0)
    nodes, weights = [], []
    for index in range(n_convolutions):
        weight = (random.standard_normal((CHANNELS, CHANNELS, 3, 3)) / 24).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        nodes.append(helper.make_node("Conv", [f"x{index}", f"w{index}"], [f"c{index}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"x{index + 1}"]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(f"x{n_convolutions}", TensorProto.FLOAT, SHAPE)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def verdicts(files: list[Path], n_runs: int, **options: Any) -> Counter[str]:
    """What `n_runs` measurements said; "refused" where the machine was noisy."""
    said: Counter[str] = Counter()
    for seed in range(n_runs):
        (ratio,) = bench_files(files, names=["a", "b"], seed=seed, **options).ratios
        said["refused" if ratio.note else ratio.verdict] += 1
    return said


def overhead(path: Path, folder: Path, threads: int, n_runs: int = 200) -> float:
    """Median of the timed loop over the median of `model_run` in ONNX Runtime's profile of the very same calls."""

    def configure(options: Any) -> None:
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")

    inputs = random_inputs([InputSpec("x0", SHAPE, "float32")], {"x0": SHAPE}, 0)
    file = BoundFile(path, inputs, provider="cpu", threads=threads)
    file.session = open_session(path, threads=threads, configure=configure)
    binding = bind(file.session, inputs, "cpu")
    file._call = lambda: file.session.run_with_iobinding(binding)
    timed = [file.timed_ms() for _ in range(n_runs)]
    events = json.loads(Path(file.session.end_profiling()).read_text(encoding="utf-8"))
    profiled = [event["dur"] / 1e3 for event in events if event.get("name") == "model_run"]
    return float(median(timed) / median(profiled[-n_runs:]))


def main() -> None:
    """Run the three experiments and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of each run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    options = {"budget_s": arguments.budget, "threads": arguments.threads}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = network(folder / "base.onnx", N_CONVOLUTIONS)
        more = network(folder / "more.onnx", N_CONVOLUTIONS + 1)
        result = {
            "runs": arguments.runs,
            **options,
            "a_a": dict(verdicts([base, base], arguments.runs, **options)),
            "a_b": dict(verdicts([more, base], arguments.runs, **options)),
            "overhead": round(overhead(base, folder, arguments.threads), 4),
        }
    print(f"A/A: {result['a_a']}; A/B, 5 % more work: {result['a_b']}; timed / model_run: {result['overhead']}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
