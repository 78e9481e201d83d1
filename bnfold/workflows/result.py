"""What `bnfold.fold_export` returns: the report, with the model that it is about."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bnfold.errors import InputRefused
from bnfold.records import FoldExportReport

if TYPE_CHECKING:
    import os

    import onnx

__all__ = ["MODEL_NAME", "REPORT_NAME", "FoldExportResult"]

MODEL_NAME = "model.onnx"
REPORT_NAME = "report.json"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FoldExportResult(FoldExportReport):
    """The report of `fold-export`, and `model`, None where it did not pass. True if it passed."""

    model: onnx.ModelProto | None = None
    json_left_out: ClassVar[tuple[str, ...]] = ("model",)

    @property
    def report(self) -> FoldExportReport:
        """The report alone."""
        names = (field.name for field in dataclasses.fields(FoldExportReport))
        return FoldExportReport(**{name: getattr(self, name) for name in names})

    def __bool__(self) -> bool:
        return self.passed

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write `model.onnx` and `report.json`, both or neither; the model's path comes back.

        Args:
            folder: made where missing.
            force: replace existing files.

        Raises:
            InputRefused: it did not pass, or the folder cannot be written to, or holds these files.
            EnvironmentNotReady: the disk is full.
        """
        from bnfold.report import write_json
        from bnfold.workflows.files import write_model
        from bnfold.workflows.staging import staged_folder

        if self.model is None:
            raise InputRefused(
                "there is no model to save, since it did not pass", where=self.source.spec, found=self.verify.failure,
                remedy="see .report for what failed",
            )  # fmt: skip
        output = Path(folder)
        with staged_folder(output, (MODEL_NAME, f"{MODEL_NAME}.data", REPORT_NAME), force=force) as stage:
            write_model(self.model, stage / MODEL_NAME, output=output)
            write_json(self, stage / REPORT_NAME)
        return output / MODEL_NAME
