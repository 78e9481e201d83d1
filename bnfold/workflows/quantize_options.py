"""What `bnfold quantize` refuses before it begins, and what its files are called."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.quantisation.targets import GPU, this_target
from bnfold.runtime import Provider
from bnfold.workflows.arguments import check_threads, check_time_gate, require_provider
from bnfold.workflows.calibration_samples import check_samples

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from bnfold.records import InputSpec
    from bnfold.records.recipes import Target
    from bnfold.sources.types import Source

__all__ = [
    "HTML_NAME",
    "OUTPUT_NAMES",
    "PLAN_NAME",
    "PROVIDERS",
    "REPORT_NAME",
    "Asked",
    "check_options",
    "failed_name",
    "file_inputs",
    "model_name",
    "oldest_opset",
    "provider_here",
    "refuse_to_overwrite",
    "target_of",
]

Asked = Literal["int8", "fp16"]
PROVIDERS: Mapping[Asked, Provider] = {"int8": "cpu", "fp16": GPU}
"""What files of a precision run on."""
REPORT_NAME, HTML_NAME, PLAN_NAME = "report.json", "report.html", "plan.json"


def model_name(precision: Asked) -> str:
    """The file that passed."""
    return f"model.{precision}.onnx"


def failed_name(precision: Asked) -> str:
    """The file that did not, with `--keep-failed`."""
    return f"model.{precision}.failed.onnx"


OUTPUT_NAMES = (
    *(name(precision) for precision in get_args(Asked) for name in (model_name, failed_name)),
    REPORT_NAME, HTML_NAME, PLAN_NAME,
)  # fmt: skip


def target_of(precision: Asked, target: Target | None) -> Target:
    """The processor that a file is for: this machine's for int8, CUDA for fp16.

    Raises:
        InputRefused: the precision is unknown, or not made for that target.
    """
    if precision not in get_args(Asked):
        raise InputRefused("precision must be int8 or fp16", found=repr(precision), remedy="give one of them")
    if precision == "fp16":
        if target not in (None, GPU):
            raise InputRefused(
                "float16 is made for CUDA", found=f"target {target}", expected="target cuda",
                remedy="leave --target out, or quantize to int8: a CPU computes float16 in float32",
            )  # fmt: skip
        return GPU
    if target == GPU:
        raise InputRefused(
            "int8 is made for CPUs", found="target cuda", expected="x86-vnni, x86 or arm",
            remedy="give --precision fp16 for CUDA",
        )  # fmt: skip
    return target or this_target()


def provider_here(target: Target) -> Provider | None:
    """The provider that files for a target are timed with on this machine; None where they cannot be."""
    if target != GPU:
        return "cpu" if target == this_target() else None
    try:
        require_provider(GPU)
    except EnvironmentNotReady:
        return None
    return GPU


def file_inputs(folded: onnx.ModelProto, inputs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The inputs that the folded file still has, in its order."""
    own = {spec.name: spec for spec in inputs}
    return tuple(own[value.name] for value in folded.graph.input if value.name in own)


def oldest_opset(source: Source) -> int | None:
    """13 for a file that is older: scales per channel begin there."""
    from bnfold.quantisation.prepare import OLDEST_OPSET
    from bnfold.sources.types import OnnxSource

    if not isinstance(source, OnnxSource):
        return None
    own = source.model.opset_imports.get("", OLDEST_OPSET)
    return OLDEST_OPSET if own < OLDEST_OPSET else None


def check_options(
    precision: Asked, min_sqnr_db: Any, max_drop: Any, inputs: Any, data: str | None, *, plan: Path | None,
    measure: bool, weights: str, threads: int | None, budget_s: float,
) -> None:  # fmt: skip
    """Refuse options that are none, or that do not go together.

    Raises:
        InputRefused: the first such option.
    """
    check_samples(inputs, data)
    check_threads(threads)
    check_time_gate(budget_s, None)
    if plan is not None and measure:
        raise InputRefused("--plan and --measure exclude each other", remedy="leave one of them out")
    if precision == "fp16" and (plan is not None or measure or weights != "per-channel"):
        raise InputRefused(
            "plans and scales of weights are for int8", found="precision fp16",
            remedy="leave --plan, --measure and --weights per-tensor out",
        )  # fmt: skip
    if isinstance(min_sqnr_db, bool) or not isinstance(min_sqnr_db, (int, float)) or not math.isfinite(min_sqnr_db):
        raise InputRefused(
            f"min_sqnr_db must be a number of decibels, got {min_sqnr_db!r}", remedy="give 15, the default, or another"
        )
    if max_drop is not None and data is None:
        raise InputRefused(
            "a limit on accuracy needs labels", found=f"max_drop={max_drop}, no data",
            remedy="give labelled data with --data, or --min-sqnr in its place",
        )  # fmt: skip


def refuse_to_overwrite(spec: str, folder: Path) -> None:
    """Refuse an output that is the source.

    Raises:
        InputRefused: it is.
    """
    source = Path(spec)
    if source.is_file() and any(source.resolve() == (folder / name).resolve() for name in OUTPUT_NAMES):
        raise InputRefused("the output would overwrite the source", where=spec, remedy="choose another folder with -o")
