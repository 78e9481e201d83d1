"""The `.onnx` files that fold-export writes, and the facts about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.errors import unwritable
from bnfold.records import OutputFacts
from bnfold.sources.digests import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx

    from bnfold.sources.types import Source

__all__ = ["output_facts", "plain_file", "write_model"]


def write_model(model: onnx.ModelProto, path: Path, *, output: Path) -> tuple[Path, ...]:
    """Save a model; its file comes back, and that of its external data where there is one.

    Args:
        model: what to save.
        path: the file to write.
        output: the folder that the file is to end in, for errors.

    Raises:
        EnvironmentNotReady: the disk is full.
        InputRefused: it cannot be written.
    """
    from bnfold.export import save

    try:
        return save(model, path)
    except OSError as error:
        remedy = "choose another folder with -o"
        raise unwritable("cannot write the file", error, where=str(output / path.name), remedy=remedy) from error


def output_facts(files: Sequence[Path], model: onnx.ModelProto) -> OutputFacts:
    """Facts of the file; with external data, size and digest cover both files, one after the other."""
    return OutputFacts(
        path=files[0].name,
        sha256=sha256_of(files),
        opset=next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        ir_version=model.ir_version,
        bytes=sum(file.stat().st_size for file in files),
    )


def plain_file(source: Source, plain: onnx.ModelProto) -> onnx.ModelProto:
    """The file to compare with: what `torch.onnx.export` makes by default, or the `.onnx` source as it is.

    By default (`optimize=True`) the exporter runs these two passes of onnxscript on the graph it has made, and they
    fold some BatchNorms already: that is the file a user would otherwise have.
    """
    from bnfold.sources.types import OnnxSource

    if isinstance(source, OnnxSource):
        return plain
    import onnx_ir as ir
    import onnxscript.optimizer
    import onnxscript.rewriter.onnx_fusions

    model = ir.from_proto(plain)
    onnxscript.optimizer.optimize_ir(model)
    onnxscript.rewriter.onnx_fusions.fuse(model)
    return ir.to_proto(model)
