"""JSON files are complete or absent."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.records import BenchRatio, Ledger
from bnfold.report import write_json


def test_a_record_becomes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ratio.json"
    path.write_text("old", encoding="utf-8")
    write_json(BenchRatio("ä", "b", 1, 1.0, float("nan"), 1.1, "tie"), path)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {
        "a": "ä", "b": "b", "batch": 1, "ratio": 1.0, "low": None, "high": 1.1, "verdict": "tie",
        "provider": None, "threads": None, "opt_level": "all", "input_shapes": {}, "note": None,
        "mode": "latency", "concurrency": 1, "optimize": "online", "cuda_graph": False,
            "leaning": None,
    }  # fmt: skip
    assert text.endswith("}\n")
    assert [file.name for file in tmp_path.iterdir()] == ["ratio.json"]


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_json({}, tmp_path / "report.json")
    finally:
        os.umask(mask)
    assert (tmp_path / "report.json").stat().st_mode & 0o777 == 0o640


def test_standard_output_holds_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    write_json(Ledger(()), "-")
    assert json.loads(capsys.readouterr().out)["found"] == 0


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for target in (tmp_path / "absent" / "report.json", tmp_path / "file" / "report.json"):
        with pytest.raises(InputRefused, match=r"cannot write the report in .*report\.json: found .*; choose"):
            write_json({}, target)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_not_the_input_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "no room")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(EnvironmentNotReady, match=r"cannot write the report in .*found no room; make room"):
        write_json({}, tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_json({"a": 1}, pipe)
        assert json.loads(os.read(reader, 4096)) == {"a": 1}
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert [file.name for file in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path, *, exists: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "report.json"
    if exists:
        target.write_text("old", encoding="utf-8")
    link = tmp_path / "link.json"
    link.symlink_to(Path("elsewhere") / "report.json")
    write_json({"a": 1}, link)
    assert link.readlink() == Path("elsewhere") / "report.json"
    assert json.loads(target.read_text(encoding="utf-8")) == {"a": 1}


def test_a_name_of_255_bytes(tmp_path: Path) -> None:
    write_json({}, tmp_path / ("n" * 250 + ".json"))
    assert [len(file.name) for file in tmp_path.iterdir()] == [255]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    path.write_text("old", encoding="utf-8")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_json({}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]
    assert path.read_text(encoding="utf-8") == "old"
