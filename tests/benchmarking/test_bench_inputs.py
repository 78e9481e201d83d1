"""Inputs for timing fit the file, or the file is refused with the option that helps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bnfold.benchmarking.inputs import check_same_inputs, input_specs, random_inputs, resolve_shapes
from bnfold.errors import InputRefused
from bnfold.records import InputSpec

IMAGE = InputSpec("x", (None, 3, 8, 8), "float32")
FREE = InputSpec("x", (None, 3, None, None), "float32")
FIXED = InputSpec("x", (4, 3), "float32")
TABLE = InputSpec("table", (5, 2), "float32")
SCALAR = InputSpec("s", (), "float32")


def session_with(*nodes: tuple[str, list[Any], str]) -> Any:
    """Stands for a session with inputs (name, shape, ONNX Runtime's type)."""
    inputs = [SimpleNamespace(name=name, shape=shape, type=kind) for name, shape, kind in nodes]
    return SimpleNamespace(get_inputs=lambda: inputs)


def test_specs_of_a_session() -> None:
    session = session_with(("x", ["batch", 3, None], "tensor(float16)"), ("i", [2], "tensor(uint8)"))
    assert input_specs(session, "f") == (InputSpec("x", (None, 3, None), "float16"), InputSpec("i", (2,), "uint8"))


@pytest.mark.parametrize("kind", ["tensor(string)", "tensor(bfloat16)", "seq(tensor(float))"])
def test_types_without_numpy_values_are_refused(kind: str) -> None:
    with pytest.raises(InputRefused, match=r"input x in net\.onnx"):
        input_specs(session_with(("x", [1], kind)), "net.onnx")


@pytest.mark.parametrize(
    ("specs", "given", "shapes"),
    [
        ([IMAGE], None, {"x": (7, 3, 8, 8)}),
        ([IMAGE, TABLE, SCALAR], None, {"x": (7, 3, 8, 8), "table": (5, 2), "s": ()}),
        ([FREE], [(1, 3, 32, 16)], {"x": (7, 3, 32, 16)}),
        ([IMAGE], [(1, 3, 8, 8)], {"x": (7, 3, 8, 8)}),
        ([SCALAR], None, {"s": ()}),
    ],
)
def test_shapes_at_batch_seven(specs: list[InputSpec], given: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    assert resolve_shapes(specs, 7, given, "f") == shapes


def test_a_fixed_batch_is_kept_at_its_own_size() -> None:
    assert resolve_shapes([FIXED], 4, None, "f") == {"x": (4, 3)}


@pytest.mark.parametrize(
    ("specs", "given", "message"),
    [
        ([FREE], None, r"found \?x3x\?x\?, .*--input-shape"),
        (
            [FREE],
            [(1, 3, 32)],
            r"given for input x does not fit .*found 1x3x32, expected \?x3x\?x\?; give --input-shape",
        ),
        ([IMAGE], [(1, 4, 8, 8)], r"does not fit the file in net\.onnx: found 1x4x8x8, expected \?x3x8x8"),
        ([SCALAR], [(1, 3)], "found 1x3, expected a single number"),
        ([IMAGE, TABLE], [(1, 3, 8, 8)], "found 1 of --input-shape, expected 2, for x, table"),
        ([FIXED], None, "found batch 4, expected batch 7; use --batch 4"),
    ],
)
def test_shapes_that_cannot_be_known(specs: list[InputSpec], given: Any, message: str) -> None:
    with pytest.raises(InputRefused, match=message) as caught:
        resolve_shapes(specs, 7, given, "net.onnx")
    assert "net.onnx" in str(caught.value)


def test_files_need_the_same_inputs() -> None:
    check_same_inputs(["a", "b"], [(IMAGE,), (FREE,)])
    for other in (InputSpec("y", IMAGE.shape, "float32"), InputSpec("x", IMAGE.shape, "float16")):
        with pytest.raises(InputRefused, match=r"different inputs in b: found .*, expected x \(float32\), as a"):
            check_same_inputs(["a", "b"], [(IMAGE,), (other,)])


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "uint8", "bool"])
def test_values_have_the_type_and_follow_the_seed(dtype: str) -> None:
    spec = InputSpec("x", (None, 50), dtype)
    one, same, other = (random_inputs([spec], {"x": (4, 50)}, seed)["x"] for seed in (1, 1, 2))
    assert one.dtype == dtype
    assert one.shape == (4, 50)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_integers_are_indices_of_any_table() -> None:
    values = random_inputs([InputSpec("i", (None, 50), "int64")], {"i": (4, 50)}, 0)["i"]
    assert set(values.ravel()) == {0, 1}


def test_sizes_go_by_the_names_of_axes() -> None:
    session = session_with(("x", ["batch", "time", 4], "tensor(float)"), ("state", [2, "batch", None], "tensor(float)"))
    specs = input_specs(session, "f", {"time": 5, "batch": 3, "state[2]": 7})
    assert [spec.shape for spec in specs] == [(3, 5, 4), (2, 3, 7)]
    assert [spec.shape for spec in input_specs(session, "f", {"time": 5})] == [(None, 5, 4), (2, None, None)]


def test_a_name_that_no_axis_has_is_refused() -> None:
    session = session_with(("x", ["batch", "time", 4], "tensor(float)"))
    with pytest.raises(InputRefused, match=r"no dynamic axis called tiem in net\.onnx: found batch, time"):
        input_specs(session, "net.onnx", {"tiem": 5})
