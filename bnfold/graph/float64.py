"""A network in float64: the same graph with every floating-point tensor as `double`, and its evaluation in NumPy.

Evaluation is that of `onnx.reference.ReferenceEvaluator`, with the operators of `bnfold.graph.float64_operators` in
place of those that are slow there, that fall back to float32, that are wrong, or that it has not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from bnfold.errors import InputRefused
from bnfold.graph import operators as op
from bnfold.graph.float64_nodes import REMEDY, evaluator_of, own_operators, place, rounded, run_node
from bnfold.graph.float64_values import Parameters, last_readers, reads, widened
from bnfold.graph.inlined import inlined
from bnfold.graph.operators import Trait, is_onnx, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

__all__ = ["Float64Graph", "evaluate", "to_float64"]

HALF = 0.5
_NARROW = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
# Inputs that ONNX defines as float32 and nothing else. Resize-10 and Upsample-9 are (X, scales), Resize-11 and later
# (X, roi, scales, sizes).
_FLOAT32_INPUTS: Mapping[str, tuple[int, ...]] = {
    op.Resize: (1, 2),
    op.Upsample: (1,),
    op.NonMaxSuppression: (0, 1, 3, 4),
}


def to_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with float64 in place of float32, float16 and bfloat16; the model given is not changed.

    Parameters keep their values (the conversion is exact), epsilon and other attributes too. Functions local to the
    model are inlined. External data must have been loaded, as `onnx.load` does.

    Raises:
        InputRefused: an operator has no float64 meaning: random, batch statistics, or of another domain.
    """
    work = onnx.ModelProto()
    work.CopyFrom(inlined(model))
    _convert_graph(work.graph)
    return work


class Float64Graph:
    """A graph made ready to evaluate in float64.

    Its initializers stay as they are stored, shared with the model, and are converted while an operator reads them; the
    model must not be changed meanwhile. A value is dropped after its last reader.

    Args:
        model: the graph in its own precision, external data loaded.
        tensors: its initializers by name, where they lie elsewhere too; then the model need not stay.

    Raises:
        InputRefused: as `to_float64`, or an operator is not known to the evaluator.
    """

    def __init__(
        self, model: onnx.ModelProto, tensors: Mapping[str, TensorProto | ir.TensorProtocol] | None = None
    ) -> None:
        model = inlined(model)
        self._parameters = Parameters(tensors or {tensor.name: tensor for tensor in model.graph.initializer})
        structure = _without_initializers(model)
        _convert_graph(structure.graph)
        self._evaluator: ReferenceEvaluator = evaluator_of(structure)
        self.output_names: tuple[str, ...] = tuple(self._evaluator.output_names)
        nodes = structure.graph.node
        self._reads = [tuple(reads(node)) for node in nodes]
        self._dead = last_readers(nodes, self.output_names)

    def evaluate(
        self,
        feed: Mapping[str, np.ndarray],
        *,
        rounded_to: np.dtype | None = None,
        factor: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Outputs by name for inputs by name; floating-point inputs of any precision are widened to float64.

        Args:
            feed: may also hold another value for an initializer.
            rounded_to: a format to which every floating-point result of a node is rounded, and widened again.
            factor: what becomes of each floating-point value, initializers apart, that an operator which adds up
                products reads: an image at a Conv, both values of an attention at MatMul.

        Raises:
            InputRefused: an operator cannot be evaluated, or not on these inputs.
        """
        values: dict[str, Any] = {"": None, **{name: _in_float64(value) for name, value in feed.items()}}
        with np.errstate(all="ignore"):  # exp(-x) of a large x overflows on purpose in Sigmoid and Softplus
            for node, names, dead in zip(self._evaluator.rt_nodes_, self._reads, self._dead, strict=True):
                parameters = [name for name in names if name not in values and name in self._parameters]
                values.update((name, self._parameters[name]) for name in parameters)
                inputs = [values[name] for name in node.input]
                if factor is not None and kind_of(node).cost is not None:
                    inputs = [
                        factor(value) if _is_float(value) and name not in self._parameters else value
                        for name, value in zip(node.input, inputs, strict=True)
                    ]
                outputs = run_node(node, inputs, values)
                del inputs
                if rounded_to is not None:
                    outputs = [rounded(_as_executed(node.op_type, output), rounded_to) for output in outputs]
                values.update(zip(node.output, outputs, strict=False))
                for name in (*dead, *parameters):
                    values.pop(name, None)
        found = (values[name] if name in values else self._parameters[name] for name in self.output_names)
        return {name: np.asarray(value) for name, value in zip(self.output_names, found, strict=True)}


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _as_executed(op_type: str, output: Any) -> Any:
    """The result with what an execution in float32 rounds before it: a logistic function is 1/2 and an odd one.

    ONNX Runtime adds the half at the end (MlasComputeLogistic), so that near 0 the result has the digits of 1/2 only.
    """
    if op_type != op.Sigmoid:
        return output
    centred = rounded(output - HALF, np.dtype(np.float32))
    return rounded(HALF + centred, np.dtype(np.float32))


def _in_float64(value: np.ndarray) -> np.ndarray:
    """The array widened, or itself where it is of float64: operators write into none that they read."""
    return value if value.dtype == np.float64 else widened(value)


def _without_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model that lacks its initializers."""
    structure = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = structure.graph
    graph.name = model.graph.name
    for field in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(graph, field).extend(getattr(model.graph, field))
    return structure


def evaluate(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Evaluate a graph of any floating-point precision in float64, once; see `Float64Graph` for several inputs.

    Raises:
        InputRefused: as `to_float64`.
    """
    return Float64Graph(model).evaluate(feed)


def _widened_tensor(tensor: TensorProto) -> TensorProto:
    if tensor.data_type not in _NARROW:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)


def _convert_graph(graph: GraphProto) -> None:
    if graph.sparse_initializer:
        raise InputRefused(
            "a sparse initializer cannot be evaluated in float64",
            where=graph.sparse_initializer[0].values.name,
            remedy="store it densely",
        )
    for tensor in graph.initializer:
        if tensor.data_type in _NARROW:
            tensor.CopyFrom(_widened_tensor(tensor))
    for value in (*graph.input, *graph.output, *graph.value_info):
        _convert_type(value.type)
    nodes = [converted for node in graph.node for converted in _converted_nodes(node)]
    del graph.node[:]
    graph.node.extend(nodes)


def _convert_type(type_: TypeProto) -> None:
    kind = type_.WhichOneof("value")
    if kind == "tensor_type" and type_.tensor_type.elem_type in _NARROW:
        type_.tensor_type.elem_type = TensorProto.DOUBLE
    elif kind == "sequence_type":
        _convert_type(type_.sequence_type.elem_type)
    elif kind == "optional_type":
        _convert_type(type_.optional_type.elem_type)


def _converted_nodes(node: NodeProto) -> list[NodeProto]:
    """The node in float64, behind the casts of the inputs that ONNX wants in float32."""
    _refuse_unknown(node)
    for attribute in node.attribute:
        _convert_attribute(node, attribute)
    _spell_out_default_type(node)
    casts = []
    for position in _FLOAT32_INPUTS.get(node.op_type, ()):
        if position < len(node.input) and node.input[position]:
            name = f"{node.output[0]}/float32_{position}"
            casts.append(helper.make_node(op.Cast, [node.input[position]], [name], to=TensorProto.FLOAT))
            node.input[position] = name
    return [*casts, node]


def _refuse_unknown(node: NodeProto) -> None:
    where, remedy = place(node), REMEDY
    if not (is_onnx(node.domain) or node.domain == "ai.onnx.ml") and (node.domain, node.op_type) not in own_operators():
        raise InputRefused(
            f"this operator of domain {node.domain} has no float64 evaluation", where=where, remedy=remedy
        )
    if kind_of(node).has(Trait.RANDOM):
        raise InputRefused("a random operator gives no value to compare with", where=where, remedy=remedy)
    batch_statistics = any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
    if node.op_type == op.BatchNormalization and batch_statistics:
        raise InputRefused(
            "a BatchNormalization with training_mode=1 depends on its batch",
            where=where,
            remedy="export the network in eval mode",
        )


def _convert_attribute(node: NodeProto, attribute: AttributeProto) -> None:
    """Widen what an attribute stores: tensors, subgraphs, and the types that an operator names."""
    if attribute.type == AttributeProto.GRAPH:
        _convert_graph(attribute.g)
    elif attribute.type == AttributeProto.GRAPHS:
        for graph in attribute.graphs:
            _convert_graph(graph)
    elif attribute.type == AttributeProto.TENSOR:
        attribute.t.CopyFrom(_widened_tensor(attribute.t))
    elif attribute.name in {"to", "dtype", "output_dtype", "softmax_precision"} and attribute.i in _NARROW:
        attribute.i = TensorProto.DOUBLE
    elif node.op_type == op.Constant and attribute.name in {"value_float", "value_floats"}:
        number = attribute.f if attribute.name == "value_float" else list(attribute.floats)
        value = numpy_helper.from_array(np.asarray(number, dtype=np.float64))
        attribute.CopyFrom(helper.make_attribute("value", value))


def _spell_out_default_type(node: NodeProto) -> None:
    """ConstantOfShape makes float32 zeros where it says nothing; in float64 it must say so."""
    if node.op_type == op.ConstantOfShape and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1, dtype=np.float64))
        node.attribute.append(helper.make_attribute("value", zero))
