"""A file by its golden values: found beside it or made, and what its outputs may lie off, judged here."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from bnfold.errors import GateFailed, InputRefused
from bnfold.graph.operators import is_onnx
from bnfold.records import OutputFacts
from bnfold.records.bundle import BundledInput, BundledOutput, GoldenFacts
from bnfold.sources import facts_of, load_source
from bnfold.sources.digests import sha256_of
from bnfold.sources.external_data import locate_external_data
from bnfold.sources.types import OnnxSource
from bnfold.sources.user_inputs import with_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.records import FileFacts, Verdict

__all__ = ["DTYPES", "JudgedFile", "judged_file", "opened_file"]

DTYPES = (
    "float16", "float32", "float64", "bool",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
"""Types of tensors that NumPy, the Open Inference Protocol, Triton and browsers share."""


@dataclasses.dataclass(frozen=True)
class JudgedFile:
    """A file that is what its golden values say.

    `files` are the `.onnx` file and those of its external data; `golden` is said of a folder, whose path in the bundle
    the target decides.
    """

    files: tuple[Path, ...]
    model: OutputFacts
    inputs: tuple[BundledInput, ...]
    outputs: tuple[BundledOutput, ...]
    facts: FileFacts
    golden: GoldenFacts


@dataclasses.dataclass(frozen=True)
class OpenedFile:
    """A file before it is judged: loaded, and what is said of it."""

    path: Path
    source: OnnxSource
    files: tuple[Path, ...]
    model: OutputFacts
    output_shapes: Mapping[str, tuple[int | None, ...]]

    @property
    def has_dynamic_batch(self) -> bool:
        """Whether every input has an axis that counts the samples, of any length."""
        return all(spec.batch_dynamic for spec in self.source.inputs)

    @property
    def largest_batch(self) -> int | None:
        """The longest that this axis may be; None where it may take any length."""
        return min((spec.largest_batch for spec in self.source.inputs if spec.largest_batch), default=None)


def opened_file(path: Path, *, batch_dim: str | None = None) -> OpenedFile:
    """Load a file that can be served.

    Raises:
        InputRefused: it is damaged, or an input or output is of a type that targets do not share.
    """
    source = load_source(str(path), batch_dim=batch_dim)
    if not isinstance(source, OnnxSource):
        raise InputRefused("a bundle is made of an .onnx file", where=str(path), remedy="export it with fold-export")
    for spec in source.inputs:
        _check_dtype(f"input {spec.name}", spec.dtype, path)
    proto = onnx.load(path, load_external_data=False)
    files = (path, *locate_external_data(proto, path)[1])
    model = OutputFacts(
        path=path.name,
        sha256=sha256_of(files),
        opset=next(entry.version for entry in proto.opset_import if is_onnx(entry.domain)),
        ir_version=proto.ir_version,
        bytes=sum(file.stat().st_size for file in files),
    )
    shapes = {value.name: _axes(value) for value in proto.graph.output}
    return OpenedFile(path, source, files, model, shapes)


def judged_file(
    opened: OpenedFile,
    folder: Path,
    *,
    golden: Path | None,
    inputs: Path | None,
    batches: Sequence[int],
    options: Mapping[str, Any],
    threads: int | None,
    seed: int,
) -> JudgedFile:
    """Put golden values of a file into a folder, and judge the file by them on the CPU.

    Args:
        opened: the file.
        folder: does not exist yet.
        golden: a folder of golden values; None takes `golden` beside the file, if it is of this file, or makes them.
        inputs: samples to make them of.
        batches: sizes to make them for, besides 1, 2 and 3.
        options: of `load_source`, sizes of the inputs.
        threads: of one operator; None takes all that this process may use.
        seed: of random inputs.

    Raises:
        InputRefused: the golden values cannot be used, or none can be made.
        GateFailed: the file does not pass.
    """
    from bnfold.verification.golden.bundle_verdict import golden_limits

    facts = facts_of(opened.source)
    found = _found_golden(opened, golden, inputs)
    if found is not None:
        shutil.copytree(found, folder)
    else:
        _make_golden(opened, folder, facts, inputs=inputs, batches=batches, options=options, threads=threads, seed=seed)
    verdict, limits = golden_limits(opened.path, folder, threads=threads, seed=seed)
    if not verdict.passed:
        raise GateFailed(
            "the file does not pass by the golden values", where=str(opened.path), found=verdict.failure,
            remedy=f"give its own golden values with --golden (these are {found or 'of the file itself'})",
        )  # fmt: skip
    for limit in limits:
        _check_dtype(f"output {limit.name}", limit.dtype, opened.path)
    return JudgedFile(
        files=opened.files,
        model=opened.model,
        inputs=tuple(
            BundledInput(spec.name, spec.dtype, spec.shape, spec.batch_axis if spec.has_batch else None)
            for spec in opened.source.inputs
        ),
        outputs=tuple(
            BundledOutput(one.name, one.dtype, opened.output_shapes[one.name], one.rms, one.maximum) for one in limits
        ),
        facts=facts,
        golden=_golden_facts(folder, verdict),
    )


def _found_golden(opened: OpenedFile, golden: Path | None, inputs: Path | None) -> Path | None:
    """The folder that was named, or one beside the file that is of it, where none shall be made of samples."""
    if golden is not None:
        if inputs is not None:
            raise InputRefused(
                "golden values hold their inputs", found="--golden and --inputs", remedy="give one of them"
            )
        return golden
    beside = opened.path.parent / "golden"
    try:
        account = json.loads((beside / "bundle.json").read_text(encoding="utf-8"))
        is_own = account["model"]["sha256"] == opened.model.sha256
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return beside if is_own and inputs is None else None


def _make_golden(
    opened: OpenedFile, folder: Path, facts: FileFacts, *, inputs: Path | None, options: Mapping[str, Any],
    batches: Sequence[int], threads: int | None, seed: int,
) -> None:  # fmt: skip
    from bnfold.verification.execution.settled_sizes import settled
    from bnfold.verification.golden.file_values import write_file_values

    source = settled(with_inputs(load_source(str(opened.path), **options), inputs))
    if not isinstance(source, OnnxSource):
        raise TypeError("an .onnx file was loaded as something else")
    if not any(spec.batch_dynamic for spec in source.inputs):
        batches = ()  # an axis that is dynamic by name only; see `choices.served_batch`
    source = dataclasses.replace(source, facts=dataclasses.replace(source.facts, spec=opened.path.name))
    write_file_values(
        folder, opened.path, source, model=opened.model, facts=facts, batches=batches, threads=threads, seed=seed
    )


def _golden_facts(folder: Path, verdict: Verdict) -> GoldenFacts:
    account = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    return GoldenFacts(
        path=folder.name,
        reference=account["reference"],
        source=account["source"]["spec"],
        n_compared=verdict.n_compared,
        batches=verdict.batches,
    )


def _axes(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)


def _check_dtype(where: str, dtype: str, path: Path) -> None:
    if dtype not in DTYPES:
        raise InputRefused(
            "a tensor of this type cannot be served", where=f"{where} of {path}", found=dtype,
            expected=", ".join(DTYPES), remedy="export the file with another type",
        )  # fmt: skip
