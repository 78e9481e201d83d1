"""Fold many networks and print, for each, what became of its BatchNorms, its nodes, and the float64 difference.

    python scripts/fold_zoo.py [--gamma positive|mixed|zeros] [--float64] [--verify] [NAME ...]

NAME is a network of timm, or one of scripts/common/patterns.py; without names, the list below. Statistics are
calibrated by running random data through in training mode; gamma is drawn from 0.5..1.5, beta from N(0, 0.2);
`mixed` makes 15 % of the gammas negative, `zeros` also sets 3 % to exactly 0. `--float64` evaluates the plain and the
folded graph in float64 on random and border inputs and prints the largest difference relative to the largest output;
`--verify` puts the folded file through the gate of `bnfold fold-export` and prints its error over the source's own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch
from common.networks import TIMM, build, calibrate, names, randomise, source_of
from common.patterns import PATTERNS

from bnfold.export import finish, plain_graph, save
from bnfold.folding import fold, fold_model
from bnfold.graph.float64 import Float64Graph, to_float64
from bnfold.verification import reference_for, verify_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfold.sources import TorchSource

ROW = "{:18} {:>6} {:>8} {:>6} {:>4} {:>11} {:>8} {:>8} {:>9} {:>9}"


def verified(source: TorchSource, plain: Any, folded: Any) -> str:
    """Whether the folded file passes the gate of `bnfold fold-export`, and its error over the source's."""
    with tempfile.TemporaryDirectory() as folder:
        (path, *_) = save(folded, Path(folder) / "model.onnx")
        verdict = verify_file(path, reference_for(source, plain), inputs=source.inputs, samples=None)
    ratio = max(output.e_output / output.e_source if output.e_source else 0.0 for output in verdict.outputs)
    return f"{'yes' if verdict else 'NO'} {ratio:.2f}"


def difference(plain: Any, folded: Any, inputs: tuple[torch.Tensor, ...]) -> float:
    """Largest difference of two graphs in float64, relative to the largest output, on random and border inputs."""
    before, after = Float64Graph(plain), Float64Graph(folded)
    worst = 0.0
    for change in (lambda x: x[:1], lambda x: np.ones_like(x[:1]), _corner):
        feed = {
            n: change(x.numpy()) if x.is_floating_point() else x.numpy()[:1]
            for n, x in zip(names(inputs), inputs, strict=True)
        }
        feed = {n: x.astype(np.float64) if x.dtype == np.float32 else x for n, x in feed.items()}
        expected, actual = before.evaluate(feed), after.evaluate(feed)
        for a, b in zip(expected.values(), actual.values(), strict=True):
            worst = max(worst, float(np.abs(a - b).max() / np.abs(a).max()))
    return worst


def _corner(x: np.ndarray) -> np.ndarray:
    corner = np.zeros_like(x[:1])
    corner[..., -1] = 10
    return corner


def row(name: str, gamma: str, *, float64: bool, verify: bool) -> str:
    """Fold one network: the table's row, and a line for each BatchNorm that stayed."""
    module, inputs = build(name)
    randomise(module, gamma, seed=1)
    calibrate(module, inputs)
    source = source_of(name, module, inputs)
    start = time.perf_counter()
    model = plain_graph(source)
    export_s = time.perf_counter() - start
    plain = ir.to_proto(model)
    start = time.perf_counter()
    ledger = fold_model(model)
    fold_s = time.perf_counter() - start
    final = finish(model)
    counts = (ledger.found, ledger.absorbed, ledger.merged, ledger.kept)
    nodes = f"{len(plain.graph.node)}->{len(final.graph.node)}"
    error = f"{_in_float64(plain, inputs):.1e}" if float64 else "-"
    gate = verified(source, plain, final) if verify else "-"
    lines = [ROW.format(name, *counts, nodes, f"{export_s:.1f}", f"{fold_s:.2f}", error, gate)]
    return "\n".join([*lines, *(f"    {e.name}: {e.reason}" for e in ledger.entries if e.outcome == "kept")])


def _in_float64(plain: Any, inputs: tuple[torch.Tensor, ...]) -> float:
    """Fold the float64 form of the plain graph, so that rounding to float32 plays no part."""
    wide = to_float64(plain)
    folded, _ = fold(wide)
    return difference(wide, folded, inputs)


def main(show: Callable[[str], None] = print) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*PATTERNS, *TIMM])
    parser.add_argument("--gamma", choices=("positive", "mixed", "zeros"), default="positive")
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--quiet", action="store_true", help="leave out the reasons of the BatchNorms that stay")
    arguments = parser.parse_args()
    show(
        ROW.format(
            "network", "found", "absorbed", "merged", "kept", "nodes", "export s", "fold s", "float64", "verified"
        )
    )
    for name in arguments.names:
        text = row(name, arguments.gamma, float64=arguments.float64, verify=arguments.verify)
        show(text.splitlines()[0] if arguments.quiet else text)


if __name__ == "__main__":
    main()
