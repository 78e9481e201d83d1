"""One forward pass in eval mode: the outputs' names, the BatchNorms that run, and whether anything changes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.interrupts import interruptible
from bnfold.sources.calling import runnable
from bnfold.sources.extras import require_torch
from bnfold.sources.healthy import first_names
from bnfold.sources.usercode import described, user_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from bnfold.records import InputSpec
    from bnfold.sources.calling import Call

__all__ = ["TRIAL_BATCH", "named_outputs", "run_once", "trial_inputs", "trial_output_names"]

TRIAL_BATCH = 2  # not 1, which torch.export would take for a constant


def trial_inputs(
    specs: Sequence[InputSpec], batch: int | None = None, *, example: Sequence[torch.Tensor] | None = None
) -> tuple[torch.Tensor, ...]:
    """Inputs to try a network with: a fixed normal sample, zeros for integers (a valid index of any table).

    Args:
        specs: the inputs.
        batch: their batch, None for 2 or the smallest or largest that they take.
        example: inputs of the user's, one for each spec, whose samples are taken again and again.

    Raises:
        InputRefused: there is no room for one in memory.
    """
    torch = require_torch()
    generator = torch.Generator().manual_seed(0)
    if batch is None:
        largest = min((spec.largest_batch or TRIAL_BATCH for spec in specs), default=TRIAL_BATCH)
        batch = max([min(TRIAL_BATCH, largest), *(spec.smallest_batch for spec in specs)])
    if example is not None:
        return tuple(_repeated(spec, batch, tensor) for spec, tensor in zip(specs, example, strict=True))
    return tuple(_trial_input(spec, batch, generator) for spec in specs)


def _repeated(spec: InputSpec, batch: int, example: torch.Tensor) -> torch.Tensor:
    """The samples of an example, again from the first on, up to the batch."""
    library, axis = require_torch(), spec.batch_axis
    if axis is None or not spec.batch_dynamic:
        return example.clone()
    return example.index_select(axis, library.arange(batch) % example.shape[axis])


def _trial_input(spec: InputSpec, batch: int, generator: torch.Generator) -> torch.Tensor:
    library = require_torch()
    shape, dtype = spec.with_batch(batch), getattr(library, spec.dtype)
    try:
        values = library.randn(shape, generator=generator) if dtype.is_floating_point else library.zeros(shape)
        tensor: torch.Tensor = values.to(dtype)
    except (RuntimeError, TypeError, OverflowError) as error:  # more bytes than there are, or than 64 bits can count
        raise InputRefused(
            f"an input of {'x'.join(map(str, shape))} {spec.dtype} does not fit into memory",
            where=f"input {spec.name}",
            found=described(error)[:300],
            remedy="give a smaller shape with --input-shape",
        ) from error
    return tensor


def run_once(module: nn.Module, inputs: tuple[torch.Tensor, ...], *, where: str) -> Any:
    """Call the network without gradients.

    Raises:
        InputRefused: it raises.
    """
    torch = require_torch()
    try:
        with interruptible(), torch.no_grad(), user_code():
            return module(*inputs)
    except (Exception, SystemExit) as error:
        shapes = ", ".join("x".join(map(str, tensor.shape)) + f" {tensor.dtype}" for tensor in inputs)
        remedy = (
            "give an example of the shape and type that it expects: torch.randn(1, 3, 224, 224) in Python,"
            " --input-shape 1x3x224x224 on the command line, once for every input"
        )
        own = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
        if len(own) == 1 and any(tensor.dtype not in own for tensor in inputs if tensor.is_floating_point()):
            remedy = f"give inputs of the type of its parameters: x.to({own.pop()})"
        if _wants_integers(error):
            remedy = (
                'say which inputs are integers: INPUT_DTYPES = ("int64", "float32") in the .py file, one for each input'
                " of forward, or --input-dtype once for every input"
            )
        raise InputRefused(
            f"the network raises on inputs of {shapes}",
            where=where,
            found=described(error)[:300],
            remedy=remedy,
        ) from error


_NO_INTEGERS = re.compile(
    r"'indices' to have one of the following scalar types|tensors used as indices must be|Expected dtype int\S*"
    r"( or int64)? for index|only applicable to index tensor"
)
"""What PyTorch says of an embedding, of `x[i]`, of gather and index_select, of one_hot."""


def _wants_integers(error: BaseException) -> bool:
    """Whether PyTorch missed integers where it was given others."""
    return _NO_INTEGERS.search(str(error)) is not None


def named_outputs(outputs: Any, *, where: str) -> list[tuple[str, torch.Tensor]]:
    """Flatten what a network returns, as PyTorch's pytree does: dict keys and indices make the names, None is left out.

    A tensor on its own is `output`; the items of a tuple are `output_0`, `output_1`.

    Raises:
        InputRefused: something returned is neither a tensor nor None, or nothing is.
    """
    torch = require_torch()
    from torch.utils import _pytree

    leaves, _ = _pytree.tree_flatten_with_path(outputs)
    leaves = [(path, leaf) for path, leaf in leaves if leaf is not None]
    strangers = [f"{_path_name(path)}: {type(leaf).__name__}" for path, leaf in leaves if not torch.is_tensor(leaf)]
    if strangers or not leaves:
        raise InputRefused(
            "the network returns something that is not a tensor",
            where=where,
            found=first_names(strangers) if strangers else "no output",
            expected="tensors, or tuples, lists and dicts of tensors",
            remedy="wrap the network in a module that returns tensors only",
        )
    complex_ones = [f"{_path_name(path)}: {leaf.dtype}" for path, leaf in leaves if leaf.is_complex()]
    if complex_ones:
        raise InputRefused(
            "the network returns complex numbers, which ONNX has no outputs for",
            where=where,
            found=first_names(complex_ones),
            expected="real tensors",
            remedy="return torch.view_as_real(y), or y.real and y.imag, from forward",
        )
    return [(_path_name(path), leaf) for path, leaf in leaves]


def _path_name(path: tuple[Any, ...]) -> str:
    keys = [str(next(getattr(key, at) for at in ("key", "idx", "name") if hasattr(key, at))) for key in path]
    if not keys or keys[0].isdigit():
        keys.insert(0, "output")
    return "_".join(keys)


def trial_output_names(
    module: nn.Module,
    specs: Sequence[InputSpec],
    *,
    where: str,
    call: Call | None = None,
    example: Sequence[torch.Tensor] | None = None,
) -> tuple[str, ...]:
    """Run the network once and name its outputs; `call` and `example` as in `TorchSource`.

    Raises:
        InputRefused: it raises, returns no tensors, changes a buffer in eval mode, or normalizes with the statistics
            of the batch.
    """
    torch = require_torch()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    batch_statistics: list[str] = []
    handles = [
        layer.register_forward_hook(lambda *_, name=name: batch_statistics.append(name))
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) and (layer.training or layer.running_mean is None)
    ]
    try:
        outputs = run_once(runnable(module, call), trial_inputs(specs, example=example), where=where)
    finally:
        for handle in handles:
            handle.remove()
    if batch_statistics:
        raise batch_statistics_refusal(list(dict.fromkeys(batch_statistics)), where=where)
    after = dict(module.named_buffers())
    changed = [
        name for name, value in before.items() if not torch.equal(value, after[name]) and not value.isnan().any()
    ]
    if changed:
        raise InputRefused(
            "the network changes its buffers in eval mode, so it is not a function of its inputs",
            where=where,
            found=first_names(changed),
            remedy="change them only `if self.training`",
        )
    names = [name for name, _ in named_outputs(outputs, where=where)]
    return tuple(distinct(names, taken=[spec.name for spec in specs]))


def batch_statistics_refusal(layers: Sequence[str], *, where: str, exported: bool = False) -> InputRefused:
    """The refusal of BatchNorms that use the statistics of the batch in eval mode."""
    return InputRefused(
        "a BatchNorm uses the statistics of the batch in eval mode, so the output of a sample depends on the others",
        where=where,
        found=f"layer {first_names(layers)}",
        expected="running statistics",
        remedy="call model.eval() before torch.export.export"
        if exported
        else "train with track_running_stats=True, or recalibrate the running statistics on training data",
    )


def distinct(names: Sequence[str], *, taken: Sequence[str]) -> list[str]:
    """Make names different from each other and from those taken, by a suffix."""
    used = set(taken)
    result = []
    for name in names:
        unique, count = name, 1
        while unique in used:
            unique, count = f"{name}_out" if count == 1 else f"{name}_out{count}", count + 1
        used.add(unique)
        result.append(unique)
    return result
