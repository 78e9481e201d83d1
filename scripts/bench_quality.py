"""How often does `bnfold bench` say the truth? A/A, A/B with 5 % more work, and how large is its overhead?

    python scripts/bench_quality.py [--runs 40] [--budget 20] [--threads 1] [--json FILE] [--markdown FILE]

A/A: the same file twice; "faster" or "slower" is wrong. A/B: a file with an extra convolution, 5 % of
the multiply-adds, is called slower. The overhead is that of the timed loop over `model_run` in ONNX Runtime's own
profile of the same calls. Where the machine was too noisy to name a winner, the run counts apart, as "undecided": run
it on a quiet machine. With --json, runs are added to those that the file already holds, one by one, until there are
--runs of each kind, so that it can be stopped and taken up again; only runs of the same budget, threads and versions
are added.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from common.tables import markdown_table
from onnx import TensorProto, helper, numpy_helper

from bnfold.benchmarking import Axes, bench_files
from bnfold.benchmarking.inputs import random_inputs
from bnfold.benchmarking.timing import BoundFile, bind
from bnfold.records import InputSpec
from bnfold.runtime import environment, open_session
from bnfold.version import __version__

KINDS = {"a_a": "the same file twice", "a_b": "5 % more work"}
VERDICTS = ("tie", "faster", "slower", "undecided")
WANTED = {"a_a": "tie", "a_b": "slower"}

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


def one_run(files: list[Path], seed: int, *, budget_s: float, threads: int) -> dict[str, Any]:
    """What a measurement said, and why where it named no winner."""
    report = bench_files(files, Axes(threads=threads), names=["a", "b"], seed=seed, budget_s=budget_s)
    (ratio,) = report.ratios
    numbers = {key: round(getattr(ratio, key), 5) for key in ("ratio", "low", "high")}
    undecided = {"leaning": ratio.leaning, "note": ratio.note} if ratio.verdict == "undecided" else {}
    return {"verdict": ratio.verdict, **numbers, **undecided}


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


def conditions(budget_s: float, threads: int) -> dict[str, Any]:
    """What must be the same for runs to be counted together."""
    facts = environment("cpu", threads)
    kept = ("cpu", "n_cpus", "affinity", "threads", "os", "python", "onnxruntime", "numpy")
    return {"budget_s": budget_s, "bnfold": __version__, **{key: facts[key] for key in kept}}


def take_up(path: Path | None, wanted: dict[str, Any]) -> dict[str, Any]:
    """The result so far, or an empty one."""
    if path is None or not path.is_file():
        return {"conditions": wanted, "overhead": [], **{kind: [] for kind in KINDS}}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found["conditions"] != wanted:
        different = [key for key in wanted if found["conditions"].get(key) != wanted[key]]
        sys.exit(f"error: {path} holds runs of another {', '.join(different)}: name another file")
    return found


def counts(result: dict[str, Any], kind: str) -> Counter[str]:
    """How often each verdict was given."""
    return Counter(run["verdict"] for run in result[kind])


def markdown(result: dict[str, Any]) -> str:
    """The result as a page."""
    facts = result["conditions"]
    lines = ["# How often `bnfold bench` says the truth", "", f"`python scripts/bench_quality.py`: {facts['cpu']}, "]
    lines[-1] += f"{facts['threads']} of {facts['n_cpus']} CPUs, ONNX Runtime {facts['onnxruntime']}, "
    lines[-1] += f"{facts['budget_s']:.0f} s a run, 99 % intervals."
    cells = []
    for kind, name in KINDS.items():
        said, runs = counts(result, kind), result[kind]
        width = median(run["high"] - run["low"] for run in runs) if runs else float("nan")
        cells.append((name, len(runs), *(said[verdict] for verdict in VERDICTS), f"{width:.4f}"))
    headings = ("pair", "runs", *VERDICTS[:-1], "undecided for noise", "interval, median width")
    lines += ["", markdown_table(headings, cells, right=range(1, 7))]
    found = ", ".join(f"{value:.4f}" for value in result["overhead"])
    lines += ["", f"Median of the timed loop over ONNX Runtime's own `model_run` of the same calls: {found}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing, keep it, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="of each kind, those already in --json included")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of each run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="add to this file")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    arguments = parser.parse_args()
    result = take_up(arguments.json, conditions(arguments.budget, arguments.threads))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = network(folder / "base.onnx", N_CONVOLUTIONS)
        pairs = {"a_a": [base, base], "a_b": [network(folder / "more.onnx", N_CONVOLUTIONS + 1), base]}
        result["overhead"].append(round(overhead(base, folder, arguments.threads), 4))
        for seed in range(arguments.runs):
            for kind, files in pairs.items():
                if seed < len(result[kind]):
                    continue
                result[kind].append(one_run(files, seed, budget_s=arguments.budget, threads=arguments.threads))
                print(f"{KINDS[kind]} {seed + 1}: {result[kind][-1]}", file=sys.stderr, flush=True)
                if arguments.json is not None:
                    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if arguments.markdown is not None:
        arguments.markdown.write_text(markdown(result), encoding="utf-8")
    for kind, name in KINDS.items():
        right = counts(result, kind)[WANTED[kind]]
        print(f"{name}: {dict(counts(result, kind))}, {right} of {len(result[kind])} as it should be")
    print(f"timed / model_run: {result['overhead']}")


if __name__ == "__main__":
    main()
