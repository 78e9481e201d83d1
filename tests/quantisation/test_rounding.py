"""What is known of samples decides how weights are rounded and where ranges end."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_networks import with_parameters

from bnfold.derivation.integer_parameters import _spread
from bnfold.quantisation import moments
from bnfold.quantisation.moments import MOST_WEIGHTS, PRIOR, input_moments
from bnfold.quantisation.nearest_plane import nearest_plane
from bnfold.quantisation.ranges import ranges_of_least_error
from bnfold.records import InputSpec

if TYPE_CHECKING:
    from collections.abc import Collection

Array = np.ndarray


def correlated(n: int, seed: int, rows: int = 500) -> Array:
    """Moments of n inputs that have two thirds of their power in common."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, n)) + rng.standard_normal((rows, 1)) * np.sqrt(2)
    return np.asarray(x.T @ x / rows + 0.1 * np.eye(n), np.float32)


def errors(whole: Array, steps: Array, w: Array, h: Array) -> Array:
    """The mean squared error of what each row computes."""
    off = whole * steps[:, None] - w
    return np.asarray(np.einsum("mk,kl,ml->m", off, h.astype(np.float64), off))


# Nearest plane.


def test_independent_inputs_are_rounded_each_by_itself() -> None:
    w = np.random.default_rng(0).standard_normal((5, 90))
    steps = np.abs(w).max(axis=1) / 127
    h = np.diag(np.random.default_rng(1).uniform(0.1, 3, 90)).astype(np.float32)
    np.testing.assert_array_equal(nearest_plane(w, steps, 127, h), np.rint(w / steps[:, None]))


def test_errors_of_inputs_that_have_much_in_common_cancel() -> None:
    w, h = np.random.default_rng(0).standard_normal((40, 150)), correlated(150, 1)
    steps = np.abs(w).max(axis=1) / 127
    own, nearest = (
        errors(whole, steps, w, h) for whole in (nearest_plane(w, steps, 127, h), np.rint(w / steps[:, None]))
    )
    assert own.sum() < 0.4 * nearest.sum()  # 1.1 of 3.1 where nothing of the common part is left


def test_of_a_few_weights_it_is_nearly_the_best_of_all_choices() -> None:
    rng = np.random.default_rng(0)
    w, steps = rng.standard_normal((30, 4)), np.full(30, 0.2)
    h = correlated(4, 1)
    candidates = np.array(list(itertools.product((-1, 0, 1), repeat=4)))
    own = errors(nearest_plane(w, steps, 127, h), steps, w, h)
    each = [np.rint(w / 0.2) + other for other in candidates]
    best = np.min([errors(whole, steps, w, h) for whole in each], axis=0)
    assert own.sum() < 1.2 * best.sum()  # 1.15 of these
    order = np.argsort(np.diag(h))
    pivots = np.diag(np.linalg.cholesky(h.astype(np.float64)[np.ix_(order, order)])) ** 2
    assert (own <= 0.2**2 / 4 * pivots.sum() + 1e-12).all()  # what nearest plane never exceeds


def test_no_integer_is_larger_than_the_limit() -> None:
    w, h = np.random.default_rng(0).standard_normal((9, 30)), correlated(30, 2)
    whole = nearest_plane(w, np.abs(w).max(axis=1) / 127, 63, h)
    assert np.abs(whole).max() == 63


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 200)),
    common=st.floats(0, 3),
    whole=st.booleans(),
    constant=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_the_derivation_takes_the_same_integers(
    size: tuple[int, int], common: float, whole: bool, constant: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    w = rng.integers(-15, 16, size) / 16 if whole else rng.standard_normal(size)
    x = np.maximum(rng.standard_normal((50, size[1])) + common * rng.standard_normal((50, 1)), 0)
    x[:, rng.random(size[1]) < 0.2] = 1.0 if constant else 0.0
    h = np.asarray(x.T @ x / 50 + 0.1 * np.eye(size[1]), np.float32)
    for steps in (np.float32(np.abs(w).max(axis=1) / 127 + 1e-6), np.full(len(w), 1 / 127, np.float32)):
        own = nearest_plane(w, np.float64(steps), 127, h)
        np.testing.assert_array_equal(own, _spread(w, np.float64(steps), 127, h.astype(np.float64)))


# Moments. A sum of at most 924 products in float32 is off by 924 x 6e-8 = 5.5e-5 of it where no signs cancel: rtol is
# twice that. Beside the diagonal they cancel, errors too: atol is for what is nearly 0 there.


NET = '<ir_version: 10, opset_import: ["" : 20]> net '
X = np.random.default_rng(0).standard_normal((7, 4, 11, 12)).astype(np.float32) + 1
SPECS = (InputSpec("x", (None, 4, 11, 12), "float32"),)


def moments_of(model: onnx.ModelProto, x: Array = X, about_mean: Collection[str] = ("layer",)) -> dict[str, Array]:
    specs = (InputSpec("x", (None, *x.shape[1:]), "float32"),)
    return input_moments(ir.from_proto(model), ["layer"], {"x": x}, specs, about_mean=about_mean, threads=1)


def convolution(attributes: str, weight: tuple[int, ...]) -> onnx.ModelProto:
    text = f"{NET}(float[N, 4, 11, 12] x) => (float[N, M, H, W] y) {{ [layer] y = Conv <{attributes}> (x, w) }}"
    return with_parameters(text, {"w": weight})


def expected(rows: Array, taps: int, *, about_mean: bool = True) -> Array:
    own = rows.astype(np.float64) - (rows.mean(axis=0, dtype=np.float64) if about_mean else 0)
    h = own.T @ own / len(rows)
    prior = np.eye(len(h)) + (np.kron(np.eye(len(h) // taps), np.ones((taps, taps))) if taps > 1 else 0)
    return np.asarray(h / np.diag(h).mean() + PRIOR * prior)


@pytest.mark.parametrize("about_mean", [True, False])
@pytest.mark.parametrize(
    ("attributes", "pads", "options"),
    [
        ("pads = [1, 1, 1, 1]", (1, 1, 1, 1), {}),
        ("pads = [2, 0, 1, 1], strides = [2, 1]", (0, 1, 2, 1), {"stride": (2, 1)}),
        ("dilations = [2, 3]", (0, 0, 0, 0), {"dilation": (2, 3)}),
        ('auto_pad = "SAME_UPPER", strides = [2, 2]', (0, 1, 1, 1), {"stride": 2}),
    ],
)
def test_moments_are_those_of_the_windows_that_a_convolution_reads(
    attributes: str, pads: tuple[int, ...], options: dict, about_mean: bool
) -> None:
    found = moments_of(convolution(attributes, (5, 4, 3, 3)), about_mean=["layer"] if about_mean else [])
    padded = torch.nn.functional.pad(torch.from_numpy(X), pads)
    rows = torch.nn.functional.unfold(padded, 3, **options).numpy().transpose(0, 2, 1).reshape(-1, 36)
    np.testing.assert_allclose(found["layer"], expected(rows, 9, about_mean=about_mean), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["Gemm <transB = 1> (x, w)", "MatMul (x, v)"])
def test_moments_of_a_matrix_are_those_of_its_rows(text: str) -> None:
    shape = "N, 7" if "Gemm" in text else "N, 3, 7"
    out = "float[N, 5]" if "Gemm" in text else "float[N, 3, 5]"
    model = with_parameters(
        f"{NET}(float[{shape}] x) => ({out} y) {{ [layer] y = {text} }}", {"w": (5, 7), "v": (7, 5)}
    )
    x = np.random.default_rng(0).standard_normal((20, 7) if "Gemm" in text else (20, 3, 7)).astype(np.float32)
    np.testing.assert_allclose(moments_of(model, x)["layer"], expected(x.reshape(-1, 7), 1), rtol=1e-4, atol=1e-5)


def test_groups_and_layers_of_very_many_weights_have_none() -> None:
    assert moments_of(convolution("group = 2", (6, 2, 3, 3))) == {}
    assert MOST_WEIGHTS < 4 * 24 * 25
    x = np.zeros((2, 4, 24, 25), np.float32)
    model = with_parameters(
        f"{NET}(float[N, 4, 24, 25] x) => (float[N, 2, 1, 1] y) {{ [layer] y = Conv (x, w) }}", {"w": (2, 4, 24, 25)}
    )
    assert moments_of(model, x) == {}


def test_the_widest_layers_have_none_where_memory_would_not_hold_all(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "[wide] a = Conv (x, w) [narrow] b = Conv (x, v) [last] y = Conv (b, u)"
    model = with_parameters(
        f"{NET}(float[N, 4, 11, 12] x) => (float[N, 2, 11, 12] y) {{ {body} }}",
        {"w": (2, 4, 3, 3), "v": (7, 4, 1, 1), "u": (2, 7, 1, 1)},
    )
    monkeypatch.setattr(moments, "MOST_BYTES", 4 * (4 * 4 + 7 * 7))
    layers = ["wide", "narrow", "last"]
    found = input_moments(ir.from_proto(model), layers, {"x": X}, SPECS, about_mean=layers, threads=1)
    assert {name: len(h) for name, h in found.items()} == {"narrow": 4, "last": 7}


@pytest.mark.parametrize("number", [0.0, 1.0, 0.1, -1e5 / 3])
def test_inputs_that_never_differ_leave_what_is_known_without_samples(number: float) -> None:
    found = moments_of(convolution("group = 1", (5, 4, 1, 1)), np.full_like(X, number))
    np.testing.assert_array_equal(found["layer"], np.float32(PRIOR) * np.eye(4, dtype=np.float32))


@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_moments_do_not_depend_on_how_large_numbers_are(unit: float) -> None:
    layer = convolution("group = 1", (5, 4, 3, 3))
    found = moments_of(layer, (X * unit).astype(np.float32))["layer"]
    np.testing.assert_allclose(found, moments_of(layer)["layer"], rtol=1e-4, atol=1e-5)


# Ranges.


def cut(x: Array) -> tuple[float, float]:
    """The range of a value that is no input of the network."""
    text = f"{NET}(float[N, 4, 11, 12] x) => (float[N, 4, 11, 12] y) {{ v = Identity (x) y = Relu (v) }}"
    model = ir.from_proto(with_parameters(text, {}))
    seen = {"v": (min(float(x.min()), 0.0), max(float(x.max()), 0.0))}
    return ranges_of_least_error(model, seen, {"x": x}, SPECS, threads=1)["v"]


def test_a_rare_far_number_does_not_take_the_steps_of_all_others() -> None:
    x = np.random.default_rng(0).standard_normal((500, 4, 11, 12))
    x[0, 0, 0, 0] = 9.0
    low, high = float(x.min()), 9.0

    def error(shares: tuple[float, float]) -> float:
        inside = np.clip(x, shares[0] * low, shares[1] * high)
        step = (shares[1] * high - shares[0] * low) / 255
        return float(((np.rint(inside / step) * step - inside) ** 2).sum() + 4 * ((x - inside) ** 2).sum())

    shares = [k / 20 for k in range(10, 21)]
    best = min(itertools.product(shares, shares), key=error)
    assert 0.5 < best[1] < 1
    ends = best[0] * low, best[1] * high
    np.testing.assert_allclose(cut(x.astype(np.float32)), ends, rtol=1e-7)  # x is rounded to float32, by 6e-8


def test_numbers_that_lie_at_the_end_of_the_range_are_not_cut_off() -> None:
    x = np.clip(np.random.default_rng(0).standard_normal((20, 4, 11, 12)), 0, 1).astype(np.float32)
    assert cut(x) == (0.0, 1.0)


def test_a_value_that_is_always_zero_keeps_its_range() -> None:
    assert cut(np.zeros((3, 4, 11, 12), np.float32)) == (0.0, 0.0)
