"""What is evaluated: an `.onnx` file in ONNX Runtime, or any other SOURCE in PyTorch; both take arrays, in batches."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bnfold.benchmarking.offline import open_deployed
from bnfold.errors import InputRefused
from bnfold.evaluation.mixed_sizes import has_several_sizes, run_by_size
from bnfold.records import InputSpec
from bnfold.sources.file_facts import facts_in, facts_of, stated
from bnfold.sources.options import source_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfold.records.file_facts import FileFacts
    from bnfold.records.tuning import SessionSettings
    from bnfold.runtime import Provider
    from bnfold.sources.options import SourceOptions
    from bnfold.sources.types import TorchSource

    Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]

__all__ = ["Contender", "open_contender"]

_KINDS = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(bool)": "bool"}


@dataclasses.dataclass(frozen=True)
class Contender:
    """A network that is ready to run.

    Attributes:
        name: in reports.
        path: as the user named it.
        facts: the file's metadata, with what the user said in its place.
        inputs: names, shapes (None on dynamic axes) and dtypes, in order.
        output_names: in order.
        run_batch: from inputs in order to outputs in order, of the batch that `inputs` allow.
    """

    name: str
    path: str
    facts: FileFacts
    inputs: tuple[InputSpec, ...]
    output_names: tuple[str, ...]
    run_batch: Run

    @property
    def fixed_batch(self) -> int | None:
        """The one batch that it takes; None where any will do."""
        return next((spec.shape[0] for spec in self.inputs if spec.shape and spec.shape[0] is not None), None)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs for a batch of samples; where the batch is fixed, the last sample fills it up.

        Args:
            arrays: by input, samples first; of one input also images of several sizes (`mixed_sizes`).

        Raises:
            InputRefused: the samples do not fit the inputs.
        """
        if has_several_sizes(arrays[0]):
            return run_by_size(self.run, arrays[0], self.path)
        n, fixed = len(arrays[0]), self.fixed_batch
        self._refuse_misfit(arrays)
        given = [array.astype(spec.dtype, copy=False) for array, spec in zip(arrays, self.inputs, strict=True)]
        if fixed is None or fixed == n:
            return self.run_batch(given)
        parts = []
        for start in range(0, n, fixed):
            rows = np.minimum(np.arange(start, start + fixed), n - 1)
            parts.append([output[: n - start] for output in self.run_batch([array[rows] for array in given])])
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def _refuse_misfit(self, arrays: Sequence[np.ndarray]) -> None:
        found = [tuple(array.shape[1:]) for array in arrays]
        wanted = [spec.shape[1:] for spec in self.inputs]
        same = len(found) == len(wanted) and all(
            len(a) == len(b) and all(size in (None, length) for length, size in zip(a, b, strict=True))
            for a, b in zip(found, wanted, strict=True)
        )
        if not same:
            raise InputRefused(
                "the samples do not fit the inputs", where=self.path,
                found=" and ".join(map(str, found)), expected=" and ".join(map(_shape_text, wanted)),
                remedy="evaluate on data of this shape, or say how images become the input with --normalize size=HxW",
            )  # fmt: skip


def _shape_text(shape: Sequence[int | None]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def open_contender(
    spec: str,
    *,
    provider: Provider,
    threads: int | None,
    classes: str | os.PathLike[str] | None,
    normalize: str | None,
    settings: SessionSettings | None = None,
    **given: Any,
) -> Contender:
    """Open a file or a source.

    Args:
        spec: an `.onnx` file, or any other SOURCE.
        provider: of ONNX Runtime, for files.
        threads: of one operator; None for all that this process may use.
        classes: see `bnfold.sources.file_facts.stated`.
        normalize: likewise.
        settings: of the sessions of files, besides provider and threads; None for bnfold's own.
        given: weights, pretrained and input_shapes, for sources that are no file.

    Raises:
        TypeError: there is no such option.
        InputRefused: it cannot be read, or its input is no tensor of numbers.
        EnvironmentNotReady: a package or the provider is missing.
    """
    options = source_options(cast("SourceOptions", given))
    if Path(spec).suffix == ".onnx":
        opened = _open_file(Path(spec), spec, provider=provider, threads=threads, settings=settings)
    else:
        opened = _open_source(spec, **options)
    facts = stated(opened.facts, classes=classes, normalize=normalize)
    return dataclasses.replace(opened, facts=_with_size(facts, opened.inputs))


def _open_file(
    path: Path, spec: str, *, provider: Provider, threads: int | None, settings: SessionSettings | None
) -> Contender:
    from bnfold.runtime import open_session

    if settings is None:
        session = open_session(path, provider=provider, threads=threads)
    else:
        session = open_deployed(path, settings, threads=threads)
    inputs = tuple(_input_spec(value, spec) for value in session.get_inputs())
    names = [value.name for value in inputs]
    outputs = tuple(value.name for value in session.get_outputs())

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        try:
            return [np.asarray(output) for output in session.run(None, dict(zip(names, arrays, strict=True)))]
        except Exception as error:
            raise InputRefused(
                "ONNX Runtime does not run the file on these samples", where=spec, found=str(error)[:300],
                remedy="check the data's shape, or that the file runs with bnfold bench",
            ) from error  # fmt: skip

    facts = facts_in(session.get_modelmeta().custom_metadata_map, spec)
    return Contender(path.stem, spec, facts, inputs, outputs, run)


def _input_spec(value: Any, where: str) -> InputSpec:
    dtype = _KINDS.get(value.type) or value.type.removeprefix("tensor(").removesuffix(")")
    try:
        np.dtype(dtype)
    except TypeError as error:
        raise InputRefused(
            "an input is not a tensor of numbers", where=f"{where}, input {value.name}", found=value.type,
            remedy="evaluate a file whose inputs are images, vectors or sequences of numbers",
        ) from error  # fmt: skip
    return InputSpec(value.name, tuple(size if isinstance(size, int) else None for size in value.shape), dtype)


def _open_source(spec: str, **options: Any) -> Contender:
    from bnfold.sources import load_source
    from bnfold.sources.types import TorchSource

    source = load_source(spec, **options)
    if not isinstance(source, TorchSource):
        raise InputRefused("the source has no network to run", where=spec, remedy="give an .onnx file")
    name = Path(spec).name or spec
    return Contender(name, spec, facts_of(source), source.inputs, source.output_names, _torch_run(source))


def _torch_run(source: TorchSource) -> Run:
    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        import torch
        from torch.utils import _pytree as pytree

        with torch.no_grad():
            leaves = pytree.tree_leaves(source.runnable(*(torch.from_numpy(array.copy()) for array in arrays)))
        return [leaf.numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]

    return run


def _with_size(facts: FileFacts, inputs: Sequence[InputSpec]) -> FileFacts:
    """The facts, with the size of the input where the preprocessing leaves it open."""
    own = facts.preprocessing
    if own is None or own.size is not None or len(inputs) != 1 or len(inputs[0].shape) != 4:
        return facts
    height, width = inputs[0].shape[2:] if own.layout == "nchw" else inputs[0].shape[1:3]
    if height is None or width is None:
        return facts
    return dataclasses.replace(facts, preprocessing=dataclasses.replace(own, size=(height, width)))
