"""What `bnfold bundle` wrote: the manifest that lies in the bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from bnfold.records.conversion import OutputFacts
from bnfold.records.file_facts import FileFacts
from bnfold.shown import Shown

__all__ = ["BundleReport", "BundledFile", "BundledInput", "BundledOutput", "GoldenFacts"]


@dataclasses.dataclass(frozen=True)
class BundledFile:
    """A file of the bundle; `path` is relative to its folder, with slashes."""

    path: str
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class BundledInput:
    """An input of the model: its NumPy dtype, its shape with None on dynamic axes, the axis that counts samples."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    batch_axis: int | None


@dataclasses.dataclass(frozen=True)
class BundledOutput:
    """An output of the model, and how far it may lie from the golden float64 values.

    Over all golden inputs together, as root mean square (`allowed_rms`) and at most (`allowed_maximum`), in the
    output's own units. Whole numbers and booleans must be equal; both limits are 0 then.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    allowed_rms: float
    allowed_maximum: float


@dataclasses.dataclass(frozen=True)
class GoldenFacts:
    """Where the golden values lie in the bundle, who computed them, of what, and for how many values and batches."""

    path: str
    reference: str
    source: str
    n_compared: int
    batches: tuple[int, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class BundleReport(Shown):
    """What is needed to serve a file on a target; its JSON is the `manifest.json` of the bundle.

    `max_batch` is the largest batch that is served, None where the file has no dynamic batch. `provider` is ONNX
    Runtime's name of it. `session` holds the options of the session, None for the defaults. `settings` are what the
    target decided besides; `notes` say what a user must know, and what was left out.
    """

    target: str
    name: str
    model: OutputFacts
    inputs: tuple[BundledInput, ...]
    outputs: tuple[BundledOutput, ...]
    golden: GoldenFacts
    provider: str
    max_batch: int | None
    session: Mapping[str, Any] | None
    settings: Mapping[str, Any]
    facts: FileFacts
    notes: tuple[str, ...]
    files: tuple[BundledFile, ...]
    schema: ClassVar[str] = "bnfold.bundle/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)

    def in_a_line(self) -> str:
        """The file, where it is served, and how much it is."""
        return f"{self.model.path} for {self.target}: {len(self.files)} files, {self.n_bytes:,} bytes"

    @property
    def n_bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)
