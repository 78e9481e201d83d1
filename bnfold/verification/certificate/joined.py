"""Parameters that a simplification joined of several: one product in the place of those of a query, a key and a value.

onnxsim writes `MatMul(x, concat(W_q, W_k, W_v))` and a Split where three products read one x. Nothing is computed, so
the digits of the parts are those of the whole; the certificate names only the parts, which the file no longer has.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from onnx import numpy_helper

from bnfold.records.certificate import Certificate
from bnfold.verification.certificate.region_inputs import FLOATS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto

    from bnfold.records.certificate import Exact

__all__ = ["with_joined"]


def with_joined(certificate: Certificate | None, file: ModelProto, source: ModelProto) -> Certificate | None:
    """The certificate, which knows what the file's main graph has joined of the parameters that the fold computed.

    Args:
        certificate: of the fold; None where none was kept.
        file: the folded graph, simplified.
        source: the unfolded graph.
    """
    known = {} if certificate is None else certificate.parameters.get("", {})
    stored, before = ({t.name: t for t in model.graph.initializer} for model in (file, source))
    gone = {name: exact for name, exact in known.items() if name not in stored}
    new = [t for name, t in stored.items() if name not in known and name not in before and t.data_type in FLOATS]
    if certificate is None or not gone or not new:
        return certificate
    parts = {name: exact(np.empty(0)) for name, exact in gone.items()}
    unchanged = (t for name, t in before.items() if name not in stored and name not in gone and t.data_type in FLOATS)
    parts |= {t.name: numpy_helper.to_array(t).astype(np.float64) for t in unchanged}
    found = {t.name: whole for t in new if (whole := _joined(numpy_helper.to_array(t), parts)) is not None}
    if not found:
        return certificate
    parameters: Mapping[str, Exact] = {**known, **{name: _exact(whole) for name, whole in found.items()}}
    return dataclasses.replace(certificate, parameters={**certificate.parameters, "": parameters})


def _exact(digits: NDArray[np.float64]) -> Exact:
    return lambda _: digits


def _joined(stored: np.ndarray, parts: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """The digits of an array that is two or more of the parts, rounded, one behind the other along an axis."""
    for axis in range(stored.ndim):
        found: list[NDArray[np.float64]] = []
        start = 0
        while start < stored.shape[axis]:
            part = _part_at(np.moveaxis(stored, axis, 0)[start:], axis, list(parts.values()))
            if part is None:
                break
            found.append(part)
            start += part.shape[axis]
        if start == stored.shape[axis] and len(found) > 1:
            return np.concatenate(found, axis=axis)
    return None


def _part_at(rest: np.ndarray, axis: int, parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """The part that an array begins with; `rest` has the axis in front."""
    for part in parts:
        if part.ndim != rest.ndim or part.size == 0:
            continue
        moved = np.moveaxis(part, axis, 0)
        if moved.shape[1:] != rest.shape[1:] or len(moved) > len(rest):
            continue
        if np.array_equal(moved.astype(rest.dtype), rest[: len(moved)]):
            return part
    return None
