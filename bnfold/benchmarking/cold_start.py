"""What a file costs before the first answer: load, first run and memory, each in a fresh process.

In the measuring process itself these numbers would mean little: the second file would find the runtime initialised
and freed memory at hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from bnfold.benchmarking.inputs import random_inputs
from bnfold.benchmarking.timing import BoundFile
from bnfold.errors import EnvironmentNotReady
from bnfold.records import InputSpec, as_json
from bnfold.records.tuning import SessionSettings
from bnfold.runtime import require_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.benchmarking.axes import Cell

__all__ = ["ColdStart", "measure_cold_start"]

N_STARTS = 3  # the median of three: one that a busy moment slowed does not count


@dataclass(frozen=True)
class ColdStart:
    """Session creation and first run in milliseconds; `peak_mb`, the growth of the process's host memory in MiB.

    `peak_mb` is the peak resident set size after the runs, less the resident set size just before the file was
    loaded: the weights, the copies ONNX Runtime makes while it optimises, and the activations. Memory on a GPU is
    not in it. The file itself is in the system's cache or not, as it happens. Where it was asked for, `steady_ms` is
    the median of the runs behind the first, and `answers` the digest of what they gave.
    """

    load_ms: float
    first_ms: float
    peak_mb: float
    n_starts: int = 1
    steady_ms: float | None = None
    answers: str | None = None


def measure_cold_start(
    path: Path,
    specs: Sequence[InputSpec],
    shapes: Mapping[str, tuple[int, ...]],
    cell: Cell,
    *,
    seed: int,
    limit_s: float = float("inf"),
    provider_options: Mapping[str, str] | None = None,
    settings: SessionSettings | None = None,
    steady_s: float = 0.0,
) -> ColdStart:
    """Load and run a file in new Python processes; the median of three, or of as many as `limit_s` allows.

    Args:
        path: the file.
        specs: its inputs.
        shapes: name -> shape of each input.
        cell: provider, threads and level.
        seed: of the input values.
        provider_options: of the provider, besides its own.
        settings: the rest of the session's options.
        limit_s: after so many seconds no further process is started; the first always is.
        steady_s: how long the process goes on running the file; it tells of that where one process is started.

    Raises:
        EnvironmentNotReady: the process died (for want of memory, mostly).
    """
    inputs = [(spec.name, spec.dtype, shapes[spec.name]) for spec in specs]
    job = {"path": str(path), "inputs": inputs, "provider": cell.provider, "threads": cell.threads, "seed": seed}
    job |= {"opt_level": cell.load_level, "provider_options": dict(provider_options or {})}
    text = json.dumps(job | {"settings": None if settings is None else as_json(settings), "steady_s": steady_s})
    deadline = time.monotonic() + limit_s
    starts = [_start_process(path, text)]
    while len(starts) < N_STARTS and time.monotonic() < deadline:
        starts.append(_start_process(path, text))
    if len(starts) == 1:
        return starts[0]
    medians: dict[str, Any] = {
        name: float(np.median([getattr(start, name) for start in starts]))
        for name in ("load_ms", "first_ms", "peak_mb")
    }
    return ColdStart(**medians, n_starts=len(starts))


def _start_process(path: Path, job: str) -> ColdStart:
    home = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    # -P: no numpy.py of the working folder is imported in place of the package.
    done = subprocess.run(  # noqa: S603  # this interpreter, this module
        [sys.executable, "-P", "-m", "bnfold.benchmarking.cold_start", job],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvironmentNotReady(
            "the process that opens the file alone died", where=str(path),
            found=f"exit status {done.returncode}, {last_line}", remedy="free memory, or use a smaller --batch",
        )  # fmt: skip
    return ColdStart(**json.loads(done.stdout))


def peak_bytes() -> int:
    """The largest resident set size of this process so far (VmHWM in /proc on Linux, psutil or getrusage elsewhere)."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: its maximum survives exec, and so would be the parent's.
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", info.rss))


def _cold_start(job: Mapping[str, Any]) -> ColdStart:
    """What the new process does."""
    specs = [InputSpec(name, tuple(shape), dtype) for name, dtype, shape in job["inputs"]]
    inputs = random_inputs(specs, {spec.name: spec.with_batch(1) for spec in specs}, job["seed"])
    require_onnxruntime(job["provider"])
    before = psutil.Process().memory_info().rss
    file = BoundFile(
        Path(job["path"]), inputs, provider=job["provider"], threads=job["threads"], opt_level=job["opt_level"],
        provider_options=job["provider_options"],
        settings=None if job["settings"] is None else SessionSettings(**job["settings"]),
    )  # fmt: skip
    file.settle()
    return ColdStart(
        load_ms=file.load_ms or 0.0, first_ms=file.first_ms or 0.0, peak_mb=(peak_bytes() - before) / 2**20,
        **_steady_state(file, inputs, job["steady_s"]),
    )  # fmt: skip


def _steady_state(file: BoundFile, inputs: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
    """The median of the runs of so many seconds, and the digest of the outputs; nothing where none are wanted."""
    if limit_s <= 0:
        return {}
    times, deadline = [file.timed_ms()], time.monotonic() + limit_s
    while time.monotonic() < deadline:
        times.append(file.timed_ms())
    digest = hashlib.sha256()
    for output in file.session.run(None, dict(inputs)):
        digest.update(np.asarray(output).tobytes())
    return {"steady_ms": float(np.median(times)), "answers": digest.hexdigest()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_cold_start(json.loads(sys.argv[1])))))
