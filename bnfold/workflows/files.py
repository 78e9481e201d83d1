"""The `.onnx` files that fold-export writes, and the facts about them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused, unwritable
from bnfold.graph.operators import is_onnx
from bnfold.graph.unread import drop_inputs, unread_inputs
from bnfold.records import OutputFacts
from bnfold.sources.digests import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx

    from bnfold.sources.types import Source

__all__ = ["output_facts", "plain_file", "settle_interface", "write_model"]

log = logging.getLogger("bnfold.workflows")


def settle_interface(
    source: Source,
    plain: onnx.ModelProto,
    folded: onnx.ModelProto,
    *,
    static_batch: int | None,
    drop: bool,
    golden: bool,
) -> None:
    """Let the folded graph declare outputs as they are computed, and drop inputs that nothing reads, or warn of them.

    Args:
        source: settled.
        plain: its graph before the fold.
        folded: changed in place.
        static_batch: that the file is fixed at; None leaves it open.
        drop: whether inputs leave that no output depends on.
        golden: whether golden values are asked for, which hold every input of the source.

    Raises:
        InputRefused: inputs would leave that golden values need.
    """
    from bnfold.sources.types import OnnxSource
    from bnfold.verification.checks.declared_outputs import open_false_outputs

    if isinstance(source, OnnxSource):
        open_false_outputs(folded, source, plain, batch=static_batch)
    _handle_unread_inputs(plain, folded, drop=drop, golden=golden, where=source.facts.spec)


def _handle_unread_inputs(
    plain: onnx.ModelProto, folded: onnx.ModelProto, *, drop: bool, golden: bool, where: str
) -> None:
    source, now = unread_inputs(plain), unread_inputs(folded)
    removable = tuple(name for name in now if name in source)
    if drop and removable:
        if golden:
            raise InputRefused(
                "golden values hold every input of the source", where=where, found=f"unused {', '.join(removable)}",
                remedy="leave --golden or --drop-unused-inputs out",
            )  # fmt: skip
        drop_inputs(folded, removable)
        log.info("%s: left out %s, which no output depends on", where, ", ".join(removable))
    elif removable:
        log.warning(
            "%s: no output depends on input %s; --drop-unused-inputs leaves it out", where, ", ".join(removable)
        )
    if drop:
        now = tuple(name for name in now if name not in removable)
    if set(now) - set(removable):
        log.warning("%s: nothing reads input %s any more after the fold", where, ", ".join(set(now) - set(removable)))


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
        opset=next(entry.version for entry in model.opset_import if is_onnx(entry.domain)),
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
