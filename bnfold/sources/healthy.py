"""Parameters that no exact fold can start from: not finite, or a variance that is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from torch import nn

__all__ = ["first_names", "has_new_statistics", "refuse_bad_variance", "refuse_not_finite"]

N_NAMED = 3


def first_names(names: Iterable[str]) -> str:
    """The first three names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - N_NAMED} more" if len(every) > N_NAMED else ""
    return ", ".join(every[:N_NAMED]) + more


def has_new_statistics(module: nn.Module) -> bool:
    """Whether there are BatchNorms, and every one has the running statistics of a new one: mean 0, variance 1."""
    buffers = [(name.rpartition(".")[2], buffer) for name, buffer in module.named_buffers()]
    means = [buffer for name, buffer in buffers if name == "running_mean"]
    variances = [buffer for name, buffer in buffers if name == "running_var"]
    seen = any(bool((mean != 0).any()) for mean in means) or any(bool((var != 1).any()) for var in variances)
    return bool(means) and not seen


def refuse_bad_variance(layer: str, variance: npt.ArrayLike) -> None:
    """Refuse a running variance with NaN, infinite or negative channels.

    Args:
        layer: the BatchNorm's name in the user's model.
        variance: shape (C,).

    Raises:
        InputRefused: names the layer and counts the channels.
    """
    values = np.asarray(variance).astype(np.float64)
    faults = (("NaN", np.isnan(values)), ("infinite", np.isinf(values)), ("negative", values < 0))
    found = ", ".join(f"{int(mask.sum())} of {values.size} channels {what}" for what, mask in faults if mask.any())
    if found:
        raise InputRefused(
            "the running variance of a BatchNorm must be finite and at least 0",
            where=f"layer {layer}",
            found=found,
            expected="finite values of at least 0",
            remedy="take a checkpoint from before the training diverged, or recalibrate the BatchNorm's statistics",
        )


def refuse_not_finite(arrays: Iterable[tuple[str, npt.NDArray[np.bool_]]]) -> None:
    """Refuse parameters that hold NaN or infinity.

    Args:
        arrays: name, and for every element whether it is finite.

    Raises:
        InputRefused: names the first three.
    """
    bad = [f"{name} ({int((~finite).sum())} of {finite.size})" for name, finite in arrays if not finite.all()]
    if bad:
        raise InputRefused(
            "parameters are not finite",
            where=first_names(bad),
            found="NaN or infinity",
            expected="finite values",
            remedy="take a checkpoint from before the training diverged",
        )
