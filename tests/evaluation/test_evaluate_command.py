"""`bnfold evaluate`: metrics, paired differences and gates of files on labelled images and arrays."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import bnfold
from bnfold.errors import InputRefused
from bnfold.evaluation.intervals import wilson
from bnfold.records import Preprocessing

from .conftest import COLOURS, FACTS, TEXT, image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Cli = Callable[..., Result]

FLIPPED = TEXT.replace("logits = Flatten <axis = 1> (mean)", "flat = Flatten <axis = 1> (mean)\n  logits = Neg (flat)")


def test_a_folder_of_images(cli: Cli, classifier: Callable[..., Path], folder: Path, tmp_path: Path) -> None:
    result = cli("evaluate", classifier(), "--data", f"folder:{folder}", "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.stderr
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["schema"] == "bnfold.evaluate/1"
    assert found["data"] | {"sha256": ""} == {"spec": f"folder:{folder}", "split": "all", "n": 12, "sha256": ""}
    (own,) = found["files"]
    expected = wilson(11, 12)
    assert own["metrics"]["accuracy"] == {"value": expected.value, "low": expected.low, "high": expected.high}
    assert own["classes"] == list(COLOURS)
    # The folders are sorted by name: blue, green, red; the matrix is in the order of the output.
    assert own["confusion"] == [[4, 0, 0], [0, 3, 1], [0, 0, 4]]
    (mistake,) = own["worst_mistakes"]
    assert (mistake["sample"], mistake["label"], mistake["predicted"]) == ("green/0.png", "green", "blue")
    assert "matched by name" in result.stderr


def test_images_of_several_sizes_run_size_by_size(
    cli: Cli, classifier: Callable[..., Path], folder: Path, tmp_path: Path
) -> None:
    """A file that takes any size, as one that resizes images itself does."""
    for number, file in enumerate(sorted(folder.rglob("*.png"))):
        Image.open(file).resize((6 + number % 3, 5 + number % 2)).save(file)
    free = dataclasses.replace(FACTS, preprocessing=Preprocessing(mean=(0.5,), std=(0.25,)))
    file = classifier(facts=free, text=TEXT.replace("N, 3, 4, 4", "N, 3, H, W"))
    for batch in (1, 5, 12):
        out = tmp_path / f"{batch}.json"
        result = cli("evaluate", file, "--data", f"folder:{folder}", "--batch", batch, "--json", out)
        assert result.exit_code == 0, result.stderr
        (own,) = json.loads(out.read_text(encoding="utf-8"))["files"]
        assert own["confusion"] == [[4, 0, 0], [0, 3, 1], [0, 0, 4]]
        assert [mistake["sample"] for mistake in own["worst_mistakes"]] == ["green/0.png"]


def test_two_files_sample_by_sample(cli: Cli, classifier: Callable[..., Path], folder: Path, tmp_path: Path) -> None:
    flipped, files = classifier("flipped", text=FLIPPED), tmp_path / "differences.jsonl"
    result = cli(
        "evaluate", flipped, classifier(), "--data", f"folder:{folder}", "--max-drop", "10%", "--differences", files,
        "--junit", tmp_path / "out.xml", "--markdown", tmp_path / "out.md", "--json", tmp_path / "out.json",
    )  # fmt: skip
    assert result.exit_code == 1, result.stdout
    assert "error: accuracy below what is allowed in flipped - colours accuracy" in result.stderr
    (pair,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["pairs"]
    assert (pair["gained"], pair["lost"], pair["agreement"]) == (0, 11, 0.0)
    assert pair["difference"] == pytest.approx(-11 / 12)
    rows = [json.loads(line) for line in files.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 12
    assert rows[0]["label"] == rows[0]["colours"] == "blue"
    assert rows[0]["flipped"] != "blue"
    suite = ElementTree.fromstring((tmp_path / "out.xml").read_bytes())[0]  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert "| flipped - colours | accuracy | -0.9167 |" in (tmp_path / "out.md").read_text(encoding="utf-8")


def test_a_file_against_itself_is_undecided_on_few_samples(
    cli: Cli, classifier: Callable[..., Path], folder: Path
) -> None:
    file = classifier()
    result = cli("evaluate", file, file, "--data", f"folder:{folder}", "--max-drop", "0.5%", "--min", "accuracy=0.5")
    assert result.exit_code == 0
    assert "undecided: too few samples; about 1,321 like these would decide" in result.stdout
    assert "colours accuracy: 0.9167" in result.stdout


def test_a_page_with_pictures_of_the_mistakes(
    cli: Cli, classifier: Callable[..., Path], folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert cli("evaluate", classifier(), "--data", f"folder:{folder}", "--html", page).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert text.count('src="data:image/png;base64,') == 1
    assert "green taken for blue" in text
    assert 'data-path="files.0.confusion.1.2"' in text


@pytest.mark.parametrize("layout", ["first", "last"])
def test_arrays_of_eight_bits_are_normalised_by_the_file(
    classifier: Callable[..., Path], tmp_path: Path, layout: str
) -> None:
    x = np.stack([np.asarray(image(colour).resize((4, 4))) for colour in COLOURS])
    stored = x if layout == "last" else x.transpose(0, 3, 1, 2)
    np.savez(tmp_path / "a.npz", x=stored, y=np.arange(3))
    report = bnfold.evaluate(classifier(), data=f"npz:{tmp_path / 'a.npz'}")
    assert report.files[0].metrics["accuracy"].value == 1.0


def test_blue_comes_first_where_the_file_says_so(classifier: Callable[..., Path], folder: Path) -> None:
    facts = dataclasses.replace(FACTS, preprocessing=Preprocessing(channels="bgr", size=(4, 4)), classes=COLOURS[::-1])
    report = bnfold.evaluate(classifier(facts=facts), data=f"folder:{folder}")
    assert report.files[0].metrics["accuracy"].value == pytest.approx(11 / 12)


def test_options_stand_in_for_metadata(classifier: Callable[..., Path], folder: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(COLOURS) + "\n", encoding="utf-8")
    report = bnfold.evaluate(
        classifier(facts=None), data=f"folder:{folder}", classes=names, normalize="half,size=4"
    )  # fmt: skip
    assert report.files[0].metrics["accuracy"].value == pytest.approx(11 / 12)


def test_a_fixed_batch_is_filled_up(classifier: Callable[..., Path], folder: Path) -> None:
    fixed = classifier(text=TEXT.replace("[N,", "[5,"))
    assert bnfold.evaluate(fixed, data=f"folder:{folder}").data.n == 12


Spoil = dict[str, Any]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ({"data": None}, "nothing says which data"),
        ({"data": "folder:{folder}/red"}, "the folder has no labels"),
        ({"data": "folder:{folder}/none"}, "no such folder"),
        ({"data": "npz:{folder}/none.npz"}, "the arrays cannot be read"),
        ({"facts": None}, "nothing says how images become the input"),
        ({"facts": None, "normalize": "none,size=4"}, None),
        ({"facts": None, "normalize": "none,channels=grey"}, "channels cannot be read"),
        ({"facts": None, "normalize": "imagnet"}, "the preprocessing cannot be read"),
        ({"facts": None, "normalize": "mean=1:2"}, "mean must have one value"),
        ({"classes": ("a", "b", "c")}, "labels that the file has not"),
        ({"classes": ("red", "green")}, "class names do not fit the output"),
        ({"least": {"acuracy": 0.5}}, "there is no metric 'acuracy'"),
        ({"task": "detection"}, "folders of images have no targets for a detection"),
    ],
)
def test_bad_input(classifier: Callable[..., Path], folder: Path, spoil: Spoil, words: str | None) -> None:
    options = {"data": "folder:{folder}", **spoil}
    facts = options.pop("facts", FACTS)
    if "classes" in options:
        facts = dataclasses.replace(FACTS, classes=options.pop("classes"))
    if options["data"] is not None:
        options["data"] = options["data"].format(folder=folder)
    file = classifier(facts=facts)
    if words is None:
        assert bnfold.evaluate(file, **options).data.n == 12
        return
    with pytest.raises(InputRefused, match=words):
        bnfold.evaluate(file, **options)


def test_a_broken_image_is_named(classifier: Callable[..., Path], folder: Path) -> None:
    (folder / "red" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputRefused, match=r"an image cannot be read in .*red/0\.png"):
        bnfold.evaluate(classifier(), data=f"folder:{folder}")


def test_values_that_are_not_finite_are_refused(classifier: Callable[..., Path], folder: Path) -> None:
    broken = classifier(
        text=TEXT.replace("logits = Flatten <axis = 1> (mean)", "f = Flatten <axis = 1> (mean)\n  logits = Log (f)")
    )
    with pytest.raises(InputRefused, match="not finite"):
        bnfold.evaluate(broken, data=f"folder:{folder}")


@pytest.mark.parametrize("text", ["150%", "1", "x", "-1%"])
def test_a_drop_is_a_part(cli: Cli, network: Path, text: str) -> None:
    assert cli("evaluate", network, network, "--max-drop", text).exit_code == 2


def test_a_drop_needs_two_files(cli: Cli, network: Path) -> None:
    assert cli("evaluate", network, "--max-drop", "1%").exit_code == 2


PIXELS = TEXT.split("{", maxsplit=1)[0].replace("float[N, 3] logits", "float[N, 3, 4, 4] scores")


def test_masks_of_arrays(classifier: Callable[..., Path], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(20, 3, 4, 4)).astype(np.float32)
    y = x.argmax(1)
    y[:10] = (y[:10] + 1) % 3
    np.savez(tmp_path / "masks.npz", x=x, y=y)
    file = classifier(
        "pixels", dataclasses.replace(FACTS, task="segmentation"), f"{PIXELS} {{ scores = Identity (x) }}"
    )
    found = bnfold.evaluate(file, data=f"npz:{tmp_path / 'masks.npz'}").files[0].metrics
    assert found["pixel_accuracy"].value == 0.5
    assert found["miou"].low < found["miou"].value < found["miou"].high


def test_an_empty_split(classifier: Callable[..., Path], folder: Path) -> None:
    (folder / "test" / "red").mkdir(parents=True)
    with pytest.raises(InputRefused, match="the folders hold no images"):
        bnfold.evaluate(classifier(), data=f"folder:{folder}")


def test_a_detection_on_a_classifier(classifier: Callable[..., Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "boxes.npz", x=np.zeros((2, 3, 4, 4), np.float32), y=np.zeros((2, 1, 5), np.float32))
    with pytest.raises(InputRefused, match="the output does not fit a detection"):
        bnfold.evaluate(classifier(), data=f"npz:{tmp_path / 'boxes.npz'}", task="detection")


def test_a_network_for_masks_on_labels(classifier: Callable[..., Path], folder: Path) -> None:
    file = classifier("pixels", FACTS, f"{PIXELS} {{ scores = Identity (x) }}")
    with pytest.raises(InputRefused, match="the output does not fit a classification"):
        bnfold.evaluate(file, data=f"folder:{folder}")


def test_an_option_that_there_is_not_is_refused_from_python(classifier: Callable[..., Path], folder: Path) -> None:
    file, data = str(classifier()), f"folder:{folder}"
    assert bnfold.evaluate(file, data=data).files
    with pytest.raises(TypeError, match="no option 'max_dorp'"):
        bnfold.evaluate(file, data=data, max_dorp=0.1)
    with pytest.raises(TypeError, match="no option 'normalise'"):
        bnfold.predict(file, folder, normalise="imagenet")
