"""Ranks that ONNX's inference loses behind a Reshape of unknown shape follow from the operators around."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bnfold.folding import fold
from bnfold.graph.elements import elements_of
from bnfold.graph.inference import infer_shapes

WEIGHTS = {
    "w3": (4, 2, 3), "w4": (4, 2, 3, 3), "w5": (4, 2, 1, 1, 1), "m": (6, 8), "lstm": (1, 32, 6),
    "gru": (2, 24, 6), "rnn": (1, 8, 6), "r": (1, 32, 8), "rg": (2, 24, 8), "rr": (1, 8, 8), "c": (4,), "s4": (4,),
}  # fmt: skip

# The operators between a value u of unknown rank and y, and the ranks of u (None: stays unknown) and y.
CASES = {
    "Conv 1d": ("y = Conv (u, w3)", 3, 3),
    "Conv 2d": ("y = Conv (u, w4)", 4, 4),
    "Conv 3d": ("y = Conv (u, w5)", 5, 5),
    "ConvTranspose": ("y = ConvTranspose (u, w4)", 4, 4),
    "ConvInteger": ("q, s, z = DynamicQuantizeLinear (u) y = ConvInteger (q, wi, z)", 4, 4),
    "QLinearConv": ("q = QuantizeLinear (u, one, zero) y = QLinearConv (q, one, zero, wi, one, zero, one, zero)", 4, 4),
    "QuantizeLinear": ("q = QuantizeLinear (u, one, zero) d = DequantizeLinear (q, one, zero) y = Conv (d, w4)", 4, 4),
    "Gemm": ("y = Gemm (u, m)", 2, 2),
    "Gemm transB": ("y = Gemm <transB = 1> (u, m)", 2, 2),
    "LSTM": ("y = LSTM <hidden_size = 8> (u, lstm, r)", 3, 4),
    "GRU": ('y = GRU <hidden_size = 8, direction = "bidirectional"> (u, gru, rg)', 3, 4),
    "RNN": ("h, y = RNN <hidden_size = 8> (u, rnn, rr) z = Identity (h)", 3, 3),
    "MaxPool": ("y = MaxPool <kernel_shape = [2, 2]> (u)", 4, 4),
    "AveragePool": ("y = AveragePool <kernel_shape = [2]> (u)", 3, 3),
    "GlobalAveragePool": ("p = GlobalAveragePool (u) y = Conv (p, w4)", 4, 4),
    "Transpose": ("y = Transpose <perm = [0, 2, 1]> (u)", 3, 3),
    "Reshape": ("y = Reshape (u, four)", None, 4),
    "Reshape of parts": ("n = Shape <end = 1> (x) l = Concat <axis = 0> (n, minus) y = Reshape (u, l)", None, 2),
    "Squeeze": ("v = Squeeze (u, axes) y = Conv (v, w3)", 4, 3),
    "Unsqueeze": ("v = Unsqueeze (u, axes) y = Conv (v, w4)", 3, 4),
    "BatchNormalization": ("v = BatchNormalization (u, c, c, c, c) y = Conv (v, w4)", 4, 4),
    "elementwise": ("v = Sigmoid (u) y = Conv (v, w4)", 4, 4),
    "sum with a constant": ("v = Add (u, c) y = Conv (v, w4)", 4, 4),
    "sum of two": ("v = Add (u, x) y = Conv (v, w5)", 5, 5),
    "reduction": ("axis = Constant <value_ints = [2]> () v = ReduceMean (u, axis) y = Conv (v, w4)", 4, 4),
    "reduction that drops": (
        "axis = Constant <value_ints = [2]> () v = ReduceMean <keepdims = 0> (u, axis) y = Conv (v, w4)", 5, 4
    ),
    "Flatten": ("y = Flatten (u)", None, 2),
    "Softmax": ("v = Softmax (u) y = Conv (v, w4)", 4, 4),
    "Resize": ("y = Resize (u, , s4)", 4, 4),
    "Pad": ("eight = Constant <value_ints = [0,0,1,1,0,0,1,1]> () y = Pad (u, eight)", 4, 4),
    "Concat": ("y = Concat <axis = 1> (x, u)", 4, 4),
    "Split": ("y, z = Split <axis = 1, num_outputs = 2> (u) v = Conv (z, w4)", 4, 4),
    "Slice": ("at = Constant <value_ints = [1]> () v = Slice (u, at, at) y = Conv (v, w4)", 4, 4),
    "MatMul": ("v = MatMul (u, m) t = Transpose <perm = [0, 2, 1]> (v) y = Identity (t)", 3, 3),
    "MatMulInteger between": (
        "q, a, z = DynamicQuantizeLinear (u) v = MatMulInteger (q, mi, z) y = Transpose <perm = [0, 2, 1]> (v)", 3, 3
    ),
    "Einsum": ('y = Einsum <equation = "...i,ij->...j"> (u, m)', None, None),
    "Einsum with letters": ('y = Einsum <equation = "bti,ij->btj"> (u, m)', None, 3),
    "GroupNormalization": ("v = GroupNormalization <num_groups = 2> (u, two, two) y = Conv (v, w4)", 4, 4),
    "what broadcasts tells nothing": ("y = Add (u, w4)", None, None),
}  # fmt: skip


def _model(nodes: str, opset: int = 18) -> ir.Model:
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
    g (float[N, 4, 9, 9] x, int64[L] anything) => (y)
    <int64[4] four = {{0, 4, -1, 2}}, int64[1] minus = {{-1}}, int64[1] axes = {{2}}, float one = {{1}},
     uint8 zero = {{0}}, float[2] two = {{1, 1}}> {{
      u = Reshape (x, anything)
      {nodes}
    }}"""
    proto = onnx.parser.parse_model(text)
    used = " ".join(name for node in proto.graph.node for name in node.input).split()
    arrays = {name: np.ones(shape, np.float32) for name, shape in WEIGHTS.items()}
    arrays |= {"wi": np.ones((4, 2, 3, 3), np.uint8), "mi": np.ones((6, 8), np.uint8)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in arrays.items() if n in used)
    return ir.from_proto(proto)


def _ranks(model: ir.Model) -> dict[str, int | None]:
    infer_shapes(model)
    values = [value for node in model.graph for value in node.outputs]
    return {str(value.name): None if value.shape is None else len(value.shape) for value in values}


@pytest.mark.parametrize("name", CASES)
def test_the_rank_follows_from_the_operator(name: str) -> None:
    nodes, before, after = CASES[name]
    ranks = _ranks(_model(nodes))
    assert (ranks["u"], ranks["y"]) == (before, after)


def test_a_cell_state_of_the_batch_first_layout() -> None:
    ranks = _ranks(_model("y = LSTM <hidden_size = 8, layout = 1> (u, lstm, r)"))
    assert ranks == {"u": 3, "y": 4}


@pytest.mark.parametrize(
    ("nodes", "opset", "expected"),
    [
        ("y = Conv (u, w4)", 18, [None, 4, None, None]),
        ("y = ConvTranspose <group = 2> (u, w4)", 18, [None, 4, None, None]),
        ("y = Gemm <transB = 1> (u, m)", 18, [None, 6]),
        ("y = Reshape (u, four)", 18, [None, 4, None, 2]),
        (
            "n = Shape (x) a = Gather <axis = 0> (n, minus) l = Concat <axis = 0> (a, minus) y = Reshape (u, l)",
            18,
            [9, None],
        ),
        (
            "n = Shape (x) a = Slice (n, axes, four_end) l = Concat <axis = 0> (a, minus) y = Reshape (u, l)",
            18,
            [9, 9, None],
        ),
        ("y = Upsample <scales = [1.0, 1.0, 2.0, 2.0]> (u)", 7, [None] * 4),
    ],
)
def test_lengths_that_parameters_state(nodes: str, opset: int, expected: list[int | None]) -> None:
    nodes = nodes.replace("four_end", "end")
    model = _model(("end = Constant <value_ints = [9]> () " if "end" in nodes else "") + nodes, opset)
    infer_shapes(model)
    (y,) = model.graph.outputs
    assert y.shape is not None
    assert [length if isinstance(length, int) else None for length in y.shape] == expected
    assert y.dtype == ir.DataType.FLOAT


def test_elements_of_a_shape_keep_their_symbols() -> None:
    model = _model("n = Shape (x) a = Cast <to = 6> (n) l = Concat <axis = 0> (a, four) y = Reshape (u, l)")
    infer_shapes(model)
    (lengths,) = [value for node in model.graph for value in node.outputs if value.name == "l"]
    elements = elements_of(lengths)
    assert elements is not None
    assert [str(e) for e in elements] == ["N", "4", "9", "9", "0", "4", "-1", "2"]


@pytest.mark.parametrize("nodes", ["y = Neg (u)", "y = Mul (u, one)", "v = Neg (u) y = Add (v, u)"])
def test_what_nothing_tells_stays_unknown(nodes: str) -> None:
    assert _ranks(_model(nodes))["u"] is None


def test_batchnorm_behind_a_convolution_of_unknown_input() -> None:
    """As a BatchNorm behind a transformer's last Conv in text recognition: ONNX loses the rank in the Reshapes."""
    model = _model("v = Conv (u, w4) y = BatchNormalization (v, c, c, c, c)")
    _, ledger = fold(ir.to_proto(model))
    assert [(entry.outcome, entry.into) for entry in ledger.entries] == [("absorbed", ("v",))]


def test_group_normalization_of_its_first_opset() -> None:
    """ONNX calls the operator of opset 18 deprecated, and will not infer it alone."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        g (float[N, 4, 5, 5] x) => (float[N, 2, 5, 5] y)
        <float[2, 4, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[4] c = {1, 2, 1, 2}, float[2] s = {1, 1}> {
          d = GroupNormalization <num_groups = 2> (x, s, s)
          b = BatchNormalization (d, c, c, c, c)
          y = Conv (b, w)
        }"""
    )
    folded, ledger = fold(model)
    assert [entry.outcome for entry in ledger.entries] == ["absorbed"]
    assert [node.op_type for node in folded.graph.node] == ["GroupNormalization", "Conv"]
