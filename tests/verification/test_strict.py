"""Nested outputs, rows in a batch, what the source keeps, and where the nodes of the file ran."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import numpy_helper

import bnfold
from bnfold.records import InputSpec
from bnfold.runtime.placement import node_counts, rounds_to_tf32
from bnfold.sources import load_source
from bnfold.verification import OnnxReference, verify_file
from bnfold.verification.checks.batch_invariance import SOURCE, BatchInvariance
from bnfold.verification.checks.criterion import OutputErrors
from bnfold.verification.data.feeds import Feed

NESTED = '''"""Outputs in a dict that holds a tuple and a list."""

import torch
from torch import nn

INPUT_SHAPE = (1, 6)
RECIPE = {}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn, self.first, self.second = nn.BatchNorm1d(6), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x):
        x = self.bn(x)
        y = self.first(x)
        return {"scores": y, "more": (self.second(x), [y.argmax(1), x]), "again": y}


def build() -> nn.Module:
    return Net()
'''
X = InputSpec("x", (None, 4), "float32")


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    """The network with nested outputs, and its file."""
    folder = tmp_path_factory.mktemp("nested")
    (folder / "net.py").write_text(NESTED, encoding="utf-8")
    report = bnfold.fold_export(folder / "net.py", folder / "out", threads=1)
    assert report.passed, report.verify.failure
    return folder / "net.py", folder / "out" / "model.onnx", report.verify


def test_every_leaf_of_nested_outputs_is_compared(nested):
    _, file, verdict = nested
    declared = [output.name for output in onnx.load(file).graph.output]
    assert len(declared) == len(set(declared)) == 5
    assert [output.name for output in verdict.outputs] == declared


@pytest.mark.parametrize("position", range(5))
def test_a_wrong_leaf_is_named(nested, tmp_path, position):
    source, file, _ = nested
    model = onnx.load(file)
    output = model.graph.output[position]
    name, whole = output.name, output.type.tensor_type.elem_type == onnx.TensorProto.INT64
    for node in model.graph.node:
        node.output[:] = ["right" if value == name else value for value in node.output]
        node.input[:] = ["right" if value == name else value for value in node.input]
    step = np.array(1, np.int64) if whole else np.array(0.01, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(step, "step"))
    model.graph.node.append(onnx.helper.make_node("Add", ["right", "step"], [name]))
    onnx.save(model, tmp_path / "wrong.onnx")
    verdict = bnfold.verify(source, tmp_path / "wrong.onnx", threads=1)
    assert not verdict
    assert f"output {name}: " in verdict.failure


def test_outputs_in_another_order_fail(nested, tmp_path):
    source, file, _ = nested
    model = onnx.load(file)
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([outputs[-1], *outputs[:-1]])
    onnx.save(model, tmp_path / "turned.onnx")
    assert "outputs differ: another order" in bnfold.verify(source, tmp_path / "turned.onnx", threads=1).failure


def _depends(tmp_path, body: str, *, source: str | None = None):
    texts = [
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y) {{ {b} }}'
        for b in (body, source or body)
    ]
    file, plain = (onnx.parser.parse_model(text) for text in texts)
    onnx.save(file, tmp_path / "file.onnx")
    return verify_file(tmp_path / "file.onnx", OnnxReference(plain), inputs=(X,), threads=1)


@pytest.mark.parametrize(
    "body",
    [
        # The first row is right, whatever stands behind it: only the others take something from their neighbour.
        "p = Constant <value_ints = [1, 0, 0, 0]> () e = Constant <value_ints = [0]> () "
        "f = Constant <value_ints = [-1]> () s = Slice (x, e, f, e) q = Pad (s, p) y = Add (x, q)",
        # The last row is right, the others are not.
        "p = Constant <value_ints = [0, 0, 1, 0]> () e = Constant <value_ints = [0]> () "
        "b = Constant <value_ints = [1]> () l = Constant <value_ints = [99]> () "
        "s = Slice (x, b, l, e) q = Pad (s, p) y = Add (x, q)",
    ],
)
def test_a_dependence_of_any_row_is_seen(tmp_path, body):
    """In a file that is the source it is a warning: one that does the same is equal, one that does not is none."""
    verdict = _depends(tmp_path, body)
    assert verdict, verdict.failure
    (warning,) = verdict.warnings
    assert "in the source in float64" in warning
    assert "samples depend on each other" in warning
    assert not _depends(tmp_path, body, source="y = Identity (x)")
    assert not _depends(tmp_path, "y = Identity (x)", source=body)


def test_rows_of_a_file_that_depend_on_each_other_by_more_than_rounding():
    rows, errors = BatchInvariance(source_may_mix=True), OutputErrors("y", 1e-6, 1.0)
    errors.reference.add(np.ones((1, 4)))
    alone = Feed("random", 1, {}, (0,))
    company = Feed("random", 2, {}, (1, 0))
    for side in (SOURCE, "the file"):
        rows.add(side, alone, {"y": np.ones((1, 4))})
    rows.add(SOURCE, company, {"y": np.ones((2, 4))})
    rows.add("the file", company, {"y": np.full((2, 4), 1.5)})
    assert "differ by 0.5 in the file" in rows.failure(errors)
    rows.add(SOURCE, company, {"y": np.full((2, 4), 1.5)})
    assert rows.failure(errors) is None
    assert "differ by 0.5 in the source" in rows.warning(errors)


def test_nothing_that_we_do_changes_the_source(tmp_path, monkeypatch):
    """Parameters, buffers, the mode of every layer, the random state: before as after an export and its proof."""
    loaded = load_source("resnet")
    module = loaded.module
    before, modes = copy.deepcopy(module.state_dict()), [layer.training for layer in module.modules()]
    monkeypatch.setattr("bnfold.sources.load_source", lambda *_, **__: loaded)
    random, numpy_random = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the user's
    report = bnfold.fold_export("resnet", tmp_path / "out", threads=1)
    assert report.passed, report.verify.failure
    assert bnfold.verify("resnet", tmp_path / "out" / "model.onnx", threads=1)
    after = module.state_dict()
    assert list(after) == list(before)
    assert any(name.endswith("num_batches_tracked") for name in after)
    for name, value in after.items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name]), name
    assert [layer.training for layer in module.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), random)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_random)  # noqa: NPY002


def test_where_the_nodes_ran_is_in_the_verdict(tmp_path):
    verdict = _depends(tmp_path, "a = Relu (x) b = Identity (a) y = Relu (b)")
    off, all_ = verdict.executions
    assert (off.optimizations, all_.optimizations) == ("off", "all")
    assert off.nodes == {"CPUExecutionProvider": 3}
    assert all_.nodes is not None
    assert sum(all_.nodes.values()) < 3  # the Identity at least is gone
    assert off.tf32 is all_.tf32 is None


class _Session:
    """What a session tells, without CUDA to ask."""

    def __init__(self, options):
        self._options = options

    def get_provider_options(self):
        return self._options


@pytest.mark.parametrize(
    ("options", "tf32"),
    [
        ({"CPUExecutionProvider": {}}, None),
        ({"CUDAExecutionProvider": {"use_tf32": "1"}, "CPUExecutionProvider": {}}, True),
        ({"CUDAExecutionProvider": {"use_tf32": "0"}, "CPUExecutionProvider": {}}, False),
        ({"CUDAExecutionProvider": {}}, True),  # ONNX Runtime's default
    ],
)
def test_tf32_is_what_the_session_says(options, tf32):
    assert rounds_to_tf32(_Session(options)) is tf32
    assert node_counts(_Session(options)) is None  # an ONNX Runtime that does not tell
