"""A run as tensors and plain values, and back: what a checkpoint holds.

    model.NAME, average.NAME, best.NAME     state dicts
    optimizer.I.P.KEY                       state of parameter P in optimiser I
    order                                   state of the generator of the order, at the begin of the epoch in progress
    rank.R.torch|cuda|numpy|losses          of each process: random states, losses of the epoch in progress
    rank.R.buffer.NAME                      of each process but the first: its own buffers of model and average

A run that is restored goes on with the same bits: https://docs.pytorch.org/docs/stable/notes/randomness.html.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import GateFailed
from bnfold.sources.state_dicts import load_weights
from bnfold.training.devices import GPU

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from bnfold.training.run import Run

__all__ = ["capture", "restore"]

_PROGRESS = ("epoch", "step", "in_epoch", "lr", "history", "best_key", "best_epoch")


def capture(run: Run) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Write down a run between two steps; every process takes part and gets the same.

    Returns:
        Tensors on the CPU that share no memory, and plain JSON values.

    Raises:
        GateFailed: a loss or a parameter is NaN or infinite: there is nothing worth keeping.
    """
    _require_finite(run)
    everyone = run.engine.gather(_local(run))
    tensors: dict[str, Any] = {}
    facts: dict[str, Any] = {name: getattr(run, name) for name in _PROGRESS}
    _put(tensors, "model", run.module.state_dict())
    _put(tensors, "best", run.best_state)
    if run.average is not None:
        _put(tensors, "average", run.average.state_dict())
    for i, optimizer in enumerate(run.optimizers):
        for p, state in optimizer.state_dict()["state"].items():
            _put(tensors, f"optimizer.{i}.{p}", {key: value for key, value in state.items() if value is not None})
    tensors["order"] = run.order.get_state() if run.order_before is None else run.order_before
    for rank, (arrays, _) in enumerate(everyone):
        _put(tensors, f"rank.{rank}", arrays)
    facts["python"] = [values for _, values in everyone]
    facts["hooks"] = {type(hook).__name__: dict(hook.state()) for hook in run.hooks}
    scaler = run.engine.accelerator.scaler
    facts["scaler"] = None if scaler is None else scaler.state_dict()
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, facts


def restore(run: Run, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], *, where: str) -> None:
    """Put a run where `capture` found it; the run has just begun, with the same network, data and recipe.

    The random states come back when the first batch has been reached (`run.batches`).

    Raises:
        InputRefused: the weights do not fit the network.
    """
    for name in _PROGRESS:
        setattr(run, name, facts[name])
    run.best_key = tuple(run.best_key)
    load_weights(run.module, _get(tensors, "model"), where)
    run.best_state = {name: value.to(run.engine.device) for name, value in _get(tensors, "best").items()}
    if run.average is not None:
        load_weights(run.average, _get(tensors, "average"), where)
    for i, optimizer in enumerate(run.optimizers):
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in _get(tensors, f"optimizer.{i}").items():
            p, key = name.split(".")
            state.setdefault(int(p), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    run.order.set_state(tensors["order"])
    for hook in run.hooks:
        hook.load(facts["hooks"].get(type(hook).__name__, {}))
    if run.engine.accelerator.scaler is not None:
        run.engine.accelerator.scaler.load_state_dict(facts["scaler"])
    mine = _get(tensors, f"rank.{run.engine.rank}")
    _load_local(run, mine)
    python = facts["python"][run.engine.rank]
    run.on_first_batch = lambda: _load_random(mine, python)


def _require_finite(run: Run) -> None:
    import torch

    if run.losses:
        run.mean_loss()
    bad = [name for name, parameter in run.module.named_parameters() if not torch.isfinite(parameter).all()]
    if bad:
        raise GateFailed(
            "the weights are no longer finite",
            where=f"step {run.step} of the training, {bad[0]}",
            remedy=f"train with a smaller --lr (it was {run.recipe.lr:g}) or more warm-up (--set warmup=0.3)",
        )


def _local(run: Run) -> tuple[dict[str, torch.Tensor], list[Any]]:
    """What differs between processes: tensors, and the state of Python's generator with the rest of NumPy's."""
    import torch

    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - data sets may draw from it
    arrays = {
        "torch": torch.random.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "losses": torch.stack(run.losses).cpu() if run.losses else torch.empty(0),
    }
    if run.engine.device.type == GPU:
        arrays[GPU] = torch.cuda.get_rng_state(run.engine.device)
    if run.engine.rank:
        arrays.update({f"buffer.{name}": value.cpu() for name, value in _buffers(run).items()})
    return arrays, [random.getstate(), [kind, position, has_gauss, gauss]]


def _load_local(run: Run, arrays: Mapping[str, torch.Tensor]) -> None:
    import torch

    run.losses = list(arrays["losses"].to(run.engine.device))
    own = _get(arrays, "buffer")
    with torch.no_grad():
        for name, buffer in _buffers(run).items():
            if name in own:
                buffer.copy_(own[name])


def _load_random(arrays: Mapping[str, torch.Tensor], python: Any) -> None:
    import torch

    (version, values, gauss), (kind, *rest) = python
    random.setstate((version, tuple(values), gauss))
    np.random.set_state((kind, arrays["numpy"].numpy().astype(np.uint32), *rest))  # noqa: NPY002 - as above
    torch.random.set_rng_state(arrays["torch"])
    if GPU in arrays:
        torch.cuda.set_rng_state(arrays[GPU])


def _buffers(run: Run) -> dict[str, torch.Tensor]:
    """The buffers of the network and of its average, by distinct names."""
    found = {f"model.{name}": buffer for name, buffer in run.module.named_buffers()}
    if run.average is not None:
        found.update({f"average.{name}": buffer for name, buffer in run.average.named_buffers()})
    return found


def _put(tensors: dict[str, Any], prefix: str, values: Mapping[str, Any]) -> None:
    tensors.update({f"{prefix}.{name}": value for name, value in values.items()})


def _get(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors below a prefix, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
