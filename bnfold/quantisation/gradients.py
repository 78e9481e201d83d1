"""How much the outputs change with each channel of each value, by PyTorch's gradients.

    s_v[c] = mean over samples and positions of sum_k (dy_k / dv)^2

over all elements y_k of the outputs. One backward pass gives all of them at once: with signs e_k of 1 and -1 at random,
the square of d(sum_k e_k y_k) / dv has that sum as its mean (Hutchinson 1990). A value that the fold stores in other
units, `v' = a (v + d)`, has s / a^2; which one that is, the certificate says.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.quantisation.samples import batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from bnfold.records import InputSpec
    from bnfold.records.certificate import Certificate, Counterpart

__all__ = ["in_folded_units", "squared_gradients"]

BATCH = 2  # samples whose values are held at once
Array = np.ndarray


def squared_gradients(
    program: torch.export.ExportedProgram,
    samples: Mapping[str, Array],
    inputs: Sequence[InputSpec],
    *,
    seed: int = 0,
) -> dict[str, Array]:
    """s of every value of an exported program that has channels, by name, shape (C,).

    Args:
        program: the network, whose values have the names that they have in its export; unchanged.
        samples: arrays by input name, samples first.
        inputs: of the network, in its order.
        seed: of the signs.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    recording = _recording(program)
    total: dict[str, Array] = {}
    n = 0
    with _one_thread():
        for feed in batches(samples, inputs, BATCH):
            values = recording(_arguments(feed, inputs))
            outputs = [y for y in values.pop("") if y.requires_grad]
            if not outputs:
                return {}
            signs = [torch.randint(0, 2, y.shape, generator=generator).to(y.dtype) * 2 - 1 for y in outputs]
            names = [name for name, value in values.items() if value.ndim > 1]
            found = torch.autograd.grad(outputs, [values[name] for name in names], signs, allow_unused=True)
            n += 1
            for name, gradient in zip(names, found, strict=True):
                if gradient is not None:
                    s = gradient.double().square().mean(dim=(0, *range(2, gradient.ndim))).numpy()
                    total[name] = s if name not in total or len(total[name]) != len(s) else total[name] + s
    return {name: s / n for name, s in total.items()}


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in the same order, however many threads there are."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _arguments(feed: Mapping[str, Array], inputs: Sequence[InputSpec]) -> list[torch.Tensor]:
    import torch

    found = [torch.from_numpy(np.array(feed[spec.name])) for spec in inputs]
    return [x.requires_grad_() if x.dtype.is_floating_point else x for x in found]


def _recording(program: torch.export.ExportedProgram) -> Any:
    """A function of the inputs that gives every value that depends on them by name, and under "" the outputs."""
    import torch

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            found = super().run_node(n)
            if isinstance(found, torch.Tensor) and found.requires_grad and n.op in ("placeholder", "call_function"):
                recorded[n.name] = found
            return found

    recorded: dict[str, Any] = {}
    recorder = Recorder(program.module(check_guards=False))

    def run(arguments: list[torch.Tensor]) -> dict[str, Any]:
        recorded.clear()
        found = recorder.run(*arguments, enable_io_processing=False)
        recorded[""] = [y for y in torch.utils._pytree.tree_leaves(found) if isinstance(y, torch.Tensor)]
        return dict(recorded)

    return run


def in_folded_units(found: Mapping[str, Array], certificate: Certificate) -> dict[str, Array]:
    """s of the values of the folded graph, by name, as far as it is known of what they stand for.

    Args:
        found: s by the names of the source's values.
        certificate: of the fold.
    """
    folded = {}
    for name, counterparts in certificate.values.get("", {}).items():
        for counterpart in counterparts:
            s = None if counterpart.source not in found else _in_units(found[counterpart.source], counterpart)
            if s is not None:
                folded[name] = s
                break
    return folded


def _in_units(s: Array, counterpart: Counterpart) -> Array | None:
    """s / a^2 on the channels that are left; None where a differs along another axis."""
    if set(counterpart.kept) - {1}:
        return None
    own = s[counterpart.kept[1]] if 1 in counterpart.kept else s
    if counterpart.scale is None:
        return own
    scale = np.moveaxis(np.asarray(counterpart.scale), 1, 0) if np.ndim(counterpart.scale) > 1 else None
    if scale is None or len(scale) not in (1, len(own)):
        return None
    rows = scale.reshape(len(scale), -1)
    if not np.isfinite(rows).all() or (rows != rows[:, :1]).any() or not rows.all():
        return None
    return np.asarray(own / rows[:, 0] ** 2)
