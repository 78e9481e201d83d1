"""Whether a folded module computes what the module computes: in float64 before rounding, and as rounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import GateFailed
from bnfold.numerics.error_bounds import accumulation_error, unit_roundoff
from bnfold.sources.calling import runnable
from bnfold.sources.copies import duplicate
from bnfold.sources.trial import named_outputs, trial_inputs
from bnfold.verification.checks.criterion import K_ORDER, OutputErrors
from bnfold.verification.checks.parameter_errors import ParameterErrors
from bnfold.verification.execution.torch_float64 import in_float64, stored_format, to_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from torch import nn

    from bnfold.sources.types import TorchSource

__all__ = ["TOLERANCE", "check_float64", "check_rounded"]

TOLERANCE = 1e-10  # of the largest magnitude of an output
N_RANDOM = 3
Outputs = list[tuple[str, np.ndarray]]


def check_float64(source: TorchSource, folded: nn.Module, batch: int | None, lengths: Sequence[int]) -> float:
    """Compare in float64, with parameters before they are rounded; the largest relative difference comes back.

    A network may be so badly conditioned that float64 itself has fewer digits left: then K_ORDER sqrt(1 + K) times what
    one float64 rounding of every parameter moves it is allowed, see `bnfold.verification.checks.criterion`.

    Args:
        source: the module.
        folded: its fold in float64.
        batch: the only one that it runs at, or None.
        lengths: of the sums of its linear operators.

    Raises:
        GateFailed: they differ by more, or in shape or type.
    """
    original = _float64(source.module)
    order = K_ORDER * float(np.sqrt(1 + max(lengths, default=1)))
    worst = 0.0
    for feed in _feeds(source, batch):
        expected = _run64(source, original, feed)
        difference = _largest_difference(expected, _run64(source, folded, feed), source.facts.spec)
        worst = max(worst, difference)
        if difference <= TOLERANCE:
            continue
        moved = _moved(original, unit_roundoff("float64"), np.random.default_rng(0))
        rounding = _largest_difference(expected, _run64(source, moved, feed), source.facts.spec)
        if not difference <= order * rounding:
            raise GateFailed(
                "the folded module is not equal to the module, in float64",
                where=source.facts.spec,
                found=f"a difference of {difference:.3g} of the largest output",
                expected=f"at most {max(TOLERANCE, order * rounding):.3g}",
                remedy="report it with the network's code; the module stays as it is",
            )
    return worst


def _largest_difference(expected: Outputs, found: Outputs, where: str) -> float:
    pairs = zip(expected, found, strict=True)
    return max(_difference(name, reference, output, where) for (name, reference), (_, output) in pairs)


def check_rounded(source: TorchSource, folded: nn.Module, batch: int | None, lengths: Sequence[int]) -> list[str]:
    """Hold the folded module, as it is stored, to the criterion of `bnfold.verification.checks.criterion`.

    Args:
        source: the module.
        folded: its fold, on the CPU.
        batch: the only one that it runs at, or None.
        lengths: of the sums of its linear operators.

    Returns:
        The names of the outputs that passed.

    Raises:
        GateFailed: it lies further from float64 than the source's own error allows, and its parameters are to blame.
    """
    u, length = unit_roundoff(stored_format(folded)), max(lengths, default=1)
    errors: dict[str, OutputErrors] = {}
    original, wide = _float64(source.module), _float64(folded)
    generator = np.random.default_rng(0)
    for number, feed in enumerate(_feeds(source, batch)):
        exact = dict(_run64(source, original, feed))
        before, after = dict(_run(source, source.module, feed)), dict(_run(source, folded, feed))
        stored, moved = dict(_run64(source, wide, feed)), dict(_run64(source, _moved(wide, u, generator), feed))
        for name, reference in exact.items():
            if reference.dtype.kind != "f":
                continue
            one = errors.setdefault(name, OutputErrors(name, accumulation_error(length, u)))
            one.parameters = one.parameters or ParameterErrors()
            one.worst_order = float(np.sqrt(1 + length))
            one.reference.add(reference)
            one.add_source(0, before[name].astype(np.float64) - reference)
            one.add_candidate("eager", after[name].astype(np.float64) - reference, f"input {number}")
            one.parameters.distance.add(stored[name] - reference)
            one.parameters.rounding.add(moved[name] - stored[name])
    failed = next((failure for one in errors.values() if (failure := one.failure())), None)
    if failed is not None:
        raise GateFailed(
            "the folded module is not equal to the module", where=source.facts.spec, found=failed,
            remedy="report it with the network's code; the module stays as it is",
        )  # fmt: skip
    return list(errors)


def _float64(module: nn.Module) -> nn.Module:
    return duplicate(module).double().eval()


def _moved(module: nn.Module, u: float, generator: np.random.Generator) -> nn.Module:
    """Every parameter w at w (1 + u r), r uniform on [-1, 1]."""
    import torch

    moved = duplicate(module)
    with torch.no_grad():
        for tensor in moved.parameters():
            if tensor.is_floating_point():
                tensor.mul_(torch.from_numpy(1 + u * generator.uniform(-1, 1, tuple(tensor.shape))))
    return moved


def _feeds(source: TorchSource, batch: int | None) -> Iterator[tuple[torch.Tensor, ...]]:
    """Random inputs, constants, and single bright pixels in the corners; integers as in the example."""
    import torch

    given = trial_inputs(source.inputs, batch, example=source.example)
    floats = [tensor.is_floating_point() for tensor in given]
    if not any(floats):
        yield given
        return
    generator = torch.Generator().manual_seed(0)

    def normal(tensor: torch.Tensor) -> torch.Tensor:
        return torch.randn(tensor.shape, generator=generator).to(tensor.dtype)

    def corner(tensor: torch.Tensor) -> torch.Tensor:
        made = torch.zeros_like(tensor)
        if tensor.ndim > 2:
            flat = made.reshape(*tensor.shape[:2], -1)
            flat[..., 0], flat[..., -1] = 10, -10
        return made

    yield given
    makers: list[Callable[[torch.Tensor], torch.Tensor]] = [
        *[normal] * N_RANDOM, torch.zeros_like, torch.ones_like, corner,
    ]  # fmt: skip
    for make in makers:
        yield tuple(make(tensor) if is_float else tensor for tensor, is_float in zip(given, floats, strict=True))


def _run(source: TorchSource, module: nn.Module, feed: Sequence[torch.Tensor]) -> Outputs:
    import torch

    with torch.no_grad():
        outputs = runnable(module, source.call)(*(tensor.clone() for tensor in feed))
    return [(name, to_array(tensor)) for name, tensor in named_outputs(outputs, where=source.facts.spec)]


def _run64(source: TorchSource, module: nn.Module, feed: Sequence[torch.Tensor]) -> Outputs:
    with in_float64():
        return _run(source, module, [tensor.double() if tensor.is_floating_point() else tensor for tensor in feed])


def _difference(name: str, expected: Any, found: Any, where: str) -> float:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        raise GateFailed(
            f"output {name} of the folded module is of another kind", where=where,
            found=f"{found.dtype} {found.shape}", expected=f"{expected.dtype} {expected.shape}",
            remedy="report it with the network's code; the module stays as it is",
        )  # fmt: skip
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, found) else np.inf
    if not np.array_equal(np.isfinite(expected), np.isfinite(found)):
        return np.inf
    finite = np.isfinite(expected)
    largest = float(np.abs(expected[finite]).max(initial=0.0))
    difference = float(np.abs(expected[finite] - found[finite]).max(initial=0.0))
    return difference / largest if largest else difference
