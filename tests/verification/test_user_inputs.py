"""Inputs of the user's own: what is read, and what is refused with the reason."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
from PIL import Image

import bnfold
from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.records import InputSpec
from bnfold.sources.image_folder import MAX_IMAGES
from bnfold.sources.user_inputs import read_inputs

ROWS = InputSpec("x", (None, 2, 6, 6), "float32")
IMAGE = InputSpec("image", (None, 3, 8, 12), "float32")
LAST = InputSpec("image", (None, 8, 12, 3), "float32")


def _saved(tmp_path, **arrays):
    path = tmp_path / "inputs.npz"
    np.savez(path, **arrays)
    return path


def _image(path, mode="RGB", size=(24, 16), color=None):
    Image.new(mode, size, color).save(path)


def _split(path):
    """Left half red, right half blue, 24 x 8: as high as the input, twice as wide."""
    picture = Image.new("RGB", (24, 8), (255, 0, 0))
    picture.paste((0, 0, 255), (12, 0, 24, 8))
    picture.save(path)


def test_arrays_are_read_as_they_are(tmp_path):
    rows = np.random.default_rng(0).standard_normal((5, 2, 6, 6)).astype(np.float32)
    ids, scale = np.arange(5, dtype=np.int64), np.ones(5, dtype=np.float32)
    inputs = (ROWS, InputSpec("ids", (None,), "int64"), InputSpec("scale", (), "float32"))
    read = read_inputs(_saved(tmp_path, scale=scale, x=rows, ids=ids), inputs)
    assert list(read) == ["x", "ids", "scale"]
    np.testing.assert_array_equal(read["x"], rows)
    np.testing.assert_array_equal(read["ids"], ids)


def _with_nan():
    rows = np.zeros((3, 2, 6, 6), np.float32)
    rows[1, 0, 2, 2] = np.nan
    return rows


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"y": np.zeros((1, 2, 6, 6), np.float32)}, ["not named as the inputs", "found y, expected x"]),
        ({"x": np.zeros((1, 2, 6, 6), np.float32), "y": np.zeros(1)}, ["found x, y, expected x"]),
        ({"x": np.zeros((1, 2, 6, 6))}, ["does not fit", "found float64 (1, 2, 6, 6)", "float32 (samples, 2, 6, 6)"]),
        ({"x": np.zeros((2, 6, 6), np.float32)}, ["does not fit", "found float32 (2, 6, 6)"]),
        ({"x": np.zeros((1, 6, 6, 2), np.float32)}, ["does not fit", "found float32 (1, 6, 6, 2)"]),
        ({"x": np.zeros((0, 2, 6, 6), np.float32)}, ["does not fit", "found float32 (0, 2, 6, 6)"]),
        ({"x": np.array([[object()]], dtype=object)}, ["Python objects, which are not read", "numpy.savez"]),
        ({"x": _with_nan()}, ["NaN or infinity", "found 1 such values, the first in sample 1"]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, parts):
    with pytest.raises(InputRefused) as refused:
        read_inputs(_saved(tmp_path, **arrays), (ROWS,))
    assert refused.value.remedy
    assert all(part in str(refused.value) for part in parts), str(refused.value)


def test_different_numbers_of_rows_are_refused(tmp_path):
    path = _saved(tmp_path, x=np.zeros((2, 2, 6, 6), np.float32), ids=np.zeros(3, np.int64))
    with pytest.raises(InputRefused, match=r"different numbers of samples.*found x 2, ids 3"):
        read_inputs(path, (ROWS, InputSpec("ids", (None,), "int64")))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.npz", None, "no such file or folder"),
        ("inputs.csv", b"1,2", "inputs must be an .npz file or a folder of images"),
        ("inputs.npz", b"PK\x03\x04 and then nothing", "the .npz file cannot be read"),
        ("inputs.npz", b"", "the .npz file cannot be read"),
    ],
)
def test_files_that_are_no_inputs_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputRefused, match=message) as refused:
        read_inputs(tmp_path / name, (ROWS,))
    assert name in str(refused.value)
    assert refused.value.remedy


def test_a_single_array_and_a_damaged_member_are_refused(tmp_path):
    with (tmp_path / "one.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(InputRefused, match=r"this is not an .npz file in .*found one array"):
        read_inputs(tmp_path / "one.npz", (ROWS,))
    path = _saved(tmp_path, x=np.zeros((4, 2, 6, 6), np.float32))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputRefused, match="an array cannot be read in x of"):
        read_inputs(path, (ROWS,))


@pytest.mark.parametrize(("spec", "channel_axis"), [(IMAGE, 1), (LAST, 3)])
def test_images_are_cropped_and_scaled_in_the_layout_of_the_input(tmp_path, spec, channel_axis):
    _split(tmp_path / "b.png")
    _image(tmp_path / "a.bmp", color=(0, 51, 255))  # twice as large: resized, not cropped
    (tmp_path / "deeper").mkdir()
    _image(tmp_path / "deeper" / "c.JPG", color=(128, 128, 128))
    (tmp_path / "notes.txt").write_text("no image")
    rows = read_inputs(tmp_path, (spec,))["image"]
    assert rows.dtype == np.float32
    assert rows.shape == (3, *spec.shape[1:])
    pictures = np.moveaxis(rows, channel_axis, 1)
    np.testing.assert_array_equal(pictures[0, :, 3, 5], np.float32([0, 51 / 255, 1]))
    # The centre 12 columns of 24: six red, six blue.
    np.testing.assert_array_equal(pictures[1, 0], np.repeat([[1.0] * 6 + [0.0] * 6], 8, axis=0))
    np.testing.assert_array_equal(pictures[1, 2], np.repeat([[0.0] * 6 + [1.0] * 6], 8, axis=0))
    np.testing.assert_array_equal(pictures[2], np.full((3, 8, 12), np.float32(128 / 255)))


def test_an_input_of_bytes_gets_the_pixels_as_they_are(tmp_path):
    _split(tmp_path / "a.png")
    (rows,) = read_inputs(tmp_path, (InputSpec("image", (None, 8, 12, 3), "uint8"),)).values()
    assert rows.dtype == np.uint8
    assert rows[0, 4, 0].tolist() == [255, 0, 0]
    assert rows[0, 4, -1].tolist() == [0, 0, 255]


def test_palette_and_black_and_white_images_are_read(tmp_path):
    picture = Image.new("RGB", (12, 8), (255, 0, 0)).convert("P")
    picture.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_inputs(tmp_path, (IMAGE,))["image"][0, :, 0, 0], [1, 0, 0])
    folder = tmp_path / "gray"
    folder.mkdir()
    _image(folder / "white.png", mode="1", size=(12, 8), color=1)
    gray = InputSpec("image", (None, 1, 8, 12), "float32")
    np.testing.assert_array_equal(read_inputs(folder, (gray,))["image"], np.ones((1, 1, 8, 12)))


def test_a_large_folder_is_taken_evenly_and_says_so(tmp_path, caplog):
    for number in range(2 * MAX_IMAGES):
        _image(tmp_path / f"{number:03}.png", size=(12, 8), color=(number, 0, 0))
    rows = read_inputs(tmp_path, (IMAGE,))["image"]
    reds = np.float32(np.arange(0, 2 * MAX_IMAGES, 2) / 255)
    np.testing.assert_array_equal(rows[:, 0, 0, 0], reds)
    assert f"{MAX_IMAGES} of {2 * MAX_IMAGES} images are compared" in caplog.text


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(InputRefused, match="the folder holds no image"):
        read_inputs(tmp_path, (IMAGE,))


@pytest.mark.parametrize("content", [b"", b"not an image at all", "truncated"])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path, content):
    _image(tmp_path / "a.png")
    broken = tmp_path / "broken.png"
    if content == "truncated":
        noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(broken)
        content = broken.read_bytes()[:1500]
    broken.write_bytes(content)
    with pytest.raises(InputRefused, match=r"an image cannot be read in .*broken\.png"):
        read_inputs(tmp_path, (IMAGE,))


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "I;16"])
def test_other_channels_are_refused(tmp_path, mode):
    _image(tmp_path / "a.png", mode=mode)
    with pytest.raises(InputRefused, match=rf"other channels than the input in .*a\.png.*found mode {mode}, expected"):
        read_inputs(tmp_path, (IMAGE,))


@pytest.mark.parametrize(
    "inputs",
    [
        (InputSpec("x", (None, 24), "float32"),),
        (InputSpec("x", (None, 7, 8, 8), "float32"),),
        (InputSpec("x", (None, 3, 8, 8), "int64"),),
        (IMAGE, InputSpec("ids", (None,), "int64")),
    ],
)
def test_a_network_that_reads_no_images_is_told_of_npz(tmp_path, inputs):
    _image(tmp_path / "a.png")
    with pytest.raises(InputRefused, match=r"does not read images.*\.npz"):
        read_inputs(tmp_path, inputs)


def test_without_pillow_the_pip_line_is_told(tmp_path, monkeypatch):
    _image(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(EnvironmentNotReady, match=r'PIL.*not installed.*pip install "bnfold\[images\]"'):
        read_inputs(tmp_path, (IMAGE,))


def test_the_commands_compare_on_them(tmp_path, network, cli):
    rows = np.random.default_rng(0).standard_normal((7, 2, 6, 6)).astype(np.float32)
    path = _saved(tmp_path, x=rows)
    made = cli("fold-export", network, "-o", tmp_path / "out", "--inputs", path, "--threads", 1)
    assert made.exit_code == 0, made.stderr
    file = tmp_path / "out" / "model.onnx"
    assert bnfold.verify(network, file, inputs=path, threads=1)
    np.savez(path, x=rows * np.float32(np.nan))
    for command in (("verify", network, file), ("fold-export", network, "-o", tmp_path / "more")):
        refused = cli(*command, "--inputs", path)
        assert refused.exit_code == 3
        assert "error: an array holds NaN or infinity in x of" in refused.stderr
    assert not (tmp_path / "more").exists()


def test_inputs_find_what_random_ones_do_not(tmp_path):
    """A clamp far outside what random inputs reach is wrong, and only these inputs show it."""
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y) {{ {} }}'
    right, wrong = tmp_path / "right.onnx", tmp_path / "wrong.onnx"
    onnx.save(onnx.parser.parse_model(text.format("y = Neg (x)")), right)
    limited = text.format("high = Constant <value_float = 100.0> () low = Constant <value_float = -100.0> () "
                          "c = Clip (x, low, high) y = Neg (c)")  # fmt: skip
    onnx.save(onnx.parser.parse_model(limited), wrong)
    rows = np.zeros((9, 4), np.float32)
    rows[8, 3] = 101.0
    assert bnfold.verify(right, wrong, threads=1)
    assert not bnfold.verify(right, wrong, inputs=_saved(tmp_path, x=rows), threads=1)
