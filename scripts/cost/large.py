"""A large file with external data, and the memory of a process that reads it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

__all__ = ["GB", "status", "write_large"]

WIDTH = 4096  # 64 MiB a layer
GB = 10**9


def write_large(folder: Path, n_bytes: float) -> Path:
    """A network of Gemm-BN-ReLU, its weights in external data; one layer is in memory at a time."""
    rng = np.random.default_rng(0)
    n_layers = math.ceil(n_bytes / (4 * WIDTH * WIDTH))
    nodes, initializers, x = [], [], "x"
    with (folder / "large.onnx.data").open("wb") as data:
        for k in range(n_layers):
            weight = TensorProto(name=f"fc{k}.weight", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
            array = rng.standard_normal((WIDTH, WIDTH), np.float32) / np.float32(math.sqrt(WIDTH))
            weight.data_location = TensorProto.EXTERNAL
            places = {"location": "large.onnx.data", "offset": data.tell(), "length": array.nbytes}
            weight.external_data.extend(onnx.StringStringEntryProto(key=a, value=str(b)) for a, b in places.items())
            data.write(array.tobytes())
            norm = {
                f"bn{k}.{part}": rng.uniform(0.5, 1.5, WIDTH).astype(np.float32)
                for part in ("weight", "bias", "running_mean", "running_var")
            }
            initializers += [weight, *(onnx.numpy_helper.from_array(array, name) for name, array in norm.items())]
            nodes += [
                helper.make_node("Gemm", [x, weight.name], [f"g{k}"], name=f"fc{k}", transB=1),
                helper.make_node("BatchNormalization", [f"g{k}", *norm], [f"b{k}"], name=f"bn{k}"),
                helper.make_node("Relu", [f"b{k}"], [f"r{k}"], name=f"relu{k}"),
            ]
            x = f"r{k}"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("x", x)]
    graph = helper.make_graph(nodes, "large", values[:1], values[1:], initializers)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), folder / "large.onnx")
    return folder / "large.onnx"


def status(peaks: dict[str, int], pid: int | str = "self") -> None:
    """Raise the peaks to the kinds of resident memory that Linux tells apart, and to their sum (VmRSS), in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.startswith(("Rss", "VmRSS")):
            peaks[key] = max(peaks.get(key, 0), 1024 * int(value.split()[0]))
