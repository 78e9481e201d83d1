"""What a file leaves open: sizes by symbol, a batch on any axis, integers that are switches, ranges of inputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from bnfold.cli.main import main
from bnfold.errors import InputRefused
from bnfold.sources import load_source
from bnfold.verification.execution.settled_sizes import settled
from bnfold.workflows.compare import verify


def _file(tmp_path, text: str, *initializers: tuple[str, np.ndarray], **metadata: str) -> str:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in initializers)
    model.metadata_props.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in metadata.items())
    path = tmp_path / "source.onnx"
    onnx.save(model, path)
    return str(path)


def _same(path: str, **options):
    verdict = verify(path, path, threads=1, **options)
    assert verdict, verdict.failure
    return verdict


STATE = """(float[batch, sequence] x, float[2, batch, 3] state) => (float[batch, 3] y, float[2, batch, 3] next) {
    m = ReduceMean <axes = [1]> (x)
    next = Add (state, m)
    y = ReduceSum <keepdims = 0> (next, first)
}"""
FIRST = ("first", np.array([0], np.int64))


def test_the_batch_is_one_symbol_on_any_axis_of_several_inputs(tmp_path):
    path = _file(tmp_path, STATE, FIRST)
    by_name = {spec.name: spec for spec in load_source(path).inputs}
    assert (by_name["x"].batch_axis, by_name["state"].batch_axis) == (0, 1)
    verdict = _same(path, dims={"sequence": 5})
    assert verdict.batches == (1, 2, 3)
    assert (verdict.dims, verdict.batch_dim) == ({"sequence": 5}, "batch")
    assert verdict.sizes["state"] == ((2, 3),)
    assert verdict.warnings == ()  # a row alone is that row in a batch, whichever axis counts them


def test_a_row_that_depends_on_others_is_seen_on_the_second_axis(tmp_path):
    mixed = STATE.replace(
        "next = Add (state, m)", "c = ReduceMax <axes = [1]> (state) s = Add (state, m) next = Sub (s, c)"
    )
    (warning, *_) = _same(_file(tmp_path, mixed, FIRST), dims={"sequence": 5}).warnings
    assert "samples depend on each other" in warning


def test_sizes_that_nobody_gives_are_tried(tmp_path):
    path = _file(tmp_path, STATE, FIRST)
    assert _same(path).dims == {"sequence": 16}
    table = "(float[N, width] x) => (float[N, 2] y) { y = MatMul (x, w) }"
    path = _file(tmp_path, table, ("w", np.ones((37, 2), np.float32)))
    assert _same(path).dims == {"width": 37}  # of the weight
    image = "(float[N, 3, H, W] x) => (float[N, 3, A, B] y) { y = Sub (x, mean) }"
    path = _file(tmp_path, image, ("mean", np.ones((48, 40), np.float32)), imgsz="[48, 40]")
    assert settled(load_source(path)).inputs[0].shape == (None, 3, 48, 40)


def test_only_a_source_that_runs_nowhere_is_refused_and_in_the_words_of_the_runtime(tmp_path):
    impossible = "(float[N, width] x) => (float[N, 2] y) { z = Concat <axis = 1> (x, x) y = MatMul (z, w) }"
    path = _file(tmp_path, impossible, ("w", np.ones((7, 2), np.float32)))
    with pytest.raises(InputRefused, match=r"none of the sizes .*ONNXRuntimeError.*--dim width=N"):
        verify(path, path)
    result = CliRunner().invoke(main, ["inspect", path])
    assert result.exit_code == 0, result.output


def test_a_length_on_axis_0_is_no_batch_where_one_is_too_short(tmp_path):
    pooled = "(float[time, 4] x) => (float[1, 4] y) { u = Unsqueeze (x, axes) t = Transpose <perm = [0, 2, 1]> (u) " \
        "p = MaxPool <kernel_shape = [4]> (t) y = ReduceMean <axes = [2], keepdims = 0> (p) }"  # fmt: skip
    verdict = _same(_file(tmp_path, pooled, ("axes", np.array([0], np.int64))))
    assert (verdict.batches, verdict.dims) == ((1,), {"time": 16})


def test_a_nameless_axis_of_another_input_may_be_the_batch(tmp_path):
    nameless = STATE.replace("batch, sequence", "?, ?").replace("2, batch, 3", "2, ?, 3").replace("batch, 3", "?, 3")
    path = _file(tmp_path, nameless, FIRST)
    verdict = _same(path)
    assert (verdict.batches, verdict.dims) == ((1, 2, 3), {"x[1]": 16})


def test_an_integer_that_is_a_switch_has_a_value_at_which_the_source_runs(tmp_path):
    switch = """(float[N, 6] x, int64 rate) => (float[N, 2] y) {
        cond = Equal (rate, known) as_int = Cast <to = 7> (cond) size = Mul (as_int, six)
        shape = Concat <axis = 0> (rest, size) z = Reshape (x, shape) y = MatMul (z, w)
    }"""
    numbers = {"known": np.array([8000], np.int64), "six": np.array([6], np.int64), "rest": np.array([-1], np.int64)}
    path = _file(tmp_path, switch, ("w", np.ones((6, 2), np.float32)), *numbers.items())
    assert _same(path).values == {"rate": "8000"}


@pytest.mark.parametrize(
    ("body", "values"),
    [("y = Sqrt (x)", "0 to 1"), ("y = Log (x)", "0.01 to 1"), ("y = Relu (x)", None)],
)
def test_a_source_that_is_not_finite_is_asked_in_other_ranges(tmp_path, body, values):
    path = _file(tmp_path, f"(float[N, 3] x) => (float[N, 3] y) {{ {body} }}")
    assert _same(path).values == ({} if values is None else {"x": values})


def test_integers_stay_below_what_they_are_compared_with(tmp_path):
    one_hot = (
        "(int32[N, 5] x) => (float[N, 5, 9] y) { u = Unsqueeze (x, axes) e = Equal (u, classes) y = Cast <to = 1> (e) }"
    )
    path = _file(
        tmp_path, one_hot, ("axes", np.array([2], np.int64)), ("classes", np.arange(9, dtype=np.int32).reshape(1, 1, 9))
    )
    from bnfold.verification.data.input_facts import input_facts

    assert input_facts(onnx.load(path))["x"].integers_below == 9
    _same(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--dim", "width=8"], "no dynamic axis called width"), (["--batch-dim", "rows"], "found batch, sequence")],
)
def test_unknown_names_are_refused(tmp_path, options, message):
    path = _file(tmp_path, STATE, FIRST)
    result = CliRunner().invoke(main, ["verify", path, path, *options])
    assert result.exit_code == 3
    assert message in result.output


@pytest.mark.parametrize("text", ["sequence", "sequence=", "=5", "sequence=0", "sequence=x"])
def test_sizes_have_a_name_and_a_number(tmp_path, text):
    path = _file(tmp_path, STATE, FIRST)
    assert CliRunner().invoke(main, ["inspect", path, "--dim", text]).exit_code == 2


def test_a_logistic_function_near_0_has_the_digits_of_its_half(tmp_path):
    body = "bias = Constant <value_float = -15.0> () z = Add (x, bias) y = Sigmoid (z)"
    _same(_file(tmp_path, f"(float[N, 300] x) => (float[N, 300] y) {{ {body} }}"))


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_quantised_file_is_compared_and_flipped_steps_are_the_sources(tmp_path, dynamic):
    """The file multiplies in another order, so that its steps flip at other places than the source's."""
    quantise = "q, s, o = DynamicQuantizeLinear (z)" if dynamic else "q = QuantizeLinear (z, s, o)"
    source = f"""(float[N, 64] x) => (float[N, 8] y) {{ a = Mul (x, third) z = Mul (a, third) {quantise}
        i = MatMulInteger (q, w, o) f = Cast <to = 1> (i) y = Mul (f, s) }}"""
    generator = np.random.default_rng(0)
    constants = {
        "third": np.array(1 / 3, np.float32),
        "ninth": np.array(1 / 9, np.float32),
        "w": generator.integers(-127, 128, (64, 8)).astype(np.int8),
    }
    if not dynamic:
        constants |= {"s": np.array(0.003, np.float32), "o": np.array(128, np.uint8)}
    path = _file(tmp_path, source, *((n, c) for n, c in constants.items() if n != "ninth"))
    folder = tmp_path / "other"
    folder.mkdir()
    other = source.replace("a = Mul (x, third) z = Mul (a, third)", "z = Mul (x, ninth)")
    file = _file(folder, other, *((n, c) for n, c in constants.items() if n != "third"))
    verdict = verify(path, file, threads=1)
    assert verdict, verdict.failure
    assert "it quantises" in verdict.reference
    wrong = _file(folder, other.replace("y = Mul (f, s)", "t = Mul (f, s) y = Mul (t, near)"), *(
        (n, c) for n, c in {**constants, "near": np.array(1.02, np.float32)}.items() if n != "third"))  # fmt: skip
    assert not verify(path, wrong, threads=1)


def test_a_bundle_holds_inputs_of_the_same_range_along_the_same_axes(tmp_path):
    rooted = STATE.replace("m = ReduceMean <axes = [1]> (x)", "r = Sqrt (x) m = ReduceMean <axes = [1]> (r)")
    path = _file(tmp_path, rooted, FIRST)
    runner = CliRunner()
    made = runner.invoke(main, ["fold-export", path, "-o", str(tmp_path / "out"), "--golden", "--dim", "sequence=5"])
    assert made.exit_code == 0, made.output
    bundle = ["--against-bundle", str(tmp_path / "out" / "golden"), str(tmp_path / "out" / "model.onnx")]
    checked = runner.invoke(main, ["verify", *bundle])
    assert checked.exit_code == 0, checked.output
    with np.load(tmp_path / "out" / "golden" / "inputs.npz") as stored:
        assert {stored[name].shape[1] for name in stored.files if name.endswith("/state")} >= {1, 2, 3}
        assert all(stored[name].min() >= 0 for name in stored.files if name.endswith("/x"))


MASKED = """(float[batch, time] x, int64[batch] x_lens) => (float[batch, 1] y)
    <int64 zero = {0}, int64 one = {1}, int64[1] last = {1}, float nothing = {0}> {
    shape = Shape (x)
    time_ = Gather (shape, one)
    steps = Range (zero, time_, one)
    n = Unsqueeze (x_lens, last)
    is_in = Less (steps, n)
    kept = Where (is_in, x, nothing)
    total = ReduceSum (kept, last)
    counted = Cast <to = 1> (n)
    past = Sub (counted, counted)
    ok = Greater (n, last)
    good = Cast <to = 1> (ok)
    w = Div (past, good)
    y = Add (total, w)
}"""


def test_lengths_of_samples_are_as_long_as_the_samples(tmp_path):
    """A length of 0 or 1 leaves nothing here, and gives NaN."""
    path = _file(tmp_path, MASKED)
    verdict = _same(path)
    x, lens = settled(load_source(path)).inputs
    assert lens.constant == x.shape[1] > 1
    assert verdict.dims == {"time": x.shape[1]}


def test_a_size_that_kills_the_runtime_is_not_taken(tmp_path, monkeypatch):
    """It dies in a process of its own; the next size is tried in another one."""
    died: list[str] = []
    from bnfold.verification.execution import trial_process

    real = trial_process.TrialProcess.try_run

    def dying(self, feed):
        if feed["x"].shape[1] == 16:
            self._process = self._process or trial_process._started(self._path)
            self._process.kill()
        answer = real(self, feed)
        died.append(answer if isinstance(answer, str) else "")
        return answer

    monkeypatch.setattr(trial_process.TrialProcess, "try_run", dying)
    path = _file(tmp_path, "(float[batch, time] x) => (float[batch, time] y) { y = Relu (x) }")
    (x,) = settled(load_source(path)).inputs
    assert x.shape[1] not in (None, 16)
    assert died[0] == "ONNX Runtime ended its process (SIGKILL)"
    assert died[-1] == ""
