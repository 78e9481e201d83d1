"""The networks that the functions take: loaded, with the names asked for, and left as they were."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnfold.sources.interface import DynamicShapes
    from bnfold.sources.types import Source

__all__ = ["example_and_output", "file_of", "loaded_network", "undisturbed"]


def example_and_output(example: Any, output: Any) -> tuple[Any, Path | None]:
    """The example and the folder: a text or path in second place is the folder.

    Raises:
        InputRefused: there are two folders, or the folder is none.
    """
    if isinstance(example, str | os.PathLike):
        if output is not None:
            raise InputRefused(
                "the example must not be a text or path", found=repr(os.fspath(example)),
                expected="a tensor, a tuple, a dict of keyword arguments, or shapes", remedy="give the folder once",
            )  # fmt: skip
        example, output = None, example
    if output is not None and not isinstance(output, str | os.PathLike):
        raise InputRefused(
            f"the output must be a folder, got {type(output).__name__}", remedy="give a path, or None to write nothing"
        )
    return example, None if output is None else Path(output)


def loaded_network(
    network: Any,
    example: Any = None,
    *,
    dynamic_shapes: DynamicShapes | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    **options: Any,
) -> Source:
    """Load a SOURCE, or check a network in memory; `options` are those of `bnfold.sources.load_network`.

    Raises:
        InputRefused: it cannot be used, or the names do not fit.
        EnvironmentNotReady: a package is missing.
    """
    from bnfold import sources
    from bnfold.sources.in_memory import is_in_memory

    if is_in_memory(network) or example is not None:
        source = sources.load_network(network, example, **options)
    else:
        source = sources.load_source(os.fspath(network), **options)
    return sources.with_interface(
        source, dynamic_shapes=dynamic_shapes, input_names=input_names, output_names=output_names
    )


@contextlib.contextmanager
def undisturbed(network: Any) -> Iterator[None]:
    """Leave the random generators as they were, where a network of PyTorch is in memory."""
    from bnfold.sources.in_memory import kind_of_network

    with contextlib.ExitStack() as held:
        if kind_of_network(network) in ("module", "program"):
            from bnfold.sources.copies import kept_random_state

            held.enter_context(kept_random_state())
        yield


@contextlib.contextmanager
def file_of(model: Any) -> Iterator[Path]:
    """The file of an ONNX model: a path as it is, a model in memory written for as long as this is open.

    Raises:
        InputRefused: it is neither.
    """
    from bnfold.sources.in_memory import kind_of_network

    kind = kind_of_network(model)
    if kind == "source":
        yield Path(model)
        return
    if kind in ("module", "program"):
        raise InputRefused(
            "the candidate is not an ONNX model", found=type(model).__name__,
            expected="an .onnx file, an onnx.ModelProto or an onnx_ir.Model", remedy="give the reference first",
        )  # fmt: skip
    import onnx_ir as ir

    from bnfold.export import save

    with tempfile.TemporaryDirectory(prefix="bnfold-") as place:
        path = Path(place) / "candidate.onnx"
        save(model if kind == "onnx" else ir.to_proto(ir.external_data.load_to_model(model.clone())), path)
        yield path
