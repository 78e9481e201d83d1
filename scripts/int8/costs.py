"""Measure what layers cost in integers and in float, and what a border between the two costs: the planner's table.

    python scripts/int8/costs.py OUT.json [--budget SECONDS]

OUT.json is bnfold/quantisation/costs/TARGET.json. What it holds already is not measured again, so that a run that ended
early (--budget) goes on where it stopped. A layer's time is the slope of a chain of equal ones, convolution and Relu
each, one thread, batch 1:

    float_ns  (T(6) - T(2)) / 4 of a chain in float          int8_ns   the same in integers
    border_ns of a chain in which every other layer is float: what it takes longer than its layers, for each of those

T is the median of `--rounds` runs of each session, in turns, and the smaller one of two sessions.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bnfold.quantisation.first_recipe import recipe_of
from bnfold.quantisation.placement import place
from bnfold.quantisation.prepare import prepared
from bnfold.quantisation.targets import this_target
from bnfold.quantisation.write import write
from bnfold.runtime import open_session
from bnfold.runtime.machine import cpu_model

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = "bnfold.int8-costs/1"
LONG, SHORT = 6, 2
N_SESSIONS = 2
SHAPES: dict[str, tuple[tuple[int, int, int], ...]] = {  # channels, side, kernel
    "dense": (
        (16, 112, 3), (32, 112, 3), (32, 56, 3), (64, 56, 3), (128, 56, 3), (64, 28, 3), (128, 28, 3), (256, 28, 3),
        (128, 14, 3), (256, 14, 3), (512, 14, 3), (256, 7, 3), (512, 7, 3),
    ),
    "pointwise": (
        (16, 112, 1), (32, 112, 1), (32, 56, 1), (64, 56, 1), (128, 56, 1), (64, 28, 1), (128, 28, 1), (256, 28, 1),
        (128, 14, 1), (256, 14, 1), (512, 14, 1), (256, 7, 1), (512, 7, 1), (1024, 7, 1),
    ),
    "depthwise": (
        (32, 112, 3), (96, 112, 3), (96, 56, 3), (144, 56, 3), (144, 28, 3), (240, 28, 3), (240, 14, 3), (576, 14, 3),
        (576, 7, 3), (960, 7, 3), (72, 56, 5), (144, 28, 5), (240, 14, 5), (672, 14, 5), (672, 7, 5), (1152, 7, 5),
    ),
    "grouped": ((128, 56, 3), (256, 28, 3), (512, 14, 3), (1024, 7, 3)),
    "gate": ((32, 1, 1), (128, 1, 1), (512, 1, 1), (1280, 1, 1)),
    "add": (
        (32, 112, 1), (24, 56, 1), (64, 56, 1), (256, 56, 1), (128, 28, 1), (512, 28, 1), (256, 14, 1), (96, 14, 1),
        (512, 7, 1),
    ),
}  # fmt: skip
GROUPS = 32  # of a grouped convolution


def chain(kind: str, channels: int, side: int, kernel: int, n: int) -> onnx.ModelProto:
    """n equal layers and a last one, which writes the output and stays float; of `add`, 1x1 and a residual each."""
    rng = np.random.default_rng(0)
    group = {"depthwise": channels, "grouped": GROUPS}.get(kind, 1)
    nodes: list[onnx.NodeProto] = []
    constants: list[TensorProto] = []
    x = "x"
    n_layers = n + (3 if kind == "add" else 1)  # residuals stand between layers in integers
    for k in range(n_layers):
        shape = (channels, channels // group, kernel, kernel)
        fan_in = math.prod(shape[1:])
        weight = (rng.standard_normal(shape) * math.sqrt(2 / fan_in)).astype(np.float32)
        constants += [
            numpy_helper.from_array(weight, f"w{k}"),
            numpy_helper.from_array(np.zeros(channels, np.float32), f"b{k}"),
        ]
        nodes.append(
            helper.make_node(
                "Conv",
                [x, f"w{k}", f"b{k}"],
                [f"c{k}"],
                name=f"conv{k}",
                group=group,
                pads=[kernel // 2] * 4,
                kernel_shape=[kernel] * 2,
            )
        )
        y = f"c{k}"
        if kind == "add" and 1 <= k <= n:
            nodes.append(helper.make_node("Add", [y, x], [f"a{k}"], name=f"add{k}"))
            y = f"a{k}"
        if k < n_layers - 1:
            nodes.append(helper.make_node("Relu", [y], [f"r{k}"], name=f"relu{k}"))
            y = f"r{k}"
        x = y
    size = [1, channels, side, side]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in ("x", x)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def in_integers(model: onnx.ModelProto, kept: list[str]) -> onnx.ModelProto:
    """The chain in integers, all ranges the same, but for the layers that are kept in float."""
    graph = prepared(model, where="chain")
    placement = place(graph.graph, dict.fromkeys(kept, "cost"))
    last = model.graph.node[-1].name
    wanted = {node.name for node in model.graph.node if node.op_type != "Relu"} - {last, *kept}
    if set(placement.nodes) != wanted:
        raise RuntimeError(f"in integers must be {sorted(wanted)}, got {sorted(placement.nodes)}")
    recipe = recipe_of(graph.graph, placement, weights="per-channel", target=this_target())
    proto = ir.to_proto(write(graph, recipe).model)
    del proto.graph.value_info[:]
    return proto


def entry(kind: str, channels: int, side: int, kernel: int, rounds: int) -> dict[str, Any]:
    """A line of the table; that of `add` is what the additions cost beside the layer."""
    shape = (channels, side, kernel)
    files: dict[str, onnx.ModelProto] = {}
    for n in (SHORT, LONG):
        model = chain(kind, *shape, n)
        files[f"float {n}"] = model
        files[f"int8 {n}"] = in_integers(model, [])
        if kind == "add":
            plain = chain("pointwise", *shape, n)
            files[f"plain float {n}"], files[f"plain int8 {n}"] = plain, in_integers(plain, [])
        else:
            files[f"mixed {n}"] = in_integers(model, [f"conv{k}" for k in range(1, n, 2)])
    times = timed({name: file.SerializeToString() for name, file in files.items()}, rounds, (1, channels, side, side))

    def slope(name: str) -> float:
        return (times[f"{name} {LONG}"] - times[f"{name} {SHORT}"]) / (LONG - SHORT)

    found: dict[str, Any] = {"layer": kind, "kernel": kernel, "channels": channels, "positions": side**2}
    if kind == "grouped":
        found["groups"] = GROUPS
    if kind == "add":
        own = {"float": slope("float") - slope("plain float"), "int8": slope("int8") - slope("plain int8")}
        return found | {f"{name}_ns": max(0, round(ns)) for name, ns in own.items()}
    exact, integer, mixed = slope("float"), slope("int8"), slope("mixed")
    border = max(0.0, 2 * mixed - exact - integer)
    return found | {"float_ns": round(exact), "int8_ns": round(integer), "border_ns": round(border)}


def timed(files: dict[str, bytes], rounds: int, shape: tuple[int, ...]) -> dict[str, float]:
    """Nanoseconds of each file, by name."""
    x = {"x": np.random.default_rng(1).random(shape, dtype=np.float32)}
    best: dict[str, float] = {}
    for _ in range(N_SESSIONS):
        sessions = {name: open_session(file, threads=1) for name, file in files.items()}
        runs: dict[str, list[int]] = {name: [] for name in files}
        for session in sessions.values():
            session.run(None, x)
        for _ in range(rounds):
            for name, session in sessions.items():
                start = time.perf_counter_ns()
                session.run(None, x)
                runs[name].append(time.perf_counter_ns() - start)
        for name, own in runs.items():
            best[name] = min(best.get(name, math.inf), median(own))
    return best


def main(show: Callable[[str], None] = print) -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds, about")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    environment = {
        "cpu": cpu_model(),
        "onnxruntime": onnxruntime.__version__,
        "machine": platform.machine(),
        "threads": 1,
    }
    table: dict[str, Any] = {"schema": SCHEMA, "target": this_target(), "environment": environment, "entries": []}
    if arguments.out.exists():
        table = json.loads(arguments.out.read_text())
        if table["environment"] != environment:
            raise SystemExit(f"{arguments.out} was measured on {table['environment']}, this is {environment}")
    show(json.dumps(environment))
    keys = ("layer", "kernel", "channels", "positions")
    done = {tuple(own[key] for key in keys) for own in table["entries"]}
    start = time.perf_counter()
    for kind, shapes in SHAPES.items():
        for channels, side, kernel in shapes:
            if (kind, kernel, channels, side**2) in done or time.perf_counter() - start > arguments.budget:
                continue
            own = entry(kind, channels, side, kernel, arguments.rounds)
            table["entries"].append(own)
            show(json.dumps(own))
            lines = ",\n  ".join(json.dumps(each) for each in table["entries"])
            head = json.dumps({key: value for key, value in table.items() if key != "entries"})[1:-1]
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(f'{{{head},\n "entries": [\n  {lines}\n]}}\n')


if __name__ == "__main__":
    main()
