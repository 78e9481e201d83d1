"""Put right folds through the verification of `bnfold fold-export`, and print their accuracy next to other files'.

    python scripts/right_folds.py [--json FILE] [--missing] [--markdown FILE] [NAME ...]

NAME as in scripts/right_folds/networks.py; without names, its list. Each network gets random parameters with statistics
measured on random data, and is verified with several draws of inputs, more where a row is small. The table gives, at
ONNX Runtime's full optimization, the error against the float64 answer over that of the source in float32, as root mean
square over the outputs and inputs of a draw, and as geometric mean over the draws (`typical`: for each input alone, and
the median of these), for

    ours       the folded file,
    plain      what `torch.onnx.export` writes by default: its graph after onnxscript's optimizer and fusions,
    onnxsim    the unoptimized export after onnxsim.

`passed` is the verdict on ours with every draw, and `decided by` the most that one took: `source` where the error lies
within a multiple of the source's own, `bound` where within what accumulation leaves, `parameters` where these had to be
judged in float64. `seconds` is the CPU time of a verification. The last lines are medians, maxima, and the false
alarms; the exit code is 1 where there is one. --json appends a line for every network measured, so that several runs
may share a file; --missing measures only what that file lacks; --markdown writes docs/accuracy.md.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
import onnxscript.rewriter.onnx_fusions
from common.networks import source_of
from common.rows import measured_rows, parse

from bnfold.export import finish, plain_graph, save
from bnfold.folding import fold_model
from bnfold.numerics.error_bounds import PooledError
from bnfold.records import Criterion
from bnfold.runtime import open_session
from bnfold.verification import reference_for, verify_file
from right_folds.networks import NETWORKS, has_small_rows, network
from right_folds.page import write_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx

    from bnfold.records import Verdict

FILES = ("ours", "plain", "onnxsim")
GROUNDS = [*Criterion]
N_DRAWS, N_DRAWS_SMALL = 3, 8
ROW = "{:38} {:>8} {:>8} {:>8} {:>24} {:>7} {:>11} {:>8}"
Arrays = dict[str, np.ndarray]


class Recorded:
    """A reference that keeps what it was asked and what it answered, so that other files meet the same inputs."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference
        self.exact: dict[int, tuple[Mapping[str, np.ndarray], Arrays]] = {}
        self.e_source: dict[int, dict[str, float]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reference, name)

    def evaluate64(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """As the reference; the last answer to each feed is kept."""
        outputs: Arrays = self._reference.evaluate64(feed)
        self.exact[_key(feed)] = (dict(feed), outputs)
        return outputs

    def executions32(self, feed: Mapping[str, np.ndarray]) -> list[Arrays]:
        """As the reference; the larger error of each output is kept."""
        executions: list[Arrays] = self._reference.executions32(feed)
        _, exact = self.exact[_key(feed)]
        self.e_source[_key(feed)] = {
            name: max(_rms(execution[name] - exact[name]) for execution in executions) for name in exact
        }
        return executions


def _key(feed: Mapping[str, np.ndarray]) -> int:
    return hash(tuple(array.tobytes() for array in feed.values()))


def _rms(error: np.ndarray) -> float:
    pooled = PooledError()
    pooled.add(error)
    return pooled.rms


def error_ratios(path: Path, recorded: Recorded, verdict: Verdict) -> dict[str, Any]:
    """E_out / E_src of a file at full optimization: of all inputs `pooled`, as the verification does, and of `each`.

    Over several outputs of floating point the root mean square is taken.
    """
    session = open_session(path)
    errors: dict[str, PooledError] = {}
    each: list[float] = []
    for key, (feed, exact) in recorded.exact.items():
        got = {name: array - exact[name] for name, array in zip(exact, session.run(None, feed), strict=True)}
        for name, error in got.items():
            errors.setdefault(name, PooledError()).add(error)
        each += _mean_square(_rms(got[name]) / e for name, e in recorded.e_source[key].items() if e)
    pooled = _mean_square(errors[output.name].rms / output.e_source for output in verdict.outputs if output.e_source)
    return {"pooled": pooled[0] if pooled else math.nan, "each": each}


def _mean_square(ratios: Iterable[float]) -> list[float]:
    """The root of the mean square, if there are any."""
    squares = [ratio**2 for ratio in ratios]
    return [math.sqrt(statistics.fmean(squares))] if squares else []


def ratios_or_none(file: str, path: Path, recorded: Recorded, verdict: Verdict) -> dict[str, Any] | None:
    """As `error_ratios`; None for a file of others' that does not load or run, which is told."""
    try:
        return error_ratios(path, recorded, verdict)
    except Exception as error:  # the errors of ONNX Runtime have no common base
        if file == "ours":
            raise
        print(f"{file} does not run: {error}".splitlines()[0], file=sys.stderr)
        return None


def peers(unfolded: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """What others make of the unoptimized export; onnxsim is left out where it fails."""
    import onnxsim

    plain = ir.from_proto(unfolded)
    onnxscript.optimizer.optimize_ir(plain)
    onnxscript.rewriter.onnx_fusions.fuse(plain)
    files = {"plain": ir.to_proto(plain)}
    try:
        files["onnxsim"], _ = onnxsim.simplify(unfolded)
    except Exception as error:  # noqa: BLE001 - its own failure, told in its place in the table
        print(f"onnxsim: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
    return files


def measure(name: str) -> dict[str, Any]:
    """Fold and verify one network, and run the peers' files on the same inputs."""
    module, inputs, output_names = network(name)
    source = replace(source_of(name, module, inputs), output_names=output_names)
    model = plain_graph(source)
    unfolded = ir.to_proto(model)
    ledger = fold_model(model)
    files = {"ours": finish(model), **peers(unfolded)}
    draws: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = {file: save(proto, Path(folder) / f"{file}.onnx")[0] for file, proto in files.items()}
        for seed in range(N_DRAWS_SMALL if has_small_rows(inputs) else N_DRAWS):
            recorded: Any = Recorded(reference_for(source, unfolded))
            start = time.process_time()
            verdict = verify_file(paths["ours"], recorded, inputs=source.inputs, samples=None, seed=seed, extent="all")
            seconds = time.process_time() - start
            ratios = {file: ratios_or_none(file, path, recorded, verdict) for file, path in paths.items()}
            facts = {"failure": verdict.failure, "reference": verdict.reference, "decided_by": verdict.decided_by}
            draws.append({**facts, "seconds": round(seconds, 1), "ratios": ratios})
    return {"network": name, "batchnorms": ledger.found, "kept": ledger.kept, **pooled(draws), "draws": draws}


def pooled(draws: list[dict[str, Any]]) -> dict[str, Any]:
    """Of all draws together: geometric means, the first failure, and the most that a verdict took."""
    kinds = [file for file in draws[0]["ratios"] if all(draw["ratios"][file] is not None for draw in draws)]
    means = {file: statistics.geometric_mean(draw["ratios"][file]["pooled"] for draw in draws) for file in kinds}
    typical = {
        file: statistics.median(ratio for draw in draws for ratio in draw["ratios"][file]["each"]) for file in kinds
    }
    failures = [draw["failure"] for draw in draws if draw["failure"]]
    return {
        **{file: means.get(file) for file in FILES},
        "typical": {file: typical.get(file) for file in FILES},
        "passed": not failures,
        "failure": failures[0] if failures else None,
        "decided_by": max((draw["decided_by"] for draw in draws), key=GROUNDS.index),
        "seconds": statistics.median(draw["seconds"] for draw in draws),
    }


def table_row(row: dict[str, Any]) -> str:
    """One network of the table."""
    ratios = ["-" if row[file] is None else f"{row[file]:.2f}" for file in FILES]
    typical = ["-" if ratio is None else f"{ratio:.2f}" for ratio in row["typical"].values()]
    passed = "yes" if row["passed"] else "NO"
    return ROW.format(row["network"], *ratios, " / ".join(typical), passed, row["decided_by"], f"{row['seconds']:.0f}")


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """Median and maximum of each column, over the networks that every file exists for, and the false alarms."""
    whole = [row for row in rows if all(row[file] is not None for file in FILES)]
    lines = [
        ROW.format(
            f"{name} of {len(whole)}",
            *(f"{of(row[file] for row in whole):.2f}" for file in FILES),
            " / ".join(f"{of(row['typical'][file] for row in whole):.2f}" for file in FILES),
            *[""] * 3,
        )
        for name, of in (("median", statistics.median), ("maximum", max))
    ]
    alarms = [row for row in rows if not row["passed"]]
    told = [f"  {row['network']}: {row['failure']}" for row in alarms]
    return [*lines, f"false alarms: {len(alarms)} of {len(rows)}", *told]


def main() -> None:
    """Measure, and print the table."""
    arguments = parse(__doc__, NETWORKS)
    print(ROW.format("network", *FILES, "typical", "passed", "decided by", "seconds"), flush=True)
    rows = measured_rows(arguments, measure, table_row)
    print("\n".join(summary(rows)))
    if arguments.markdown:
        write_page(arguments.markdown, rows, FILES)
    raise SystemExit(any(not row["passed"] for row in rows))
