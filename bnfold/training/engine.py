"""Where a run computes: one process or several (torchrun, accelerate launch), a device, a precision. On `accelerate`.

Several processes share the images of every step. On GPUs their BatchNorms normalise over all of them (SyncBatchNorm);
on CPUs, where PyTorch has none, each process normalises over its own share, and `agree` brings the statistics together.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import time
import warnings
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.extras import require
from bnfold.training.devices import GPU, make_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import nn

    from bnfold.training.data import Batch

__all__ = ["Engine", "open_engine"]

logger = logging.getLogger("bnfold.training")

_ACCELERATE_NAMES = {"float32": "no", "bf16": "bf16", "fp16": "fp16"}
_PARTING_SECONDS = 0.2


class Engine:
    """The processes of a run, as one of them sees it.

    Attributes:
        rank: the number of this process, from 0.
        world: the number of processes.
        device: where the network lies.
    """

    def __init__(self, accelerator: Any) -> None:
        self.accelerator = accelerator
        self.rank: int = accelerator.process_index
        self.world: int = accelerator.num_processes
        self.device: torch.device = accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and lines."""
        return self.rank == 0

    def prepare(self, module: nn.Module) -> nn.Module:
        """Move a network to the device; return what is called in a training step, which has the same parameters."""
        from torch import nn

        module.to(self.device)
        if self.world == 1:
            return module
        if _has_batchnorm(module):
            if self.device.type == GPU:
                nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]  # unannotated in torch
            elif self.is_main:
                logger.info(
                    "%d processes on the CPU, where PyTorch has no SyncBatchNorm: each normalises over its own images, "
                    "and the running statistics are averaged over the processes in float64",
                    self.world,
                )
        from bnfold.training.whole import Whole

        with warnings.catch_warnings():
            # PyTorch 2.13 has renamed the argument; accelerate knows the old name alone.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            network: nn.Module = self.accelerator.prepare_model(Whole(module))
        return network

    def shares(self, batch: Batch, n_parts: int) -> Iterator[tuple[Batch, float]]:
        """Parts of a step's batch that fall to this process, on the device, and the weight of each part's mean loss.

        The weights are such that the mean over the processes of the weighted sums is the mean loss of the batch.

        Raises:
            InputRefused: a part would hold fewer than two images.
        """
        n_images, n_shares = len(batch.inputs[0]), self.world * n_parts
        self.require_pairs(n_images, n_parts)
        if n_shares == 1:
            yield self.placed(batch), 1.0
            return
        for part in range(n_parts):
            share = _rows(batch, self.rank * n_parts + part, n_shares)
            yield self.placed(share), len(share.inputs[0]) * self.world / n_images

    def placed(self, batch: Batch) -> Batch:
        """The batch on the device."""
        if batch.inputs[0].device == self.device:
            return batch
        from accelerate.utils import send_to_device

        there: Batch = send_to_device(batch, self.device)
        return there

    def optimizer(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimiser as a step calls it: behind a scaler of the gradients where the precision needs one."""
        if self.accelerator.scaler is None:
            return optimizer
        scaled: torch.optim.Optimizer = self.accelerator.prepare_optimizer(optimizer)
        return scaled

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Around a forward pass: the precision of the run."""
        if not self.accelerator.native_amp:
            return contextlib.nullcontext()
        context: contextlib.AbstractContextManager[Any] = self.accelerator.autocast()
        return context

    def require_pairs(self, n_images: int, n_parts: int) -> None:
        """Refuse to divide a batch into parts of one image, over which a BatchNorm has no variance."""
        if n_images >= 2 * self.world * n_parts:
            return
        raise InputRefused(
            "a BatchNorm has no variance over one image",
            where=f"a step of {n_images} images in {self.world * n_parts} parts",
            expected="at least 2 images a part",
            remedy=f"pass --batch-size {2 * self.world * n_parts} or more, or fewer parts (accumulate) or processes",
        )

    def joined(self, network: nn.Module, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Around a backward pass: gradients are averaged over the processes in the `last` part of a step only."""
        if last or self.world == 1 or not hasattr(network, "no_sync"):
            return contextlib.nullcontext()
        context: contextlib.AbstractContextManager[Any] = self.accelerator.no_sync(network)
        return context

    def average_gradients(self, part: nn.Module) -> None:
        """The mean of the gradients over the processes, where no distributed form of the network has taken it."""
        if self.world == 1:
            return
        for parameter in part.parameters():
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank; picklable ones, the same kind everywhere."""
        import torch.distributed

        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value)
        return values


def _has_batchnorm(module: nn.Module) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    return any(isinstance(layer, _BatchNorm) for layer in module.modules())


def _rows(batch: Batch, first: int, stride: int) -> Batch:
    """Every stride-th image of a batch."""
    from accelerate.utils import recursively_apply

    share: Batch = recursively_apply(lambda tensor: tensor[first::stride], batch)
    return share


@contextlib.contextmanager
def open_engine(*, device: str = "cpu", precision: str = "float32") -> Iterator[Engine]:
    """Join the processes of the run, as torchrun or accelerate launch started them; they part when this one exits.

    Args:
        device: one of `DEVICES`; with several processes, a GPU each.
        precision: see `Recipe.precision`.

    Raises:
        EnvironmentNotReady: accelerate is not installed, the device is not there, or it has no such precision.
    """
    accelerate = require("accelerate", extra="train", purpose="bnfold train")
    make_ready(device, precision)
    _forget_engine()
    handlers = [accelerate.DistributedDataParallelKwargs(broadcast_buffers=False)]
    accelerator = accelerate.Accelerator(
        cpu=device == "cpu", mixed_precision=_ACCELERATE_NAMES[precision], kwargs_handlers=handlers
    )
    if accelerator.num_processes > 1:
        atexit.register(_part)
    try:
        yield Engine(accelerator)
    finally:
        _forget_engine()


def _forget_engine() -> None:
    """Let the next `Accelerator` of this process have another precision, and device: its state is global.

    Processes that have joined stay together, whatever ended the run: their meeting place serves once.
    """
    import torch.distributed
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    GradientState._reset_state()


def _part() -> None:
    """Leave the other processes, and give gloo's threads time to drop the tensors of the last exchange.

    They need the interpreter for that, and abort the process if it is already ending ("terminate called without an
    active exception"): DistributedDataParallel holds the group for good, so that nothing waits for its threads
    (https://github.com/pytorch/pytorch/pull/179291).
    """
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        time.sleep(_PARTING_SECONDS)
