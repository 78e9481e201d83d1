"""Verify a network and its fold, for another process to see what memory that takes.

    python tests/verification/verified_network.py FOLDER

The libraries are in memory before: a small network of the same kind is verified first. Then a line is printed, and one
is waited for.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.runtime.memory import give_back_memory

DEPTH = 8


def network(width: int) -> onnx.ModelProto:
    """Gemm, BN and ReLU, eight times, of `width` channels."""
    rng = np.random.default_rng(0)
    nodes, tensors = [], []
    for k in range(DEPTH):
        statistics = {name: rng.uniform(0.5, 1.5, width) for name in ("gamma", "beta", "mean", "var")}
        weight = rng.standard_normal((width, width)).astype(np.float32) / np.sqrt(width, dtype=np.float32)
        tensors.append(numpy_helper.from_array(weight, f"w{k}"))
        for name, values in statistics.items():
            tensors.append(numpy_helper.from_array(values.astype(np.float32), f"{name}{k}"))
        nodes += [
            helper.make_node("Gemm", [f"x{k}", f"w{k}"], [f"g{k}"]),
            helper.make_node("BatchNormalization", [f"g{k}", *(f"{name}{k}" for name in statistics)], [f"b{k}"]),
            helper.make_node("Relu", [f"b{k}"], [f"x{k + 1}"]),
        ]
    value = helper.make_tensor_value_info
    ends = [value(name, TensorProto.FLOAT, ["n", width]) for name in ("x0", f"x{DEPTH}")]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def verify(folder: Path) -> None:
    """Verify the two files of a folder."""
    verdict = bnfold.verify(folder / "unfolded.onnx", folder / "folded.onnx", threads=1)
    if not verdict.passed or verdict.certificate is None:
        raise SystemExit(f"the fold is not right: {verdict}")


def write(folder: Path, width: int) -> None:
    """Write a network and its fold."""
    folder.mkdir()
    model = network(width)
    onnx.save(model, folder / "unfolded.onnx")
    folded, _ = bnfold.fold(model)
    folded.producer_name = "bnfold"  # as in the files of fold-export, which are proven too
    onnx.save(folded, folder / "folded.onnx")


def main() -> None:
    """Verify the small one, wait, and verify the large one."""
    folder = Path(sys.argv[1])
    write(folder / "small", 8)
    write(folder / "large", 1024)
    verify(folder / "small")
    gc.collect()
    give_back_memory()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    verify(folder / "large")


if __name__ == "__main__":
    main()
