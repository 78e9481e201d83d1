"""The output folder of `fold-export`: the names of its files, where they are made, and which of them are written."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.workflows.companions import write_certificate_of, write_golden
from bnfold.workflows.conversion import Conversion, with_facts
from bnfold.workflows.files import plain_file, write_model
from bnfold.workflows.proven_file import REPRODUCTION_NAME
from bnfold.workflows.result import MODEL_NAME, REPORT_NAME, FoldExportResult
from bnfold.workflows.staging import staged_folder

if TYPE_CHECKING:
    from bnfold.records import FileFacts
    from bnfold.sources.types import Source

__all__ = ["Wanted", "check_folder", "place", "write_files"]

FAILED_NAME = "model.failed.onnx"
PLAIN_NAME = "plain.onnx"
GOLDEN_NAME = "golden"
HTML_NAME = "report.html"
CERTIFICATE_NAME = "certificate.json"
CERTIFICATE_NUMBERS_NAME = "certificate.npz"
_FILES = (MODEL_NAME, FAILED_NAME, PLAIN_NAME)
# .data: networks above 2 GB
_FOLDERS = (REPRODUCTION_NAME, GOLDEN_NAME)
_CERTIFICATE = (CERTIFICATE_NAME, CERTIFICATE_NUMBERS_NAME)
_OUTPUT_NAMES = (REPORT_NAME, HTML_NAME, *_CERTIFICATE, *_FOLDERS, *_FILES, *(f"{name}.data" for name in _FILES))


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is asked for beside the model and its report; the arguments of `fold_export` of these names."""

    golden: bool
    certificate: bool
    html: bool
    keep_failed: bool
    keep_plain: bool


def check_folder(folder: Path | None, spec: str, wanted: Wanted) -> None:
    """Refuse a folder whose files are the source, and files that are wanted where there is no folder."""
    names = [name for name, value in dataclasses.asdict(wanted).items() if value]
    if folder is None and names:
        raise InputRefused(
            "these are files of an output folder", found=", ".join(names), remedy="give output, or leave them out"
        )
    source = Path(spec)
    if (
        folder is not None
        and source.is_file()
        and any(source.resolve() == (folder / name).resolve() for name in _OUTPUT_NAMES)
    ):
        raise InputRefused("the output would overwrite the source", where=spec, remedy="choose another folder with -o")


@contextlib.contextmanager
def place(folder: Path | None, *, force: bool) -> Iterator[Path]:
    """Where the files are written: beside the output until all checks passed, else where they are gone at the end."""
    if folder is not None:
        with staged_folder(folder, _OUTPUT_NAMES, force=force) as stage:
            yield stage
        return
    with tempfile.TemporaryDirectory(prefix="bnfold-") as made:
        yield Path(made)


def write_files(
    stage: Path,
    output: Path,
    report: FoldExportResult,
    wanted: Wanted,
    *,
    source: Source,
    conversion: Conversion,
    facts: FileFacts,
    files: Sequence[Path],
    options: Mapping[str, int | None],
    seed: int,
) -> None:
    """Write the report and what is wanted; of a model that did not pass its files go, unless they shall be kept.

    Args:
        stage: where the files are made.
        output: where they will lie, for errors.
        report: what came out.
        wanted: what is asked for.
        source: as loaded.
        conversion: its graphs.
        facts: of the file's metadata.
        files: the model as it was written.
        options: of the conversion, for the certificate.
        seed: of the golden values.
    """
    from bnfold.report import write_html, write_json

    if not report.passed:
        for file in files:
            file.unlink()
        if wanted.keep_failed:
            write_model(conversion.folded, stage / FAILED_NAME, output=output)
    elif wanted.keep_plain:
        plain = with_facts(plain_file(source, conversion.plain), conversion, facts)
        write_model(plain, stage / PLAIN_NAME, output=output)
    if wanted.certificate and report.passed:
        write_certificate_of(stage / CERTIFICATE_NAME, conversion, report, options)
    if wanted.golden and report.passed:
        write_golden(stage / GOLDEN_NAME, source, conversion.plain, report, seed=seed)
    write_json(report, stage / REPORT_NAME)
    if wanted.html:
        write_html(report, stage / HTML_NAME)
