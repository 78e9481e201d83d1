"""The fold with one fault in one rewrite."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bnfold.folding import prune, terms
from bnfold.folding.relations import RULES, Rewrite
from bnfold.graph.scaled import Scaled
from certificate_mutations.networks import DEAD, SEQUENCE_RULES

__all__ = ["WEIGHTS", "faults_of", "faulty", "patched"]

BIAS = 2  # the position of the bias of Conv and Gemm, and of the one that MatMul does not have
WEIGHTS = "weights of a channel x 1.01"
FAULTS = (WEIGHTS, "offset dropped")
SPECIAL = {"merged branches": ("scale of a branch x 1.01",), "removed channels": ("one constant not taken",)}


def faults_of(rule: str) -> tuple[str, ...]:
    """The faults that a rule's rewrite is given."""
    return SPECIAL.get(rule, FAULTS)


@contextlib.contextmanager
def faulty(rule: str, fault: str) -> Iterator[list[bool]]:
    """The fold with a fault; the list tells whether it came to work."""
    worked: list[bool] = []
    if rule == "merged branches":
        with patched(terms, "_scaled_terms", _wrong_branch(terms._scaled_terms, worked)):
            yield worked
    elif rule == "removed channels":
        with patched(prune, "_take_constants", _forgetful(prune._take_constants, worked)):
            yield worked
    else:
        original = RULES[rule].rewrite
        RULES[rule].rewrite = lambda node, gauge: _spoilt(original(node, gauge), rule, fault, worked)  # type: ignore[misc]
        try:
            yield worked
        finally:
            RULES[rule].rewrite = original


@contextlib.contextmanager
def patched(module: Any, name: str, value: Any) -> Iterator[None]:
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
    wanted = [k for k in found if (fault == WEIGHTS) == (k != BIAS and not (rule in SEQUENCE_RULES and k == 3))]
    if rule in ("Add", "Sub", "Max"):
        wanted = list(found)  # their one constant is the offset
    if rule == "BatchNormalization" and fault == WEIGHTS:
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
    whole[place] = whole[place] * 1.01 if fault == WEIGHTS else 0.0
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
