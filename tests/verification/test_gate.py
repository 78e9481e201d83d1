"""The comparison passes right folds and fails wrong ones, and says why."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bnfold.errors import InputRefused
from bnfold.numerics.error_bounds import PooledError
from bnfold.records import Criterion, InputSpec
from bnfold.verification import OnnxReference, TorchReference, verify_file
from bnfold.verification.checks.criterion import OutputErrors
from bnfold.verification.checks.parameter_errors import ParameterErrors
from bnfold.verification.data.precision import logistic_error, logistic_outputs


@pytest.mark.parametrize("seed", range(5))
def test_a_right_fold_passes(case, seed):
    verdict = case.verify(case.file(case.folded()), seed=seed)
    assert verdict, verdict.failure
    assert verdict.failure is None
    assert verdict.batches == (1, 2, 3)
    assert verdict.providers == ("CPUExecutionProvider",)
    assert verdict.reference == "PyTorch float64"
    (output,) = verdict.outputs
    assert output.name == "y"
    assert output.e_source > 0
    assert 0 < output.e_output <= output.allowed
    assert verdict.decided_by == output.decided_by == Criterion.SOURCE
    assert (verdict.ill_conditioned, verdict.judged_as) == (False, None)


def test_every_value_is_counted(case):
    verdict = case.verify(case.file(case.folded()), batches=(2,))
    n_border_rows = 6 if len(case.row) > 1 else 3
    n_random_rows = 3 * 1 + 2 + 3 + 4 * 3  # three alone, a batch of 2 and one of 3, which is repeated four times
    assert verdict.n_compared == 2 * 5 * (n_random_rows + n_border_rows)  # two executions, five logits
    assert verdict.sizes == {"x": (case.row,)}


def test_the_plain_graph_passes(case, tmp_path):
    onnx.save(case.plain, tmp_path / "plain.onnx")
    assert case.verify(tmp_path / "plain.onnx")


def _doubled(case):
    return case.file(
        case.folded()
        | {"head.weight": 2 * case.parameters()["head.weight"], "head.bias": 2 * case.parameters()["head.bias"]}
    )


def _bias_one_percent(case):
    new = case.folded()
    name = f"{case.pairs[0][0]}.bias"
    channel = np.abs(new[name]).argsort()[len(new[name]) // 2]  # a bias of middling size
    new[name][channel] *= 1.01
    return case.file(new)


def _eps_dropped(case):
    parameters = case.parameters()
    parameters |= {f"{norm}.eps": np.float64(0.0) for _, norm, _ in case.pairs}
    return case.file(case.folded(parameters))


def _mean_zeroed(case):
    parameters = case.parameters()
    mean = parameters[f"{case.pairs[0][1]}.running_mean"] = parameters[f"{case.pairs[0][1]}.running_mean"].copy()
    mean[np.abs(mean).argsort()[len(mean) // 2]] = 0.0
    return case.file(case.folded(parameters))


def _rounded_to_float16(case):
    return case.file({name: value.astype(np.float16) for name, value in case.folded().items()})


def _one_norm_unfolded(case):
    linear = case.pairs[-1][0]
    parameters = case.parameters()
    return case.file(
        case.folded()
        | {f"{linear}.weight": parameters[f"{linear}.weight"], f"{linear}.bias": parameters[f"{linear}.bias"]}
    )


def _variance_for_deviation(case):
    parameters = case.parameters()
    for _, norm, _ in case.pairs:
        parameters[f"{norm}.running_var"] = parameters[f"{norm}.running_var"] ** 2
    return case.file(case.folded(parameters))


@pytest.mark.parametrize(
    "mutant",
    [
        _doubled,
        _bias_one_percent,
        _eps_dropped,
        _mean_zeroed,
        _rounded_to_float16,
        _one_norm_unfolded,
        _variance_for_deviation,
    ],
)
def test_a_wrong_fold_fails(case, mutant):
    verdict = case.verify(mutant(case))
    assert not verdict
    assert "output y: root mean square error" in verdict.failure
    assert "allowed" in verdict.failure
    assert "inputs, batch" in verdict.failure
    (output,) = verdict.outputs
    assert output.e_output > output.allowed


def _dropped(model):
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, None))
    model.graph.node.append(helper.make_node("Identity", ["x"], ["features"]))


def _extra(model):
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, None))
    model.graph.node.append(helper.make_node("Identity", ["x"], ["more"]))


def _through(model, *nodes, dtype=TensorProto.FLOAT):
    """Put nodes behind the output: they read `inner` and write `y`."""
    for node in model.graph.node:
        node.output[:] = ["inner" if name == "y" else name for name in node.output]
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("y", dtype, None))


def _as_double(model):
    _through(model, helper.make_node("Cast", ["inner"], ["y"], to=TensorProto.DOUBLE), dtype=TensorProto.DOUBLE)


def _reshaped(model):
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat"))
    _through(model, helper.make_node("Reshape", ["inner", "flat"], ["y"]))


def _with_nan(model):
    values = np.zeros(5, dtype=np.float32)
    values[3] = np.nan
    model.graph.initializer.append(numpy_helper.from_array(values, "nan"))
    _through(model, helper.make_node("Add", ["inner", "nan"], ["y"]))


def _renamed_input(model):
    model.graph.input[0].name = "image"
    model.graph.node.insert(0, helper.make_node("Identity", ["image"], ["x"]))


def _batch_mixed(model):
    nodes = [
        helper.make_node("ReduceMean", ["inner", "batch_axis"], ["batch_mean"]),
        helper.make_node("Sub", ["inner", "batch_mean"], ["y"]),
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.array([0], dtype=np.int64), "batch_axis"))
    _through(model, *nodes)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (_dropped, "outputs differ: missing y; not in the source: features"),
        (_extra, "outputs differ: not in the source: more"),
        (_as_double, "output y: dtype float64, expected float32"),
        (_reshaped, "output y: shape (5,), expected (1, 5)"),
        (_with_nan, "output y: 1 of 5 values are NaN or infinite"),
        (_renamed_input, "inputs differ: missing x; not in the source: image"),
        (_batch_mixed, "output y: root mean square error"),
    ],
)
def test_what_differs_in_kind_fails(case, edit, sentence):
    verdict = case.verify(case.file(case.folded(), edit))
    assert not verdict
    assert sentence in verdict.failure
    assert verdict.decided_by == (Criterion.PARAMETERS if edit is _batch_mixed else Criterion.INTERFACE)


def test_a_file_that_runs_at_one_batch_only_fails_in_words(cases):
    def fix_reshape(model):
        model.graph.initializer.append(numpy_helper.from_array(np.array([1, 5], dtype=np.int64), "one_row"))
        _through(model, helper.make_node("Reshape", ["inner", "one_row"], ["y"]))

    case = cases["bnnet"]
    verdict = case.verify(case.file(case.folded(), fix_reshape))
    assert not verdict
    assert "does not run on random inputs, batch 2" in verdict.failure
    assert verdict.decided_by == Criterion.INTERFACE


def test_an_input_of_another_size_fails(cases):
    case = cases["bnnet"]
    verdict = case.verify(case.file(case.folded()), inputs=(InputSpec("x", (None, 25), "float32"),))
    assert not verdict
    assert "input x: shape" in verdict.failure
    assert verdict.n_compared == 0


def test_nothing_compared_fails():
    errors = OutputErrors("y", 0.0)
    assert errors.failure() == "output y: no value could be compared"
    assert errors.decided_by is None


def _errors(source: float, file: float) -> OutputErrors:
    """Of an output of size 1 whose accumulation may leave 1e-3."""
    errors = OutputErrors("y", 1e-3)
    errors.reference.add(np.ones(100))
    errors.add_source(0, np.full(100, source))
    errors.add_candidate("as written", np.full(100, file), "an input")
    return errors


@pytest.mark.parametrize(
    ("source", "file", "criterion"),
    [
        (1e-5, 2e-5, Criterion.SOURCE),
        (1e-5, 5e-4, Criterion.BOUND),
        (1e-2, 2e-2, Criterion.SOURCE),
        (1e-5, 5e-3, Criterion.BOUND),  # fails it, and there are no parameters to judge
    ],
)
def test_an_output_is_decided_by_the_first_criterion_that_it_passes(source, file, criterion):
    errors = _errors(source, file)
    assert errors.decided_by == criterion
    assert (errors.failure() is None) == (file < 5e-3 or source > 1e-3)


@pytest.mark.parametrize(("rounding", "passes"), [(1e-2, True), (1e-9, False)])
def test_an_output_beyond_both_is_decided_by_its_parameters(rounding, passes):
    errors = _errors(1e-5, 5e-3)
    errors.parameters = ParameterErrors()
    errors.parameters.distance.add(np.full(100, 1e-6))
    errors.parameters.rounding.add(np.full(100, rounding))
    assert errors.decided_by == Criterion.PARAMETERS
    assert (errors.failure() is None) == passes


@pytest.mark.parametrize(("distance", "passes"), [(1e-9, True), (1e-2, False)])
def test_what_roundings_of_an_execution_leave_excuses_right_parameters_only(distance, passes):
    errors = _errors(1e-5, 5e-3)
    errors.parameters = ParameterErrors(execution=PooledError())
    errors.parameters.distance.add(np.full(100, distance))
    errors.parameters.rounding.add(np.full(100, 1e-9))
    errors.parameters.execution.add(np.full(100, 1e-2))
    assert errors.decided_by == Criterion.PARAMETERS
    assert (errors.failure() is None) == passes


def test_a_static_batch_is_compared_at_that_batch(cases):
    case = cases["bnnet"]

    def fix_batch(model):
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4

    verdict = case.verify(case.file(case.folded(), fix_batch))
    assert verdict, verdict.failure
    assert verdict.batches == (4,)


def test_real_samples_are_used_and_checked(cases):
    case = cases["bnnet"]
    samples = np.random.default_rng(0).standard_normal((5, 24)).astype(np.float32)
    assert case.verify(case.file(case.folded()), samples={"x": samples})
    failed = case.verify(_doubled(case), samples={"x": samples})
    assert "largest with" in failed.failure
    with pytest.raises(InputRefused, match="the samples do not fit"):
        case.verify(case.file(case.folded()), samples={"x": samples[:, :20]})


def test_the_source_is_left_as_it_was(cases):
    module = cases["convnet"].module
    before = copy.deepcopy(module.state_dict())
    reference = TorchReference(module, ["x"], ["y"])
    feed = {"x": np.ones((2, 3, 10, 10), dtype=np.float32)}
    exact = reference.evaluate64(feed)["y"]
    assert exact.dtype == np.float64
    assert reference.executions32(feed)[0]["y"].dtype == np.float32
    assert torch.get_default_dtype() == torch.float32
    for name, value in module.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


def test_the_onnx_reference_agrees_with_pytorch(case):
    feed = {"x": np.random.default_rng(1).standard_normal((2, *case.row)).astype(np.float32)}
    onnx_reference = OnnxReference(case.plain)
    assert onnx_reference.output_names == ("y",)
    ours, theirs = onnx_reference.evaluate64(feed)["y"], case.reference.evaluate64(feed)["y"]
    # The graph holds epsilon in float32: relative 2^-25 of epsilon, itself 1e-5 of the variance.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2.0**-24 * 1e-4 * np.abs(theirs).max())
    verdict = verify_file(
        case.file(case.folded()), onnx_reference, inputs=(InputSpec("x", (None, *case.row), "float32"),), threads=1
    )
    assert verdict, verdict.failure
    assert verdict.reference == "ONNX reference evaluator, float64"


class _Float32Inside(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)
        self.table = torch.arange(4, dtype=torch.float32) / 3  # a plain attribute, which .double() does not reach

    def forward(self, x):
        positions = torch.linspace(0.0, 1.0, 4, dtype=torch.float32)
        return (self.fc(x).float() + positions).to(torch.float32) @ torch.tensor([0.1, 0.2, 0.3, 0.4]) + self.table[1]


def test_float32_inside_forward_becomes_float64():
    torch.manual_seed(0)
    module = _Float32Inside().eval()
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    reference = TorchReference(module, ["x"], ["y"])
    exact = reference.evaluate64({"x": x})["y"]
    weight, bias = (p.detach().double().numpy() for p in (module.fc.weight, module.fc.bias))
    hidden = x.astype(np.float64) @ weight.T + bias + np.linspace(0.0, 1.0, 4)
    # The constants of torch.tensor are rounded to float64, those of the attribute were rounded to float32 before.
    expected = hidden @ np.array([0.1, 0.2, 0.3, 0.4]) + module.table.double().numpy()[1]
    # Two products of five float64 terms each: fewer than 64 roundings.
    np.testing.assert_allclose(exact, expected, rtol=0, atol=64 * 2.0**-53 * np.abs(expected).max())
    assert reference.description == "PyTorch float64"


class _NotInFloat64(torch.nn.Module):
    def forward(self, x):
        if x.dtype != torch.float32:
            raise TypeError("float32 only")
        return x * 2


def test_a_module_that_refuses_float64_is_evaluated_as_a_graph_and_says_so():
    plain = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 2] x) => (float[N, 2] y) { y = Add (x, x) }'
    )
    feed = {"x": np.ones((1, 2), dtype=np.float32)}
    reference = TorchReference(_NotInFloat64(), ["x"], ["y"], plain)
    np.testing.assert_array_equal(reference.evaluate64(feed)["y"], [[2.0, 2.0]])
    assert "ONNX reference evaluator, float64" in reference.description
    assert "float32 only" in reference.description
    with pytest.raises(InputRefused, match="does not run in float64"):
        TorchReference(_NotInFloat64(), ["x"], ["y"]).evaluate64(feed)


def _model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')


def _verdict(tmp_path, reference: str, candidate: str, *inputs: InputSpec):
    onnx.save(_model(candidate), tmp_path / "candidate.onnx")
    return verify_file(tmp_path / "candidate.onnx", OnnxReference(_model(reference)), inputs=inputs, threads=1)


X = InputSpec("x", (None, 4), "float32")


MIXING = "(float[N, 4] x) => (float[N, 4] y) { m = ReduceMean <axes = [0]> (x) y = Sub (x, m) }"


class _Mixing(torch.nn.Module):
    def forward(self, x):
        return x - x.mean(0)


def test_a_network_that_mixes_rows_fails(tmp_path):
    onnx.save(_model(MIXING), tmp_path / "candidate.onnx")
    reference = TorchReference(_Mixing(), ["x"], ["y"])
    verdict = verify_file(tmp_path / "candidate.onnx", reference, inputs=(X,), threads=1)
    assert not verdict
    assert "sample 2 alone and the same sample in a batch of 3 differ by" in verdict.failure
    assert "in the source in float64" in verdict.failure
    assert verdict.decided_by == Criterion.BATCH_INVARIANCE


def test_a_file_may_mix_rows(tmp_path):
    verdict = _verdict(tmp_path, MIXING, MIXING, X)
    assert verdict, verdict.failure
    (warning,) = verdict.warnings
    assert "sample 2 alone and the same sample in a batch of 3 differ by" in warning


@pytest.mark.parametrize(
    ("output", "node"),
    [("seq(float[N, 4]) s", "s = SequenceConstruct (x, x)"), ("string[N, 4] s", "s = Cast <to = 8> (x)")],
)
def test_an_output_that_is_no_tensor_of_numbers_is_refused(tmp_path, output, node):
    text = f"(float[N, 4] x) => (float[N, 4] y, {output}) {{ y = Relu (x) {node} }}"
    with pytest.raises(InputRefused, match="not a tensor of numbers") as caught:
        _verdict(tmp_path, text, text, X)
    assert "output s" in str(caught.value)


def test_an_input_of_text_is_refused(tmp_path):
    text = "(float[N, 4] x, string[N] t) => (float[N, 4] y, int64[1] z) { y = Relu (x) z = Shape (t) }"
    with pytest.raises(InputRefused, match="no inputs can be made up in input t"):
        _verdict(tmp_path, text, text, X, InputSpec("t", (None,), "object"))


def test_whole_numbers_must_be_equal(tmp_path):
    largest = "(float[N, 4] x) => (int64[N] y) {{ y = {} <axis = 1, keepdims = 0> (x) }}"
    assert _verdict(tmp_path, largest.format("ArgMax"), largest.format("ArgMax"), X)
    verdict = _verdict(tmp_path, largest.format("ArgMax"), largest.format("ArgMin"), X)
    assert not verdict
    assert "output y" in verdict.failure


def test_a_source_that_is_not_finite_is_refused(tmp_path):
    logarithm = "(float[N, 4] x) => (float[N, 4] y) { a = Abs (x) n = Neg (a) y = Log (n) }"  # in no range
    with pytest.raises(InputRefused, match="the source itself gives NaN or infinity"):
        _verdict(tmp_path, logarithm, logarithm, X)


def test_an_ill_conditioned_source_is_said_to_be(tmp_path):
    cancelling = """(float[N, 4] x) => (float[N, 4] y)
        <float c = {1e6}> { up = Add (x, c) y = Sub (up, c) }"""
    verdict = _verdict(tmp_path, cancelling, cancelling, X)
    assert verdict
    assert verdict.ill_conditioned
    assert [output.ill_conditioned for output in verdict.outputs] == [True]


def test_a_float16_file_is_judged_by_its_own_format(tmp_path):
    rng = np.random.default_rng(0)
    weight = ", ".join(f"{value:.6f}" for value in rng.standard_normal(16))
    exact = f"(float[N, 4] x) => (float[N, 4] y) <float[4, 4] w = {{{weight}}}> {{ y = MatMul (x, w) }}"
    half = onnx.ModelProto()
    half.CopyFrom(_model(exact))
    (tensor,) = half.graph.initializer
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), "w16"))
    half.graph.node.insert(0, helper.make_node("Cast", ["w16"], ["w"], to=TensorProto.FLOAT))
    onnx.save(half, tmp_path / "half.onnx")
    verdict = verify_file(tmp_path / "half.onnx", OnnxReference(_model(exact)), inputs=(X,), threads=1)
    assert verdict, verdict.failure
    assert verdict.judged_as == "float16"
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float16(1.01), "w16"))
    onnx.save(half, tmp_path / "half.onnx")
    assert not verify_file(tmp_path / "half.onnx", OnnxReference(_model(exact)), inputs=(X,), threads=1)


def test_the_module_of_an_exported_program_is_copied_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own deprecated calls
        torch.export.save(torch.export.export(torch.nn.Linear(2, 3), (torch.ones(2, 2),)), tmp_path / "net.pt2")
        module = torch.export.load(tmp_path / "net.pt2").module()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reference = TorchReference(module, ["x"], ["y"])
    assert reference.evaluate64({"x": np.ones((2, 2), np.float32)})["y"].dtype == np.float64


def test_what_a_sigmoid_leaves_of_small_values_is_no_wrong_fold():
    """ONNX Runtime computes it as 1/2 + p(x) / q(x): of 1e-8 no digit is right, in source and file alike."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y)
        <float[4, 4] w = {1, 2, -1, 1, 2, 1, 3, -2, 1, 1, 1, 1, -1, 2, 1, 3},
         float[4] low = {-17.5, -17.9, -17.2, -18}> {
        a = MatMul (x, w) b = Add (a, low) s = Sigmoid (b) y = Identity (s)
    }"""
    model = onnx.parser.parse_model(text)
    assert logistic_outputs(model) == {"y"}
    errors = OutputErrors("y", relative_bound=1e-7, absolute_bound=logistic_error(2.0**-24))
    errors.reference.add(np.full(100, 2e-8))
    errors.add_source(0, np.full(100, 1e-9))
    errors.add_candidate("deployed", np.full(100, 3e-8), "random inputs")
    assert errors.failure() is None
    errors.add_candidate("deployed", np.full(100, 1e-6), "random inputs")
    assert errors.failure() is not None
