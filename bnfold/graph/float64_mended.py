"""ONNX operators that ONNX's own reference evaluator computes otherwise than their pages say, or not at all.

Meanings are those of https://onnx.ai/onnx/operators/, version by version; each class says what is mended.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_grid_sample import GridSample as OnnxGridSample
from onnx.reference.ops.op_loop import Loop as OnnxLoop

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MENDED"]

Array = np.ndarray
ALONG_ONE_AXIS = 13  # the opset from which Softmax and its kin work along `axis` alone


class _Normalised(OpRun):
    """Softmax and its kin: rows along `axis`, by default the last one (opset 13 and later).

    Before, the input counted as a matrix, shape[:axis] by shape[axis:], `axis` by default 1, and its rows are meant.
    The evaluator takes the newer meaning at every opset.
    """

    def _run(self, x: Array, axis: int | None = None) -> tuple[Array]:
        if x.size == 0:
            return (x,)
        is_newer = self.run_params["opsets"].get("", ALONG_ONE_AXIS) >= ALONG_ONE_AXIS
        if not any(attribute.name == "axis" for attribute in self.onnx_node.attribute):
            axis = -1 if is_newer else 1
        if axis is None:
            raise ValueError("axis has no value")
        if is_newer:
            return (np.moveaxis(self._rows(np.moveaxis(x, axis, -1)), -1, axis),)
        n_rows = math.prod(x.shape[: axis % x.ndim if axis < 0 else axis])
        return (self._rows(x.reshape(n_rows, -1)).reshape(x.shape),)

    def _rows(self, x: Array) -> Array:
        """The function along the last axis."""
        raise NotImplementedError


class Softmax(_Normalised):
    """exp(x - max x) / sum exp(x - max x)."""

    def _rows(self, x: Array) -> Array:
        y: Array = np.exp(x - x.max(axis=-1, keepdims=True))
        y /= y.sum(axis=-1, keepdims=True)
        return y


class LogSoftmax(_Normalised):
    """(x - max x) - log sum exp(x - max x); the evaluator's logarithm of Softmax is -inf where Softmax underflows."""

    def _rows(self, x: Array) -> Array:
        x = x - x.max(axis=-1, keepdims=True)
        shifted: Array = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
        return shifted


class Hardmax(_Normalised):
    """1 at the first largest element, else 0."""

    def _rows(self, x: Array) -> Array:
        y = np.zeros_like(x)
        np.put_along_axis(y, x.argmax(axis=-1, keepdims=True), 1, axis=-1)
        return y


class LRN(OpRun):
    """y = x / (bias + alpha / size sum x_i^2)^beta, i from c - floor((size - 1) / 2) to c + ceil((size - 1) / 2).

    The evaluator fills as many channels as there are rows in the batch.
    """

    def _run(
        self,
        x: Array,
        alpha: float | None = None,
        beta: float | None = None,
        bias: float | None = None,
        size: int | None = None,
    ) -> tuple[Array]:
        if alpha is None or beta is None or bias is None or size is None:
            raise ValueError("an attribute has no value")
        squares = x**2
        total = np.zeros_like(x)
        for c in range(x.shape[1]):
            total[:, c] = squares[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1].sum(axis=1)
        gain = float(alpha) / size  # the evaluator reads attributes as float32
        return (x / (bias + gain * total) ** beta,)


class GlobalMaxPool(OpRun):
    """The largest element of each channel; the evaluator keeps the spatial axes' lengths of 1 for two axes only."""

    def _run(self, x: Array) -> tuple[Array]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class GatherElements(OpRun):
    """y[i, j] = x[index[i, j], j] along axis 0; the indices may cover less of the other axes than the data.

    The evaluator wants the same lengths there.
    """

    def _run(self, x: Array, index: Array, axis: int | None = None) -> tuple[Array]:
        along = (axis or 0) % x.ndim
        part = x[tuple(slice(None) if k == along else slice(n) for k, n in enumerate(index.shape))]
        return (np.take_along_axis(part, index % x.shape[along], axis=along),)


class Pad(OpRun):
    """Padding by the rule of `mode`; a negative width removes, which the evaluator does not take.

    `pads` is an attribute before opset 11 (`paddings` in opset 1) and an input since; so is `value`.
    """

    def _run(
        self,
        x: Array,
        pads: Any = None,
        value: Any = None,
        axes: Any = None,
        *,
        mode: str | None = None,
        paddings: Any = None,
    ) -> tuple[Array]:
        widths = [int(width) for width in (paddings if pads is None else pads)]
        where = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in axes]
        pairs = [(0, 0)] * x.ndim
        half = len(widths) // 2
        for axis, begin, end in zip(where, widths[:half], widths[half:], strict=True):
            pairs[axis] = (begin, end)
        kept = x[tuple(slice(max(-b, 0), n - max(-e, 0)) for (b, e), n in zip(pairs, x.shape, strict=True))]
        grown = [(max(begin, 0), max(end, 0)) for begin, end in pairs]
        if mode not in {None, "", "constant"}:
            rule: Any = mode
            return (np.pad(kept, grown, mode=rule),)
        fill = 0 if value is None else np.asarray(value).reshape(-1)[0]
        return (np.pad(kept, grown, constant_values=fill).astype(x.dtype),)


class GridSample(OnnxGridSample):
    """The evaluator's, which knows the names of opset 20 only: before, linear was bilinear, and cubic bicubic."""

    def _run(
        self, X: Array, grid: Array, mode: Any = None, padding_mode: Any = None, align_corners: Any = None
    ) -> tuple[Array]:
        names = {"bilinear": "linear", "bicubic": "cubic"}
        run: Callable[..., tuple[Array]] = super()._run
        return run(X, grid, names.get(mode, mode), padding_mode, align_corners)


class GlobalLpPool(OpRun):
    """y = (sum |x|^p)^(1/p) over space; the evaluator has none."""

    def _run(self, x: Array, p: float | None = None) -> tuple[Array]:
        power = 2.0 if p is None else float(p)
        total = (np.abs(x) ** power).sum(axis=tuple(range(2, x.ndim)), keepdims=True)
        return (np.asarray(total ** (1 / power)),)


class Loop(OnnxLoop):
    """The body again and again, M times and while its condition holds; either may be absent, and counts as met.

    The evaluator takes an absent condition for false, and joins scan outputs along their first axis, not a new one.
    """

    def _run(
        self, M: Array | None, cond: Array | None, *carried: Any, context: Any = None, **attributes: Any
    ) -> tuple[Any, ...]:
        body: Any = attributes["body"]
        names = body.input_names
        state = list(carried)
        scanned: list[list[Array]] = [[] for _ in range(self.K)]
        goes_on, done = cond is None or bool(cond), 0
        while goes_on and (M is None or done < int(np.reshape(M, ()))):
            given = dict(zip(names, (np.array(done, np.int64), np.array(goes_on), *state), strict=True))
            outputs = body.run(None, {**(context or {}), **given}, attributes=attributes.get("attributes"))
            goes_on, done = bool(outputs[0]), done + 1
            state = list(outputs[1 : 1 + len(state)])
            for kept, output in zip(scanned, outputs[1 + len(state) :], strict=True):
                kept.append(output)
        return (*state, *(np.stack(kept) for kept in scanned))


class Scan(OpRun):
    """The body on one slice after the other of each scan input, along any axis, forward (0) or backward (1).

    The evaluator knows axis 0 and the way forward alone. From opset 9 on; before, axis 0 was a batch.
    """

    def need_context(self) -> bool:
        """The body may read values of the graph around it."""
        return True

    def _run(self, *inputs: Array, context: Any = None, **attributes: Any) -> tuple[Any, ...]:
        body: Any = attributes["body"]
        n_states = len(inputs) - attributes["num_scan_inputs"]
        state, n_outputs = list(inputs[:n_states]), len(body.output_names) - n_states
        slices = [
            np.moveaxis(array, axis, 0)[:: -1 if backward else 1]
            for array, axis, backward in zip(
                inputs[n_states:],
                attributes.get("scan_input_axes") or [0] * len(inputs),
                attributes.get("scan_input_directions") or [0] * len(inputs),
                strict=False,
            )
        ]
        scanned: list[list[Array]] = [[] for _ in range(n_outputs)]
        for parts in zip(*slices, strict=True):
            given = dict(zip(body.input_names, (*state, *parts), strict=True))
            outputs = body.run(None, {**(context or {}), **given}, attributes=attributes.get("attributes"))
            state = list(outputs[:n_states])
            for kept, output in zip(scanned, outputs[n_states:], strict=True):
                kept.append(output)
        axes = attributes.get("scan_output_axes") or [0] * n_outputs
        directions = attributes.get("scan_output_directions") or [0] * n_outputs
        joined = [
            np.moveaxis(np.stack(kept[:: -1 if backward else 1]), 0, axis)
            for kept, axis, backward in zip(scanned, axes, directions, strict=True)
        ]
        return (*state, *joined)


MENDED: tuple[type[OpRun], ...] = (
    GlobalLpPool,
    GatherElements,
    GlobalMaxPool,
    GridSample,
    Hardmax,
    LRN,
    LogSoftmax,
    Loop,
    Pad,
    Scan,
    Softmax,
)
