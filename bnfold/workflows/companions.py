"""What `fold-export` writes beside a model on demand: the certificate and golden values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx

    from bnfold.records import FoldExportReport
    from bnfold.sources.types import Source
    from bnfold.workflows.conversion import Conversion

__all__ = ["write_certificate_of", "write_golden"]


def write_certificate_of(
    path: Path, conversion: Conversion, report: FoldExportReport, options: Mapping[str, int | None]
) -> None:
    """Write `certificate.json` and `certificate.npz`, by which the file is proven again without folding."""
    from bnfold.verification.certificate import write_certificate

    if conversion.ledger.certificate is None or report.output is None:
        raise RuntimeError("a file that passed has a certificate and facts")
    write_certificate(
        path,
        conversion.ledger.certificate,
        conversion.folded,
        source_sha256=report.source.sha256,
        file_sha256=report.output.sha256,
        options=options,
    )


def write_golden(folder: Path, source: Source, plain: onnx.ModelProto, report: FoldExportReport, *, seed: int) -> None:
    """Write the folder of golden values, by which the file is judged without PyTorch."""
    from bnfold.verification import reference_for
    from bnfold.verification.golden.bundle_writer import write_bundle

    reference = reference_for(source, plain)
    write_bundle(folder, reference, report, inputs=source.inputs, samples=source.samples, seed=seed)
