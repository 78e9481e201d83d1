"""One node under test: its operands, attributes and opset, as a graph and as arrays.

A generator of cases yields, for one operator, nodes over every attribute that the operator's rule reads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, defs, helper, numpy_helper

from bnfold.graph.reading import read_model

__all__ = [
    "CASES",
    "Case",
    "Data",
    "Lengths",
    "Tokens",
    "all_cases",
    "cases",
    "each_case",
    "feed_of",
    "ints",
    "model_of",
    "node_of",
    "versions",
]

# ONNX Runtime's oldest opset, and the newest one that it says it supports.
OLDEST, NEWEST = 7, 25


@dataclass(frozen=True)
class Data:
    """An operand whose value is not known; a string is a length that is not known, `size` what it is in this test.

    `softmax`: the operand is the Softmax along this axis of another tensor, `through` says what follows it.
    """

    shape: tuple[int | str, ...]
    softmax: int | None = None
    through: str | None = None
    size: int = 3

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(self.size if isinstance(k, str) else k for k in self.shape)


@dataclass(frozen=True)
class Tokens:
    """An operand of integers below `high` that is not known."""

    shape: tuple[int, ...]
    high: int


@dataclass(frozen=True)
class Lengths:
    """An operand of integers that are not known to the rule."""

    values: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.values),)


Input = Data | Tokens | Lengths | np.ndarray | None


@dataclass(frozen=True)
class Case:
    """A node. Units are free along every axis of its data that is known, one axis at a time and all of them at once.

    Args:
        opsets: the first and the last opset in which the node is valid as it is written here.
        refused: the axes along which the units may not differ: the rule then refuses.
        pinned_output: the output has the units of the source whatever the input's are.
        lax: restrictions of the rule that the operator does not need: `scale`, `offset`, `positive`.
    """

    op_type: str
    inputs: tuple[Input, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opsets: tuple[int, int] = (OLDEST, NEWEST)
    opset: int = 0
    n_outputs: int = 1
    refused: frozenset[int] = frozenset()
    pinned_output: bool = False
    lax: frozenset[str] = frozenset()
    name: str = ""

    @property
    def label(self) -> str:
        shown = [f"{k}={v}".replace(" ", "") for k, v in self.attributes.items()]
        shapes = [str(x.shape).replace(" ", "") for x in self.inputs if isinstance(x, Data)]
        return "-".join([self.op_type, str(self.opset), self.name, *shapes, *shown]).replace("--", "-")


Generator = Callable[[np.random.Generator], Iterator[Case]]
CASES: dict[str, Generator] = {}


def cases(*op_types: str) -> Callable[[Callable[[str, np.random.Generator], Iterator[Case]]], Any]:
    """Register a generator of cases for operators."""

    def register(function: Callable[[str, np.random.Generator], Iterator[Case]]) -> Any:
        for op_type in op_types:
            assert op_type not in CASES, f"two generators for {op_type}"
            CASES[op_type] = lambda rng, op_type=op_type: function(op_type, rng)
        return function

    return register


def each_case(check: Callable[[Case], None]) -> Any:
    """A test per operator that makes the check of all its cases; a failure says of which."""

    @pytest.mark.parametrize("op_type", CASES)
    @functools.wraps(check)
    def test(op_type: str) -> None:
        for case in all_cases(op_type):
            try:
                check(case)
            except Exception as error:
                error.add_note(f"case: {case.label}")
                raise

    del test.__wrapped__  # whose argument pytest would ask for
    return test


@functools.cache
def versions(op_type: str) -> list[int]:
    """The opsets from OLDEST to NEWEST in which the operator's definition changed, the oldest that is known first."""
    found = {
        max(schema.since_version, OLDEST)
        for schema in defs.get_all_schemas_with_history()
        if schema.name == op_type and schema.domain == "" and schema.since_version <= NEWEST and not schema.deprecated
    }
    if op_type == "GroupNormalization":
        found.add(18)  # deprecated, for its scale per group, and written by exporters all the same
    return sorted(found)


@functools.cache
def all_cases(op_type: str) -> tuple[Case, ...]:
    """The cases of an operator, spread over the opsets in which they are valid."""
    generated = list(CASES[op_type](np.random.default_rng(sum(map(ord, op_type)))))
    placed = []
    for k, case in enumerate(generated):
        able = [v for v in versions(op_type) if v <= case.opsets[1]]
        older = [v for v in able if v < case.opsets[0]]
        able = [v for v in able if v >= case.opsets[0]] or [case.opsets[0] if older else able[0]]
        placed.append(replace(case, opset=able[k % len(able)]))
    reached = {case.opset for case in placed}
    for version in versions(op_type):  # those that the turns above have left out
        if version not in reached:
            first = next(case for case in generated if case.opsets[0] <= version <= case.opsets[1])
            placed.append(replace(first, opset=version))
    return tuple(placed)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def names_of(case: Case) -> list[str]:
    return ["" if x is None else f"in{k}" for k, x in enumerate(case.inputs)]


def node_of(case: Case, n_inputs: int | None = None) -> onnx.NodeProto:
    names = names_of(case)
    names += [f"in{k}" for k in range(len(names), n_inputs or 0)]
    outputs = [f"y{k or ''}" for k in range(case.n_outputs)]
    return helper.make_node(case.op_type, names, outputs, name=f"the_{case.op_type.lower()}", **case.attributes)


def feed_of(case: Case, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Values of every operand that is not constant, float64."""
    feed = {}
    for name, x in zip(names_of(case), case.inputs, strict=True):
        if isinstance(x, Tokens):
            feed[name] = rng.integers(0, x.high, x.shape)
        elif isinstance(x, Lengths):
            feed[name] = np.array(x.values, np.int64)
        elif isinstance(x, Data):
            value = rng.standard_normal(x.lengths)
            if x.softmax is not None:
                value = np.exp(value) / np.exp(value).sum(axis=x.softmax, keepdims=True)
            feed[name] = value
    return feed


def _given(case: Case, element_type: int) -> tuple[list[onnx.NodeProto], list[onnx.ValueInfoProto]]:
    """The graph's inputs, and the operators that make a Softmax of one."""
    nodes, inputs = [], []
    for name, x in zip(names_of(case), case.inputs, strict=True):
        if isinstance(x, Tokens | Lengths):
            inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, x.shape))
        elif isinstance(x, Data) and x.softmax is None:
            inputs.append(helper.make_tensor_value_info(name, element_type, x.shape))
        elif isinstance(x, Data):
            inputs.append(helper.make_tensor_value_info(f"{name}.logits", element_type, _before(x)))
            nodes += _softmax(name, x)
    return nodes, inputs


def _before(x: Data) -> tuple[int | str, ...]:
    return (*x.shape[:-2], x.shape[-1], x.shape[-2]) if x.through == "Transpose" else x.shape


def _softmax(name: str, x: Data) -> list[onnx.NodeProto]:
    assert x.softmax is not None
    if x.through is None:
        return [helper.make_node("Softmax", [f"{name}.logits"], [name], axis=x.softmax)]
    axis = {-1: -2, -2: -1}[x.softmax] if x.through == "Transpose" else x.softmax
    rank = len(x.shape)
    perm = {"perm": [*range(rank - 2), rank - 1, rank - 2]} if x.through == "Transpose" else {}
    return [
        helper.make_node("Softmax", [f"{name}.logits"], [f"{name}.soft"], axis=axis),
        helper.make_node(x.through, [f"{name}.soft"], [name], **perm),
    ]


def model_of(case: Case, *, dtype: Any = np.float64) -> onnx.ModelProto:
    """A graph of the node, its constants stored in `dtype`, with inferred shapes; it is checked."""
    element_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes, inputs = _given(case, element_type)
    constants = [
        numpy_helper.from_array(x.astype(dtype) if x.dtype == np.float64 else x, name)
        for name, x in zip(names_of(case), case.inputs, strict=True)
        if isinstance(x, np.ndarray)
    ]
    node = node_of(case)
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    if case.op_type == "GroupNormalization":  # whose shape ONNX does not infer
        (x,) = (x for x in case.inputs if isinstance(x, Data))
        outputs = [helper.make_tensor_value_info(node.output[0], element_type, x.shape)]
    graph = helper.make_graph([*nodes, node], "rule", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    if case.op_type != "GroupNormalization" or case.opset > 20:  # deprecated in opset 18, and met there
        onnx.checker.check_model(model)
    return model


def graph_of(case: Case) -> tuple[ir.Model, ir.Node]:
    """The graph as the fold reads it, and the node in it."""
    model = read_model(model_of(case))
    return model, next(node for node in model.graph if node.name == f"the_{case.op_type.lower()}")


def grid(**choices: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the choices."""
    found: list[dict[str, Any]] = [{}]
    for key, values in choices.items():
        found = [{**one, key: value} for one in found for value in values]
    yield from found
