"""What every target is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.bundles.batch_curve import BatchCurve
    from bnfold.bundles.session_choice import SessionChoice
    from bnfold.records import FileFacts, OutputFacts
    from bnfold.records.bundle import BundledInput, BundledOutput

__all__ = ["FILES", "Content", "Made", "copied"]

FILES = Path(__file__).parent / "files"
"""What is copied into bundles as it is."""


@dataclass(frozen=True)
class Content:
    """A file, judged, and what is known of how it shall be served.

    Attributes:
        name: of the model on the target.
        files: the `.onnx` file, and those of its external data.
        model: facts of the file, its path that in a bundle.
        inputs: of the file.
        outputs: of the file, with their limits.
        golden: the folder of golden values.
        facts: of the file's metadata.
        provider: ONNX Runtime's provider that it is served on, by bnfold's name.
        max_batch: the largest batch that is served; None where the batch is not dynamic, or is missing.
        session: the options of the session; None for ONNX Runtime's own, with the threads of the machine.
        curve: how the time of a batch grows with it; None where it was not measured.
        instances: sessions side by side.
        web_runtime: the folder of onnxruntime-web, for the target that needs it.
    """

    name: str
    files: tuple[Path, ...]
    model: OutputFacts
    inputs: tuple[BundledInput, ...]
    outputs: tuple[BundledOutput, ...]
    golden: Path
    facts: FileFacts
    provider: str
    max_batch: int | None
    session: SessionChoice | None
    curve: BatchCurve | None
    instances: int
    web_runtime: Path | None = None


@dataclass(frozen=True)
class Made:
    """What a target wrote: where the golden values and the model lie, what it decided, and what must be known."""

    golden: str
    model: str
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def copied(name: str, target: Path, replaced: Mapping[str, str] | None = None) -> None:
    """Copy one of `FILES`, with `@WORDS@` replaced where there are any."""
    content = (FILES / name).read_bytes()
    for word, value in (replaced or {}).items():
        content = content.replace(f"@{word}@".encode(), value.encode())
    target.write_bytes(content)
