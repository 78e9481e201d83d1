"""Small ONNX graphs with BatchNorms, node by node, with parameters of two kinds: dyadic and random.

Dyadic parameters are small integers times powers of two, with `var + epsilon = 4**k` and gamma a signed power of two.
All arithmetic on them is exact, in the original and in the folded graph, whatever its order: folding must be bit-exact.
Random parameters are what trained networks hold: positive and negative gammas, exact zeros, gammas of 1e-12.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["EPSILON", "Gammas", "Net", "Parameters"]

Gammas = Literal["positive", "mixed", "zeros", "tiny"]
# A dyadic epsilon: exact in the float32 of the attribute, and small against the variance.
EPSILON = 2.0**-10


class Parameters:
    """Draws parameters of one kind from a seed."""

    def __init__(self, seed: int, *, dyadic: bool, gammas: Gammas = "mixed") -> None:
        self.rng = np.random.default_rng(seed)
        self.dyadic = dyadic
        self.gammas = gammas

    def array(self, *shape: int) -> np.ndarray:
        """Weights, biases, inputs."""
        if self.dyadic:
            return self.rng.integers(-3, 4, shape) / 2.0
        return self.rng.standard_normal(shape)

    def factor(self, *shape: int) -> np.ndarray:
        """Nonzero factors of both signs: powers of two where dyadic, so that dividing by them is exact too."""
        sign = self.rng.choice([-1.0, 1.0], shape)
        if self.dyadic:
            return sign * 2.0 ** self.rng.integers(-1, 2, shape)
        return sign * self.rng.uniform(0.5, 2.0, shape)

    def gamma(self, size: int) -> np.ndarray:
        """Scales of a BatchNorm, as `gammas` says."""
        gamma = np.abs(self.factor(size))
        if self.gammas != "positive":
            gamma *= self.rng.choice([-1.0, 1.0], size)
        if self.gammas == "zeros":
            gamma *= self.rng.random(size) < 0.7
        if self.gammas == "tiny":
            gamma = np.where(self.rng.random(size) < 0.3, np.copysign(2.0**-12 if self.dyadic else 1e-12, gamma), gamma)
        return gamma

    def batchnorm(self, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """gamma, beta, mean, variance."""
        rng = self.rng
        variance = 4.0 ** rng.integers(-1, 2, size) - EPSILON if self.dyadic else rng.uniform(0.2, 3.0, size)
        return self.gamma(size), self.array(size), self.array(size), variance


class Net:
    """A graph under construction; every method adds one node and returns the name of its output.

    Args:
        parameters: where constants come from.
        inputs: shape by input name; a string is a dynamic axis.
        dtype: of the inputs and of every constant.
        opset: of the default domain.
    """

    def __init__(
        self,
        parameters: Parameters,
        inputs: dict[str, Sequence[int | str]],
        *,
        dtype: str = "float64",
        opset: int = 20,
    ) -> None:
        self.parameters = parameters
        self.dtype = np.dtype(dtype)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.extra_inputs: list[onnx.ValueInfoProto] = []
        self.stated: dict[str, Sequence[int | str]] = {}  # shapes of values that ONNX does not infer

    @property
    def element_type(self) -> int:
        return helper.np_dtype_to_tensor_dtype(self.dtype)

    def constant(self, array: Any, name: str | None = None) -> str:
        """A float constant of the graph's type."""
        return self.tensor(np.asarray(array, dtype=np.float64).astype(self.dtype), name)

    def integers(self, values: Any) -> str:
        return self.tensor(np.asarray(values, dtype=np.int64))

    def tensor(self, array: np.ndarray, name: str | None = None) -> str:
        name = name or f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op_type: str, inputs: Sequence[str], *, outputs: int = 1, name: str = "", **attributes: Any) -> Any:
        """The output's name, or the list of them if there are several."""
        index = len(self.nodes)
        name = name or f"{op_type.lower()}_{index}"
        names = [f"{name}.out{k or ''}" for k in range(outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, name=name, **attributes))
        return names[0] if outputs == 1 else names

    def conv(
        self, x: str, c_in: int, c_out: int, kernel: Sequence[int] = (1, 1), *, bias: bool = True, **attributes: Any
    ) -> str:
        p = self.parameters
        weight = p.array(c_out, c_in // attributes.get("group", 1), *kernel)
        extra = [self.constant(p.array(c_out))] if bias else []
        return self.node("Conv", [x, self.constant(weight), *extra], **attributes)

    def conv_transpose(
        self, x: str, c_in: int, c_out: int, kernel: Sequence[int] = (1, 1), *, bias: bool = True, **attributes: Any
    ) -> str:
        p = self.parameters
        weight = p.array(c_in, c_out // attributes.get("group", 1), *kernel)
        extra = [self.constant(p.array(c_out))] if bias else []
        return self.node("ConvTranspose", [x, self.constant(weight), *extra], **attributes)

    def matmul(self, x: str, c_in: int, c_out: int) -> str:
        return self.node("MatMul", [x, self.constant(self.parameters.array(c_in, c_out))])

    def gemm(self, x: str, c_in: int, c_out: int, *, bias: Sequence[int] | None, **attributes: Any) -> str:
        """`bias` is the shape of C, None for no C."""
        p = self.parameters
        weight = p.array(c_out, c_in) if attributes.get("transB") else p.array(c_in, c_out)
        extra = [] if bias is None else [self.constant(p.array(*bias))]
        return self.node("Gemm", [x, self.constant(weight), *extra], **attributes)

    def batchnorm(self, x: str, size: int, *, name: str = "", epsilon: float | None = EPSILON, **changes: Any) -> str:
        """`changes` replaces gamma, beta, mean or variance; other names are attributes. No epsilon: ONNX's default."""
        drawn = dict(zip(("gamma", "beta", "mean", "variance"), self.parameters.batchnorm(size), strict=True))
        arrays = [changes.pop(key, value) for key, value in drawn.items()]
        constants = [self.constant(np.broadcast_to(np.asarray(a, np.float64), (size,))) for a in arrays]
        if epsilon is not None:
            changes["epsilon"] = epsilon
        return self.node("BatchNormalization", [x, *constants], name=name, **changes)

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The checked model; its outputs have the types and shapes that ONNX infers."""
        inputs = [helper.make_tensor_value_info(n, self.element_type, s) for n, s in self.inputs.items()]
        graph = helper.make_graph(
            self.nodes,
            "net",
            inputs + self.extra_inputs,
            [helper.make_tensor_value_info(name, self.element_type, None) for name in outputs],
            self.initializers,
            value_info=[helper.make_tensor_value_info(n, self.element_type, s) for n, s in self.stated.items()],
        )
        opset = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=10, producer_name="tests")
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        for output, found in zip(model.graph.output, inferred.graph.output, strict=True):
            output.CopyFrom(found)
        onnx.checker.check_model(model, full_check=True)
        return model

    def feed(self, batch: int = 2) -> dict[str, np.ndarray]:
        """One value of each input, dynamic axes at `batch`."""
        sizes = {n: [batch if isinstance(k, str) else k for k in shape] for n, shape in self.inputs.items()}
        return {name: self.parameters.array(*size) for name, size in sizes.items()}
