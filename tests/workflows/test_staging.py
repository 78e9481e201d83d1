"""Outputs are complete or absent, whatever ends the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnfold.errors import InputRefused
from bnfold.workflows.staging import staged_folder

NAMES = ("model.onnx", "report.json")


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write_all(stage: Path, text: str) -> None:
    for name in NAMES:
        (stage / name).write_text(text)


def stage_and_fail(output: Path, error: type[BaseException], *, force: bool = False) -> None:
    with staged_folder(output, NAMES, force=force) as stage:
        write_all(stage, "half")
        raise error


def test_files_appear_together_and_the_stage_goes(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "er"
    with staged_folder(output, NAMES, force=False) as stage:
        write_all(stage, "new")
        assert not (output / "model.onnx").exists()
    assert contents(output) == {"model.onnx": "new", "report.json": "new"}
    assert sorted(path.name for path in output.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_a_failure_leaves_nothing_and_removes_the_folders_it_made(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        stage_and_fail(tmp_path / "a" / "b", error)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays_with_what_it_held(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(KeyboardInterrupt):
        stage_and_fail(tmp_path, KeyboardInterrupt)
    assert contents(tmp_path) == {"notes.txt": "mine"}


@pytest.mark.parametrize("name", NAMES)
def test_existing_output_is_refused_before_the_block_runs(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("old")
    with pytest.raises(InputRefused, match="--force"), staged_folder(tmp_path, NAMES, force=False):
        pytest.fail("the block ran")
    assert contents(tmp_path) == {name: "old"}


def test_force_replaces_all_owned_files_and_no_other(tmp_path: Path) -> None:
    write_all(tmp_path, "old")
    (tmp_path / "notes.txt").write_text("mine")
    with staged_folder(tmp_path, NAMES, force=True) as stage:
        (stage / "report.json").write_text("new")
        assert (tmp_path / "model.onnx").read_text() == "old"
    assert contents(tmp_path) == {"notes.txt": "mine", "report.json": "new"}


def test_force_keeps_the_old_files_when_the_work_fails(tmp_path: Path) -> None:
    write_all(tmp_path, "old")
    with pytest.raises(KeyboardInterrupt):
        stage_and_fail(tmp_path, KeyboardInterrupt, force=True)
    assert contents(tmp_path) == dict.fromkeys(NAMES, "old")


@pytest.mark.parametrize("n_moves", range(4))
def test_an_interrupt_between_the_moves_brings_the_old_files_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_moves: int
) -> None:
    write_all(tmp_path, "old")
    replace = Path.replace
    moves: list[Path] = []

    def interrupted(self: Path, target: Path) -> Path:
        if len(moves) == n_moves:
            moves.append(self)
            raise KeyboardInterrupt
        moves.append(self)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path, NAMES, force=True) as stage:
        write_all(stage, "new")
    assert contents(tmp_path) == dict.fromkeys(NAMES, "old")


def test_a_folder_below_a_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(InputRefused, match=r"cannot write to the output folder.* -o"),
        staged_folder(tmp_path / "file" / "out", NAMES, force=False),
    ):
        pytest.fail("the block ran")
    assert contents(tmp_path) == {"file": "in the way"}
