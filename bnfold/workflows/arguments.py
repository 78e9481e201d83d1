"""What the command line refuses by its options' types, refused where a function is called, in a sentence."""

from __future__ import annotations

import math
import os
from numbers import Integral
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.runtime import Provider

__all__ = [
    "IN_A_FILE",
    "MAX_BATCH",
    "MAX_THREADS",
    "PEERS",
    "TARGETS",
    "batch_sizes",
    "check_names",
    "check_paths",
    "check_positive",
    "check_provider",
    "check_threads",
    "check_time_gate",
    "require_provider",
]

IN_A_FILE = "write a network in memory to a file first: bnfold.fold_export(network, x, 'out') makes out/model.onnx"
MAX_THREADS = 1024
MAX_BATCH = 65536
PEERS = (
    "plain",
    "onnxsim",
    "onnxslim",
    "ort-offline",
    "ort-static",
    "ort-static-best",
    "torch",
    "torch-compile",
    "openvino",
)
TARGETS = ("onnxruntime", "triton", "web")
"""Of `bnfold bundle`; `bnfold.bundles.targets` has them."""


def batch_sizes(batch: int | Sequence[int] | None, batches: int | Sequence[int] = ()) -> tuple[int, ...]:
    """The sizes of `batch` and `batches`, two names of one argument, as a tuple.

    Raises:
        InputRefused: both are given, or a size is no whole number from 1 to MAX_BATCH.
    """
    if batch is not None and batches != ():
        raise InputRefused(
            "batch and batches are the same argument", found=f"batch={batch!r}, batches={batches!r}",
            remedy="give one of them",
        )  # fmt: skip
    given = batches if batch is None else batch
    sizes = _several(given)
    for size in sizes:
        _check_count("the batch size", size, MAX_BATCH)
    return sizes


def check_threads(threads: Any) -> None:
    """Refuse numbers of threads that are none; None stands for all CPUs.

    Raises:
        InputRefused: a number of threads is no whole number from 1 to MAX_THREADS.
    """
    for count in _several(threads):
        if count is not None:
            _check_count("the number of threads", count, MAX_THREADS)


def check_positive(name: str, value: Any) -> None:
    """Refuse what is not a finite number above 0.

    Raises:
        InputRefused: `value` is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise InputRefused(
            f"{name} must be a number above 0, got {value!r}", remedy="give a time in the unit of its name"
        )


def check_time_gate(budget_s: Any, fail_if_slower: Any) -> None:
    """Refuse a budget or a limit of `fold_export` out of range, and a limit that nothing is measured for.

    Raises:
        InputRefused: a budget or a limit must be a finite number of at least 0; a limit needs a budget.
    """
    for name, value in (("budget_s", budget_s), ("fail_if_slower", 0.0 if fail_if_slower is None else fail_if_slower)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value >= 0):
            raise InputRefused(f"{name} must be a number of at least 0, got {value!r}", remedy="give another")
    if fail_if_slower is not None and not budget_s:
        raise InputRefused(
            "fail_if_slower needs a measurement", found=f"fail_if_slower={fail_if_slower}, budget_s={budget_s}",
            remedy="give a budget_s above 0, 3 for instance, or no limit",
        )  # fmt: skip


def check_provider(provider: Any) -> None:
    """Refuse names of providers that there are not.

    Raises:
        InputRefused: there is no provider of that name.
    """
    from bnfold.runtime import provider_names

    check_names("provider", provider, provider_names())


def check_names(what: str, names: Any, known: Sequence[str]) -> None:
    """Refuse names that there are not.

    Args:
        what: they are names of.
        names: one, or several.
        known: those there are.

    Raises:
        InputRefused: a name is not among `known`.
    """
    for name in _several(names):
        if name not in known:
            expected = " or ".join((", ".join(known[:-1]), known[-1]))
            raise InputRefused(f"the {what} must be {expected}, got {name!r}", remedy="give one of these")


def check_paths(paths: Sequence[Any], *, remedy: str) -> None:
    """Refuse what is no path, as a network or an image in memory.

    Raises:
        InputRefused: names the type of the first.
    """
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise InputRefused(f"a path is wanted, got {type(path).__name__}", expected="str or Path", remedy=remedy)


def require_provider(provider: Provider) -> None:
    """Make sure that a provider runs, before any other work is done for it.

    Raises:
        InputRefused: there is no provider of this name.
        EnvironmentNotReady: ONNX Runtime is missing or doubled, or the provider does not load.
    """
    from bnfold.runtime import provider_spec, require_onnxruntime, run_probe

    check_provider(provider)
    require_onnxruntime(provider)
    if provider_spec(provider).falls_back:
        run_probe(provider)


def _several(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, (tuple, list, range)) else (values,)


def _check_count(what: str, value: Any, largest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) <= largest:
        raise InputRefused(f"{what} must be a whole number from 1 to {largest}, got {value!r}", remedy="give another")
