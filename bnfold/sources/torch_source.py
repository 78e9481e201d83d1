"""From a PyTorch module to a TorchSource: eval mode, inputs, outputs, checks, SHA-256."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused
from bnfold.records import InputSpec, SourceFacts
from bnfold.sources.calling import call_of
from bnfold.sources.copies import private_copy
from bnfold.sources.extras import require_torch
from bnfold.sources.module_facts import n_parameters, refuse_lazy, refuse_unhealthy, sha256_of_module
from bnfold.sources.trial import trial_output_names
from bnfold.sources.types import TorchSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import nn

    from bnfold.sources.examples import Example

__all__ = ["input_specs", "module_source", "torch_source"]

log = logging.getLogger("bnfold.sources")

CLASSIFICATION_OUTPUT = "logits"


def torch_source(
    module: nn.Module,
    spec: str,
    *,
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    task: str | None = None,
    samples: Mapping[str, np.ndarray] | None = None,
    details: Mapping[str, Any] | None = None,
) -> TorchSource:
    """Check a module and collect the facts about it; puts it into eval mode on the CPU.

    Args:
        module: the network, with its weights.
        spec: the source as the user named it.
        shapes: one per input, axis 0 the batch.
        dtypes: NumPy name of each input's dtype, or one for all; that of the parameters where None.
        output_names: names for the outputs, in the order of `torch.utils._pytree`.
        task: "classification" names a single output `logits`.
        samples: real inputs by input name.
        details: anything the reports may want to show.

    Raises:
        InputRefused: the network does not run on these shapes, or cannot be folded safely.
    """
    module = module.cpu().eval()
    refuse_lazy(module, spec)
    refuse_unhealthy(module)
    inputs = input_specs(module, shapes, dtypes=dtypes, where=spec)
    found = trial_output_names(module, inputs, where=spec)
    return TorchSource(
        facts=_facts(module, spec),
        module=module,
        inputs=inputs,
        output_names=_output_names(found, output_names, task, where=spec),
        samples=samples,
        details=details or {},
    )


def module_source(
    network: nn.Module,
    example: Example | None,
    where: str,
    *,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    input_dtypes: Sequence[str] | None = None,
) -> TorchSource:
    """Check a module in memory; it stays as it is: what is exported is a copy, in eval mode on the CPU.

    Args:
        network: the module.
        example: its arguments; None for shapes.
        where: the module in messages.
        input_shapes: shapes instead of an example.
        input_dtypes: NumPy's names of the types, where shapes are given.

    Raises:
        InputRefused: it has no forward or no values, does not run on the example, or cannot be folded safely.
    """
    if example is None and not input_shapes:
        raise InputRefused(
            "the inputs of a module cannot be known", where=where, expected="an example of what forward is called with",
            remedy="give one as `example`: torch.randn(1, 3, 224, 224), or its shape (1, 3, 224, 224)",
        )  # fmt: skip
    refuse_lazy(network, where)
    if any(part.training for part in network.modules()):
        log.warning("%s is in train mode: what is exported is its eval mode, and the module stays as it is", where)
    module = private_copy(network, where=where)
    shapes = input_shapes or (example.shapes if example is not None else ())
    if example is None or (example.only_shapes and not example.kwargs):
        return torch_source(module, where, shapes=shapes, dtypes=input_dtypes, details={"kind": "module"})
    args, kwargs = _as_tensors(module, example, input_dtypes)
    call, tensors = call_of(module, args, kwargs, where=where)
    refuse_unhealthy(module)
    inputs = _specs_of(call.names, tensors)
    given = None if example.only_shapes else tuple(tensors)
    return TorchSource(
        facts=_facts(module, where),
        module=module,
        inputs=inputs,
        output_names=trial_output_names(module, inputs, where=where, call=call, example=given),
        call=None if call.is_plain else call,
        example=given,
        details={"kind": "module"},
    )


def _facts(module: nn.Module, spec: str) -> SourceFacts:
    return SourceFacts(spec=spec, sha256=sha256_of_module(module), n_parameters=n_parameters(module))


def _as_tensors(
    module: nn.Module, example: Example, dtypes: Sequence[str] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example's arguments with tensors on the CPU for arrays and shapes."""
    torch = require_torch()
    from torch.utils import _pytree as pytree

    if example.only_shapes:
        named = list(dtypes or [_parameter_dtype(module)])
        types = [getattr(torch, name) for name in (named * len(example.shapes) if len(named) == 1 else named)]
        made = (torch.zeros(shape, dtype=kind) for shape, kind in zip(example.shapes, types, strict=True))
        args = tuple(next(made) for _ in example.args)
        return args, {name: next(made) for name in example.kwargs}

    def on_cpu(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):
            return torch.from_numpy(leaf.copy())
        return leaf.detach().cpu() if torch.is_tensor(leaf) else leaf

    args, kwargs = pytree.tree_map(on_cpu, (example.args, dict(example.kwargs)))
    return args, kwargs


def _specs_of(names: Sequence[str], tensors: Sequence[torch.Tensor]) -> tuple[InputSpec, ...]:
    """The inputs: axis 0 is the batch where it is as long as that of the first input with axes."""
    batch = next((tensor.shape[0] for tensor in tensors if tensor.ndim), None)
    specs = []
    for name, tensor in zip(names, tensors, strict=True):
        dtype, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
        has_batch = bool(shape) and shape[0] == batch
        specs.append(
            InputSpec(name, (None, *shape[1:]), dtype) if has_batch else InputSpec(name, shape, dtype, batch_axis=None)
        )
    return tuple(specs)


def _output_names(
    found: tuple[str, ...], wanted: Sequence[str] | None, task: str | None, *, where: str
) -> tuple[str, ...]:
    if wanted is None:
        return (CLASSIFICATION_OUTPUT,) if task == "classification" and found == ("output",) else found
    if len(wanted) != len(found):
        raise InputRefused(
            "OUTPUT_NAMES does not fit the network",
            where=where,
            found=f"{len(wanted)} names",
            expected=f"{len(found)} for the outputs {', '.join(found)}",
            remedy="name every output, or leave OUTPUT_NAMES out",
        )
    return tuple(wanted)


def input_specs(
    module: nn.Module, shapes: Sequence[tuple[int, ...]], *, dtypes: Sequence[str] | None, where: str
) -> tuple[InputSpec, ...]:
    """Inputs named by the signature of `forward`, of the given shapes, the batch axis dynamic.

    Raises:
        InputRefused: `forward` wants more or takes fewer inputs than there are shapes.
    """
    names, n_required = _forward_names(module, len(shapes))
    if len(shapes) < n_required or len(shapes) > len(names):
        raise InputRefused(
            "the number of input shapes does not fit the network's forward",
            where=where,
            found=f"{len(shapes)} for the inputs {', '.join(names) or 'none'}",
            expected=str(n_required) if n_required == len(names) else f"{n_required} to {len(names)}",
            remedy="give one for every input, in the order of forward: --input-shape 1x3x224x224, in Python"
            " input_shapes=[(1, 3, 224, 224)]",
        )
    if dtypes is None:
        dtypes = [_parameter_dtype(module)]
    dtypes = [*dtypes] * len(shapes) if len(dtypes) == 1 else dtypes
    if len(dtypes) != len(shapes):
        raise InputRefused(
            "the number of input shapes does not fit that of the types (INPUT_DTYPES of the file, or --input-dtype)",
            where=where,
            found=f"{len(shapes)} shapes",
            expected=f"{len(dtypes)}, for {', '.join(dtypes)}",
            remedy="give a shape and a type for every input, in the order of forward",
        )
    named = zip(names, shapes, dtypes, strict=False)  # inputs with a default may be left out
    return tuple(InputSpec(name, (None, *shape[1:]), dtype) for name, shape, dtype in named)


def _parameter_dtype(module: nn.Module) -> str:
    """NumPy's name of the type of the first floating-point parameter; float32 where there is none."""
    floating = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
    return "float32" if floating is None else str(floating).removeprefix("torch.")


def _forward_names(module: nn.Module, n_shapes: int) -> tuple[list[str], int]:
    """The names of forward's positional inputs, and how many of them have no default."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in positional]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        names += [f"input_{index}" if n_shapes > 1 else "input" for index in range(len(names), n_shapes)]
    return names, sum(p.default is p.empty for p in positional)
