"""The tools: each is given a file, or a network, writes its own, and checks itself as far as it can.

Each has a process of its own (`common.isolated`), whose output is what the tool said.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnx

from peers.cases import exported, module_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TOOLS", "Task", "made"]

WARNED = (5e-3, 1e-1)  # absolute, relative: torch/onnx/_internal/exporter/_core.py, "Validate the output values"
Own = Literal["equal", "different", "undecided"]
"""What a tool says of its own file; None where it has no check."""


@dataclass(frozen=True)
class Task:
    """The case, the file that is given, and where to write."""

    case: str
    given: Path
    target: Path


@dataclass(frozen=True)
class Made:
    """The file is written; what the tool's own check said, and the CPU time without and with it."""

    tool_s: float
    check_s: float = 0.0
    own: Own | None = None
    detail: str = ""


def _exporter(task: Task) -> Made | None:
    """`torch.onnx.export` as it is by default, with `verify=True`; None for a file, of which there is no network.

    Its check, `torch.onnx.verification`, compares with PyTorch on the example; `verify=True` warns where the difference
    is above `WARNED`.
    """
    network = module_of(task.case)
    if network is None:
        return None
    start = time.process_time()
    program = exported(network, task.target)
    tool_s = time.process_time() - start
    start = time.process_time()
    found = import_module("torch.onnx.verification").verify_onnx_program(program)
    apart = [one for one in found if one.max_abs_diff >= WARNED[0] or one.max_rel_diff >= WARNED[1]]
    worst = max((one.max_abs_diff for one in found), default=0.0)
    said = f"largest difference {worst:.2g}"
    return Made(tool_s, time.process_time() - start, "different" if apart else "equal", said)


def _onnxsim(task: Task) -> Made:
    """`onnxsim.simplify(..., certify=True)`: its certificate stands in the metadata of the file."""
    onnxsim = import_module("onnxsim")
    start = time.process_time()
    onnxsim.simplify(onnx.load(task.given), certify=False)
    tool_s = time.process_time() - start
    start = time.process_time()
    model = onnxsim.simplify(onnx.load(task.given), certify=True)[0]
    check_s = max(0.0, time.process_time() - start - tool_s)
    said = {entry.key: entry.value for entry in model.metadata_props}
    status = said.get("onnxsim.certify", "not-run")
    own: Own = {"proved": "equal", "refuted": "different"}.get(status, "undecided")  # type: ignore[assignment]
    onnx.save(model, task.target)
    return Made(tool_s, check_s, own, f"{status}: {said.get('onnxsim.certify.detail', '')}".strip(": "))


def _onnxslim(task: Task) -> Made:
    """`onnxslim.slim(..., model_check=True)`, which gives nothing where outputs on one random input differ."""
    onnxslim = import_module("onnxslim")
    start = time.process_time()
    model = onnxslim.slim(onnx.load(task.given))
    tool_s = time.process_time() - start
    onnx.save(model, task.target)
    start = time.process_time()
    own: Own
    try:
        checked = onnxslim.slim(onnx.load(task.given), model_check=True)
        own, detail = ("different", "the check refuses it") if checked is None else ("equal", "")
    except Exception as error:  # noqa: BLE001 - what its check raises is what it says
        own, detail = "undecided", f"{type(error).__name__}: {error}".splitlines()[0]
    return Made(tool_s, max(0.0, time.process_time() - start - tool_s), own, detail)


def _ort(task: Task) -> Made:
    """ONNX Runtime's optimized file at the level "extended", which fits every CPU; it has no check."""
    from bnfold.benchmarking.offline import write_offline

    start = time.process_time()
    write_offline(task.given, task.target, "extended")
    return Made(time.process_time() - start)


def _bnfold(task: Task) -> Made:
    """`bnfold.fold_export` on the file, whose own check is its proof and comparison."""
    import bnfold

    start = time.process_time()
    times: dict[str, float] = {}

    def progress(stage: str) -> None:
        times[stage] = time.process_time()

    result = bnfold.fold_export(
        str(task.given),
        output=task.target.parent / "bnfold",
        budget_s=0,
        keep_failed=True,
        quick=True,
        progress=progress,
    )
    end, verdict = time.process_time(), result.verify
    (task.target.parent / "bnfold" / ("model.onnx" if verdict else "model.failed.onnx")).rename(task.target)
    check_s = end - times.get("verify", end)
    own: Own = "equal" if verdict else "different"
    proven = "proven operator by operator" if verdict.certificate is not None else "compared on inputs"
    return Made(end - start - check_s, check_s, own, verdict.failure or proven)


TOOLS: dict[str, Callable[[Task], Made | None]] = {
    "export": _exporter, "onnxsim": _onnxsim, "onnxslim": _onnxslim, "ort": _ort, "bnfold": _bnfold,
}  # fmt: skip


def made(tool: str, *, task: Task) -> dict[str, Any]:
    """What a tool did, as facts: `said` holds its last warning on standard output or error.

    An exception of the tool is a `failure` (`common.isolated`); of a case that it does not take there is no fact.
    """
    with _heard() as words:
        result = TOOLS[tool](task)
    facts: dict[str, Any] = {"network": tool, "said": words[0]}
    if result is not None:
        facts |= {"tool_s": round(result.tool_s, 2), "check_s": round(result.check_s, 2)}
        facts |= {"own": result.own, "detail": result.detail[:300]}
    return facts


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """What the process writes to its standard output and error, also from C++: the last line that warns."""
    words = [""]
    sys.stdout.flush(), sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with tempfile.TemporaryFile() as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield words
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)
            file.seek(0)
            lines = file.read().decode(errors="replace").splitlines()
            warned = [line.strip() for line in lines if any(word in line.lower() for word in ("warn", "error", "fail"))]
            words[0] = warned[-1][:300] if warned else ""
