"""What a file says of itself goes into its metadata and comes out the same; words of the user are read strictly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import onnx
import pytest

import bnfold
from bnfold.errors import InputRefused
from bnfold.export.file_metadata import _without_place, write_facts
from bnfold.records import FileFacts, Preprocessing
from bnfold.records.file_facts import as_properties, from_properties
from bnfold.sources.file_facts import read_classes
from bnfold.sources.preprocessing import parse_preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FACTS = FileFacts(
    task="classification",
    classes=("cat", "größer"),
    preprocessing=Preprocessing(mean=(0.1, 0.2, 0.3), std=(1.0,), channels="bgr", size=(3, 4), crop=0.5),
    data={"data": "digits", "split_seed": 3},
    source_sha256="00",
    ledger={"found": 1},
    versions={"bnfold": "1"},
)


def test_there_and_back() -> None:
    assert from_properties(as_properties(FACTS)) == FACTS
    assert from_properties({"other.tool": "x"}) == FileFacts()
    assert as_properties(FileFacts()) == {}


def test_entries_of_other_tools_stay(make_network: Callable[[], onnx.ModelProto]) -> None:
    model = make_network()
    model.metadata_props.add(key="author", value="x")
    for facts in (FACTS, FileFacts(task="detection")):
        write_facts(model, facts)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "author": "x", "bnfold.task": '"detection"',
    }  # fmt: skip


def test_a_file_names_no_folder_of_this_machine() -> None:
    kept = _without_place({"data": "folder:/home/me/flowers", "task": "classification"})
    assert kept == {"data": "folder:flowers", "task": "classification", "place_is_name": True}


@pytest.mark.parametrize("spoilt", ["{", '["a", 1]', '"a"'])
def test_damaged_metadata_is_named(network: Path, spoilt: str) -> None:
    model = onnx.load(network)
    model.metadata_props.add(key="bnfold.classes", value=spoilt)
    onnx.save(model, network)
    with pytest.raises(InputRefused, match=r"bnfold\.classes is damaged"):
        bnfold.inspect(network)


def test_a_file_made_of_a_file_keeps_what_that_knew(network: Path, tmp_path: Path) -> None:
    model = onnx.load(network)
    write_facts(model, FileFacts(task="segmentation", classes=("a", "b")))
    onnx.save(model, network)
    report = bnfold.fold_export(network, tmp_path / "out", normalize="imagenet")
    assert (report.facts.task, report.facts.classes) == ("segmentation", ("a", "b"))
    assert report.facts.preprocessing is not None
    assert report.facts.preprocessing.crop == 0.875


def test_imagenet() -> None:
    names = read_classes("imagenet")
    assert len(names) == 1000
    assert (names[0], names[285], names[999]) == ("tench", "Egyptian cat", "toilet tissue")


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.txt", "x\ny\n"), ("b.json", json.dumps(["x", "y"])), ("c.json", json.dumps({"1": "y", "0": "x"}))],
)
def test_class_names(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_classes(tmp_path / name) == ("x", "y")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "x\n\ny\n", "line 2 is empty"),
        ("a.txt", "", "there are no class names"),
        ("a.json", "{", "cannot be read"),
        ("a.json", '{"x": "y"}', "keys are no numbers"),
        ("a.json", "[1]", "no list of names"),
    ],
)
def test_class_names_that_are_none(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputRefused, match=words):
        read_classes(tmp_path / name)


def test_preprocessing_in_words() -> None:
    assert parse_preprocessing("imagenet").std == (0.229, 0.224, 0.225)
    own = parse_preprocessing("divide=1,mean=127:127:127,std=128,channels=bgr,size=192x256,interpolation=bicubic")
    assert own == Preprocessing(1.0, (127.0,) * 3, (128.0,), "bgr", "nchw", (192, 256), 1.0, "bicubic")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mean=x", "mean cannot be read"), ("std=0", "std cannot be read"), ("crop=2", "crop cannot be read"),
        ("size=1x2x3", "size cannot be read"), ("channels=xyz", "channels cannot be read"), ("mena=1", "mean"),
        ("mean=1,imagenet", "the preprocessing cannot be read"), ("channels=gray,mean=1:2:3", "one for each channel"),
    ],
)  # fmt: skip
def test_preprocessing_that_is_none(text: str, words: str) -> None:
    with pytest.raises(InputRefused, match=words):
        parse_preprocessing(text)
