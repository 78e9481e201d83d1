"""Folds made wrong on purpose in one rewrite, in a channel that no input activates: does fold-export say so?

    python scripts/certificate_mutations.py [--markdown FILE] [RULE ...]

For each rewrite of the fold's rules a small network is folded and written by `bnfold fold-export`, once as it is and
once with each fault in that rewrite: the weights of one output channel times 1.01, and one offset dropped. The channel
lies in front of a ReLU that is off for it on every input, where a network has one. Merged branches get one wrong scale,
removed channels lose the constant that their readers should take. A fault counts as caught where the file does not pass
and the layer is named. The table is printed; the exit code is 1 where a fault was missed, or a right fold fails.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from common.tables import markdown_line, markdown_table
from onnx import numpy_helper

import bnfold.folding
from bnfold.folding import prune, terms
from bnfold.folding.relations import RULES, Rewrite
from bnfold.graph.scaled import Scaled
from bnfold.records import FoldExportReport
from bnfold.workflows.fold_export import fold_export

DEAD = 1
BIAS = 2  # the position of the bias of Conv and Gemm, and of the one that MatMul does not have
OFF = -1e4  # the shift in front of the ReLU, in the channel DEAD

IMAGES = "(float[N, 4, 5, 6] x) => (float[N, 3, P, Q] y)"
FEW = "(float[N, 4, 5, 6] x) => (float[N, 4, 5, 6] y)"
ROWS = "(float[N, 4] x) => (float[N, 3] y)"
NORMED = "b = BatchNormalization (v, bn_gamma, bn_beta, bn_mean, bn_var) r = Relu (b)"
TO_IMAGES = f"{NORMED} y = Conv (r, last_w, last_b)"
TO_ROWS = f"{NORMED} y = Gemm (r, head_w, last_b)"
SEQUENCE = """
 xt = Transpose <perm = [1, 2, 0]> (x) b = BatchNormalization (xt, bn_gamma, bn_beta, bn_mean, bn_var)
 s = Transpose <perm = [2, 0, 1]> (b) v, h = {op} <hidden_size = 3> (s, w_{op}, r_{op}, b_{op}) y = Identity (v)
"""
SEQUENCES = "(float[5, 2, 4] x) => (float[5, 1, 2, 3] y)"


@dataclasses.dataclass(frozen=True)
class Network:
    """A graph with a node whose output is `v`, or `v` and others, for one rule; `opset` of its operators."""

    signature: str
    body: str
    opset: int = 17
    written: tuple[str, ...] = ("v",)


NETWORKS: Mapping[str, Network] = {
    "Conv": Network(IMAGES, f"v = Conv <pads = [1, 1, 1, 1]> (x, conv_w, conv_b) {TO_IMAGES}"),
    "ConvTranspose": Network(IMAGES, f"v = ConvTranspose <strides = [2, 2]> (x, up_w, conv_b) {TO_IMAGES}"),
    "Gemm": Network(ROWS, f"v = Gemm (x, gemm_w, conv_b) {TO_ROWS}"),
    "MatMul": Network(ROWS, f"v = MatMul (x, gemm_w) {TO_ROWS}"),
    "Add": Network(IMAGES, f"u = Mul (x, factor) v = Add (u, places) {TO_IMAGES}"),
    "Sub": Network(IMAGES, f"u = Mul (x, factor) v = Sub (u, places) {TO_IMAGES}"),
    "Mul": Network(FEW, f"v0 = Mul (x, factor) v = Add (v0, places) {NORMED} y = Sigmoid (r)", written=("v0",)),
    "Div": Network(FEW, f"v0 = Div (x, factor) v = Add (v0, places) {NORMED} y = Sigmoid (r)", written=("v0",)),
    "LayerNormalization": Network(ROWS, f"v = LayerNormalization (x, norm_w, conv_b) {TO_ROWS}"),
    "InstanceNormalization": Network(IMAGES, f"v = InstanceNormalization (x, norm_w, conv_b) {TO_IMAGES}"),
    "GroupNormalization": Network(
        f"{IMAGES} <float[N, 4, 5, 6] v>",
        f"v = GroupNormalization <num_groups = 2> (x, norm_w, conv_b) {TO_IMAGES}",
        opset=21,
    ),
    "Gather": Network(
        "(int64[N, 7] x) => (float[N, 3, 7] y)",
        f"g = Gather (table, x) v = Transpose <perm = [0, 2, 1]> (g) {NORMED} y = Conv (r, line_w, last_b)",
        written=("g",),
    ),
    "LSTM": Network(SEQUENCES, SEQUENCE.format(op="LSTM")),
    "GRU": Network(SEQUENCES, SEQUENCE.format(op="GRU")),
    "RNN": Network(SEQUENCES, SEQUENCE.format(op="RNN")),
    "BatchNormalization": Network(
        IMAGES,
        "c = Conv (x, conv_w, conv_b) q = Relu (c) "
        "b1 = BatchNormalization (q, bn_gamma, norm_w, bn_mean, bn_var) "
        "v = BatchNormalization (b1, norm_w, bn_beta, bn_mean, bn_var) r = Relu (v) "
        "y = Conv <pads = [1, 1, 1, 1]> (r, wide_w, last_b)",
        written=("v", "b1"),
    ),
    "Max": Network(
        IMAGES,
        "c = Conv (x, conv_w, conv_b) q = Relu (c) b = BatchNormalization (q, bn_gamma, norm_w, bn_mean, bn_var) "
        "r = Relu (b) y = Conv (r, last_w, last_b)",
        written=("r", "b"),
    ),
    "merged branches": Network(
        IMAGES,
        "c1 = Conv <pads = [1, 1, 1, 1]> (x, conv_w, conv_b) c2 = Conv (x, point_w) "
        "b1 = BatchNormalization (c1, bn_gamma, norm_w, bn_mean, bn_var) "
        "b2 = BatchNormalization (c2, norm_w, bn_beta, bn_mean, bn_var) v = Add (b1, b2) r = Relu (v) "
        "y = Conv (r, last_w, last_b)",
        written=("v", "c1", "c2", "b1", "b2"),
    ),
    "removed channels": Network(
        "(float[N, 4, 5, 6] x) => (float[N, 4, P, Q] y)",
        "c = Conv (x, many_w, many_b) b = BatchNormalization (c, many_gamma, many_beta, many_mean, many_var) "
        "r = Relu (b) v = Conv (r, from_many_w, conv_b) r2 = Relu (v) y = Conv (r2, point_w)",
    ),
}
COLUMNS = ("rewrite", "fault", "caught", "layer", "named")
FAULTS = ("weights of a channel x 1.01", "offset dropped")
SPECIAL = {"merged branches": ("scale of a branch x 1.01",), "removed channels": ("one constant not taken",)}


def parameters(rule: str) -> dict[str, np.ndarray]:
    """Parameters as training leaves them, but for the shift of one channel."""
    rng = np.random.default_rng(7)
    found: dict[str, np.ndarray] = {
        "conv_w": rng.normal(size=(4, 4, 3, 3)), "conv_b": rng.normal(size=4), "up_w": rng.normal(size=(4, 4, 2, 2)),
        "gemm_w": rng.normal(size=(4, 4)), "point_w": rng.normal(size=(4, 4, 1, 1)),
        "last_w": rng.normal(size=(3, 4, 1, 1)), "line_w": rng.normal(size=(3, 4, 1)),
        "head_w": rng.normal(size=(4, 3)), "wide_w": rng.normal(size=(3, 4, 3, 3)), "last_b": rng.normal(size=3),
        "factor": rng.uniform(0.5, 2, (4, 1, 1)), "places": rng.normal(size=(1, 4, 5, 6)),
        "norm_w": rng.uniform(0.5, 2, 4), "table": rng.normal(size=(11, 4)),
        "bn_gamma": rng.uniform(0.5, 2, 4), "bn_beta": rng.normal(size=4), "bn_mean": rng.normal(size=4),
        "bn_var": rng.uniform(0.5, 2, 4),
        "many_w": rng.normal(size=(32, 4, 1, 1)), "many_b": rng.normal(size=32), "many_mean": rng.normal(size=32),
        "many_var": rng.uniform(0.5, 2, 32), "many_gamma": np.where(np.arange(32) < 16, 0.0, 1.0),
        "many_beta": rng.uniform(0.5, 2, 32), "from_many_w": rng.normal(size=(4, 32, 1, 1)),
    }  # fmt: skip
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        found |= {f"w_{op}": rng.normal(size=(1, 3 * gates, 4)), f"r_{op}": rng.normal(size=(1, 3 * gates, 3))}
        found[f"b_{op}"] = rng.normal(size=(1, 6 * gates))
    if rule not in ("LSTM", "GRU", "RNN"):
        found["conv_b" if rule in ("removed channels",) else "bn_beta"][DEAD] = OFF
    if rule == "Max":
        found["norm_w"][DEAD] = OFF
    return found


def model_of(rule: str) -> onnx.ModelProto:
    """The network of a rule."""
    network = NETWORKS[rule]
    text = f'<ir_version: 9, opset_import: ["": {network.opset}]> g {network.signature} {{ {network.body} }}'
    model = onnx.parser.parse_model(text)
    read = {name for node in model.graph.node for name in node.input}
    for name, array in parameters(rule).items():
        if name in read:
            model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    for node in model.graph.node:
        node.name = f"layer_{node.output[0]}"
    return model


@contextlib.contextmanager
def faulty(rule: str, fault: str) -> Iterator[list[bool]]:
    """The fold with a fault; the list tells whether it came to work."""
    worked: list[bool] = []
    if rule == "merged branches":
        with _patched(terms, "_scaled_terms", _wrong_branch(terms._scaled_terms, worked)):
            yield worked
    elif rule == "removed channels":
        with _patched(prune, "_take_constants", _forgetful(prune._take_constants, worked)):
            yield worked
    else:
        original = RULES[rule].rewrite
        RULES[rule].rewrite = lambda node, gauge: _spoilt(original(node, gauge), rule, fault, worked)  # type: ignore[misc]
        try:
            yield worked
        finally:
            RULES[rule].rewrite = original


@contextlib.contextmanager
def _patched(module: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


def _wrong_branch(original: Callable[..., Any], worked: list[bool]) -> Callable[..., Any]:
    def scaled_terms(*arguments: Any) -> Any:
        found = original(*arguments)
        if worked or found is None:
            return found
        worked.append(True)
        factor = np.ones_like(found[0].conv.bias)
        factor[DEAD] = 1.01
        return [dataclasses.replace(found[0], conv=found[0].conv.scaled(factor, 0 * factor)), *found[1:]]

    return scaled_terms


def _forgetful(original: Callable[..., None], worked: list[bool]) -> Callable[..., None]:
    def take_constants(graph: Any, slot: Any, dead: np.ndarray, constants: np.ndarray) -> None:
        one = slot.ids[dead[slot.ids]][:1]
        worked.append(bool(constants[one].any()))
        original(graph, slot, dead, np.where(np.isin(np.arange(constants.size), one), 0.0, constants))

    return take_constants


def _spoilt(rewrite: Rewrite | None, rule: str, fault: str, worked: list[bool]) -> Rewrite | None:
    """The parameters with the fault, in the first that can have it."""
    if rewrite is None or worked:
        return rewrite
    found = {**rewrite.parameters, **({} if rewrite.bias is None else {BIAS: rewrite.bias})}
    wanted = [
        k for k in found if (fault == FAULTS[0]) == (k != BIAS and not (rule in ("LSTM", "GRU", "RNN") and k == 3))
    ]
    if rule in ("Add", "Sub", "Max"):
        wanted = list(found)  # their one constant is the offset
    if rule == "BatchNormalization" and fault == FAULTS[0]:
        wanted = [1]
    if rule == "Gather":
        wanted = [0]
    if not wanted:
        return rewrite
    index = wanted[0]
    array = found[index]
    whole = np.array(array.numpy() if isinstance(array, Scaled) else array, np.float64)
    axis = _channel_axis(rule, whole)
    place = tuple(DEAD if k == axis else slice(None) for k in range(whole.ndim))
    whole[place] = whole[place] * 1.01 if fault == FAULTS[0] else 0.0
    worked.append(True)
    if index == BIAS and rewrite.bias is not None:
        return Rewrite(rewrite.parameters, whole)
    return Rewrite({**rewrite.parameters, index: whole}, rewrite.bias)


def _channel_axis(rule: str, array: np.ndarray) -> int:
    """The axis of a parameter that its output's channels lie along."""
    if array.ndim == 1:
        return 0
    if rule in ("Gemm", "MatMul", "Gather", "ConvTranspose", "LSTM", "GRU", "RNN"):
        return 1
    return array.ndim - 3 if rule in ("Add", "Sub", "Mul", "Div", "Max") else 0


def exported(rule: str, folder: Path) -> FoldExportReport:
    """What `bnfold fold-export` reports of a rule's network."""
    path = folder / "source.onnx"
    onnx.save(model_of(rule), path)
    with _moved_behind_relus() if rule == "Max" else contextlib.nullcontext():
        return fold_export(path, folder / "out", force=True, threads=1)


@contextlib.contextmanager
def _moved_behind_relus() -> Iterator[None]:
    """The fold as `--measure` may choose it."""
    original = bnfold.folding.fold_model

    def fold_model(model: Any, **_: Any) -> Any:
        return original(model, move_behind_relus=True)

    with _patched(bnfold.folding, "fold_model", fold_model):
        yield


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("rules", nargs="*", metavar="RULE", default=list(NETWORKS))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    arguments = parser.parse_args()
    missing = sorted({op for op, rule in RULES.items() if rule.rewrite is not None} - set(NETWORKS))
    rows = []
    good = not missing
    for rule in arguments.rules:
        for fault in ("none", *SPECIAL.get(rule, FAULTS)):
            with tempfile.TemporaryDirectory() as name:
                cells, passed = _row(rule, fault, Path(name))
            good &= passed
            rows.append((rule, fault, *cells))
            print(markdown_line(rows[-1]), flush=True)
    if missing:
        print(f"no network for {', '.join(missing)}")
    if arguments.markdown is not None:
        arguments.markdown.write_text(markdown_table(COLUMNS, rows) + "\n", encoding="utf-8")
    return 0 if good else 1


def _row(rule: str, fault: str, folder: Path) -> tuple[tuple[str, str, str], bool]:
    """What the last columns say, and whether it is as it should be."""
    if fault == "none":
        report = exported(rule, folder)
        facts = report.certificate
        proven = facts is not None and facts.certified == facts.regions
        text = "right" if report.passed and proven else f"WRONG: {report.verify.failure}"
        return (text, "", ""), report.passed and proven
    with faulty(rule, fault) as worked:
        report = exported(rule, folder)
    if not worked:
        return ("no place for it", "", ""), fault != FAULTS[0]
    departure = report.verify.departure
    layer = "" if departure is None else departure.layer
    named = layer in {f"layer_{name}" for name in NETWORKS[rule].written}
    caught = "yes" if not report.passed else "MISSED"
    return (caught, layer, "yes" if named else "NO"), not report.passed and named


if __name__ == "__main__":
    sys.exit(main())
