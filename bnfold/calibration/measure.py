"""Statistics measured on data: pooled over batches, or layer by layer.

*Pooled* (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3.1, PreciseBN): the BatchNorms normalize
with each batch's own statistics, as in training; mean and variance of what they read are pooled over all batches.

*Layer by layer*: in the order of the forward pass, each BatchNorm takes the statistics of what it reads when all those
in front of it already use their new ones. That is what it will read after folding, and it does not depend on how the
samples are divided into batches; up to the n - 1 of variances it is the pooled pass over one batch that holds all
samples, in as many passes as there are BatchNorms.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bnfold.calibration.layers import Statistics, batchnorms, read_statistics, write_statistics
from bnfold.errors import InputRefused
from bnfold.numerics.moments import Moments, merged
from bnfold.sources.usercode import described, user_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    Inputs = tuple[torch.Tensor, ...]

__all__ = ["Prior", "measure_layerwise", "measure_pooled", "mixed"]


@dataclass(frozen=True)
class Prior:
    """How much the statistics that are there count: as much as `weight` samples, against `n_samples` measured ones."""

    weight: float
    n_samples: int


class _ReachedError(Exception):
    """Ends a forward pass whose rest no one needs."""


def mixed(old: Statistics, new: Statistics, prior: Prior) -> Statistics:
    """mean = (N mean_old + n mean_new) / (N + n), and the variance likewise.

    Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation" (2020), section 2;
    Nado et al., "Evaluating Prediction-Time Batch Normalization for Robustness under Covariate Shift" (2020), is N = 0.
    """
    share = prior.n_samples / (prior.weight + prior.n_samples)
    mean = (1 - share) * old.mean + share * new.mean
    return Statistics(mean, (1 - share) * old.var + share * new.var, new.n_batches)


def measure_pooled(
    module: nn.Module, batches: Sequence[Inputs], *, where: str = "the network"
) -> Mapping[str, Statistics]:
    """Give every BatchNorm that runs the pooled statistics of its inputs, in place.

    Args:
        module: left in eval mode; only its BatchNorms are in train mode meanwhile.
        batches: inputs in the order of `forward`, the dtype and device of the module.
        where: the network as the user named it.

    Returns:
        The new statistics by layer; a BatchNorm that the network does not call is missing.

    Raises:
        InputRefused: the network raises, or a BatchNorm reads a single value per channel.
    """
    layers = batchnorms(module)
    moments: dict[str, Moments] = {}
    module.eval()
    for layer in layers.values():
        layer.training = True
    try:
        with _gathering(layers, moments):
            for batch in batches:
                _run(module, batch, where)
    finally:
        module.eval()
    found = {name: _statistics(name, gathered, len(batches)) for name, gathered in moments.items()}
    for name, statistics in found.items():
        write_statistics(layers[name], statistics)
    return found


def measure_layerwise(
    module: nn.Module,
    batches: Sequence[Inputs],
    *,
    prior: Prior | None = None,
    where: str = "the network",
    told: Callable[[float], None] = lambda _: None,
) -> Mapping[str, Statistics]:
    """Give every BatchNorm that runs the statistics of its inputs in the order of the forward pass, in place.

    Args:
        module: left in eval mode.
        batches: as in `measure_pooled`.
        prior: how much the statistics that are there count; None for not at all.
        where: the network as the user named it.
        told: is given the share done, from 0 to 1.

    Returns:
        The new statistics by layer, in the order of the forward pass.

    Raises:
        InputRefused: the network raises, or a BatchNorm reads a single value per channel.
    """
    module.eval()
    layers = batchnorms(module)
    calls = _calls(module, layers, batches[0], where)
    found: dict[str, Statistics] = {}
    for index, (name, n_calls) in enumerate(calls.items()):
        layer = layers[name]
        moments: dict[str, Moments] = {}
        with _gathering({name: layer}, moments, stop=n_calls == 1):
            for batch in batches:
                _run(module, batch, where)
        new = _statistics(name, moments[name], len(batches))
        found[name] = new if prior is None else mixed(read_statistics(layer), new, prior)
        write_statistics(layer, found[name])
        told((index + 1) / len(calls))
    return found


def _calls(module: nn.Module, layers: Mapping[str, _BatchNorm], batch: Inputs, where: str) -> Mapping[str, int]:
    """How often each BatchNorm runs in a forward pass, in the order of the first call."""
    calls: dict[str, int] = {}

    def count(name: str, *_: object) -> None:
        calls[name] = calls.get(name, 0) + 1

    handles = [layer.register_forward_pre_hook(partial(count, name)) for name, layer in layers.items()]
    try:
        _run(module, batch, where)
    finally:
        for handle in handles:
            handle.remove()
    return calls


@contextmanager
def _gathering(layers: Mapping[str, _BatchNorm], moments: dict[str, Moments], *, stop: bool = False) -> Iterator[None]:
    """Merge the moments of what the layers read into `moments`; `stop` ends each forward pass there."""

    def gather(name: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        del layer
        moments[name] = merged(moments.get(name), _moments(inputs[0]))
        if stop:
            raise _ReachedError

    handles = [layer.register_forward_pre_hook(partial(gather, name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _moments(values: torch.Tensor) -> Moments:
    """Of the channels, axis 1, over all other axes."""
    wide = values.detach().double().transpose(0, 1).flatten(1)
    mean = wide.mean(1)
    m2 = (wide - mean[:, None]).square().sum(1)
    return Moments(wide.shape[1], mean.cpu().numpy(), m2.cpu().numpy())


def _statistics(name: str, moments: Moments, n_batches: int) -> Statistics:
    if moments.count < 2:
        raise InputRefused(
            "a BatchNorm has no variance over one value per channel",
            where=f"layer {name}",
            remedy="give at least two samples",
        )
    return Statistics(moments.mean, moments.variance, n_batches)


def _run(module: nn.Module, batch: Inputs, where: str) -> None:
    import torch

    try:
        with torch.no_grad(), user_code():
            module(*batch)
    except _ReachedError:
        return
    except Exception as error:
        raise InputRefused(
            "the network raises while its statistics are measured",
            where=where,
            found=described(error)[:300],
            expected=f"a network that takes inputs of shape {', '.join(str(tuple(x.shape)) for x in batch)}",
            remedy="give it the inputs it was trained on, at least two samples a batch",
        ) from error
