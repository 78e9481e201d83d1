"""Two processes with one output folder: the second is refused, and nobody's files are replaced."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bnfold.errors import InputRefused
from bnfold.workflows import folder_lock
from bnfold.workflows.folder_lock import LOCK_NAME, locked_folder
from bnfold.workflows.partial_run import PartialRun
from bnfold.workflows.staging import staged_folder

NAMES = ("model.onnx",)
HOLDER = """
import sys, time
from pathlib import Path
from bnfold.workflows.staging import staged_folder
with staged_folder(Path(sys.argv[1]), ("model.onnx",), force=False):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    """Another process that writes to the folder; killed at the end, as by the system."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_of_the_first(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    for force in (False, True):
        with (
            pytest.raises(InputRefused, match=f"another bnfold process.*process {holder.pid};.* -o"),
            staged_folder(tmp_path, NAMES, force=force),
        ):
            pytest.fail("the block ran")
    assert (tmp_path / LOCK_NAME).exists()


def test_the_lock_of_a_killed_process_is_in_nobodys_way(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK_NAME).exists()
    with staged_folder(tmp_path, NAMES, force=False) as stage:
        (stage / "model.onnx").write_text("new")
    assert not (tmp_path / LOCK_NAME).exists()
    assert (tmp_path / "model.onnx").read_text() == "new"


@pytest.mark.parametrize("force", [False, True])
def test_files_that_appeared_meanwhile_are_replaced_with_force_only(tmp_path: Path, force: bool) -> None:
    def write() -> None:
        with staged_folder(tmp_path, NAMES, force=force) as stage:
            (stage / "model.onnx").write_text("late")
            (tmp_path / "model.onnx").write_text("early")

    if force:
        write()
    else:
        with pytest.raises(InputRefused, match=r"the output appeared meanwhile in .*model\.onnx; .*--force"):
            write()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"model.onnx": "late" if force else "early"}


def test_the_refused_second_leaves_the_folder_of_the_first(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with staged_folder(output, NAMES, force=False) as stage:
        with pytest.raises(InputRefused, match=str(os.getpid())), staged_folder(output, NAMES, force=False):
            pytest.fail("the block ran")
        (stage / "model.onnx").write_text("first")
    assert [path.name for path in output.iterdir()] == ["model.onnx"]


def test_a_lock_file_that_its_owner_removed_in_between_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = folder_lock._lock, []

    def late(descriptor: int) -> bool:
        if not removed:
            removed.append((tmp_path / LOCK_NAME).unlink())  # between opening the file and locking it
        return lock(descriptor)

    monkeypatch.setattr(folder_lock, "_lock", late)
    with locked_folder(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text().startswith(str(os.getpid()))


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with staged_folder(tmp_path, NAMES, force=False) as stage:
        (stage / "model.onnx").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_two_runs_do_not_train_into_one_folder(tmp_path: Path) -> None:
    with PartialRun(tmp_path / "run", model="bnnet").in_progress(resumed=False):
        with (
            pytest.raises(InputRefused, match=r"another bnfold process .*run\.partial"),
            PartialRun(tmp_path / "run", model="bnnet").in_progress(resumed=False),
        ):
            pytest.fail("the block ran")
        (tmp_path / "run.partial" / "metrics.jsonl").write_text("{}\n")
    assert list(tmp_path.iterdir()) == []
