"""What makes a graph valid, as a table of rules: checked after every stage of a fold, and of the file that comes out.

A rule takes a model and yields a sentence for each place that breaks it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from bnfold.graph.constants import round_constants
from bnfold.graph.subgraphs import subgraphs

__all__ = ["AFTER_A_STAGE", "RULES", "batchnorm_nodes", "violations", "written"]

Rule = Callable[[onnx.ModelProto], Iterator[str]]


def _inner(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    single = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return single + [g for a in node.attribute if a.type == onnx.AttributeProto.GRAPHS for g in a.graphs]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for inner in _inner(node):
            yield from _graphs(inner)


def batchnorm_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Every BatchNormalization, those of subgraphs included."""
    return [node for inner in _graphs(graph) for node in inner.node if node.op_type == "BatchNormalization"]


def _inputs(graph: onnx.GraphProto) -> list[str]:
    return [value.name for value in graph.input]


def _initializers(graph: onnx.GraphProto) -> list[str]:
    return [tensor.name for tensor in graph.initializer]


def _written(graph: onnx.GraphProto) -> list[str]:
    return [name for node in graph.node for name in node.output if name]


def _reads(node: onnx.NodeProto) -> set[str]:
    """What a node reads, and what the graphs inside it read, of any scope."""
    names = {name for name in node.input if name}
    for inner in _inner(node):
        names |= {value.name for value in inner.output}.union(*(_reads(part) for part in inner.node))
    return names


def names_are_unique(model: onnx.ModelProto) -> Iterator[str]:
    """A name stands for one value; an initializer may have the name of the input whose default it is."""
    for graph in _graphs(model.graph):
        for kind, names in (("initializers", _initializers(graph)), ("inputs", _inputs(graph))):
            yield from (f"two {kind} called {name}" for name, n in Counter(names).items() if n > 1)
        defined = Counter([*_written(graph), *{*_initializers(graph), *_inputs(graph)}])
        yield from (f"{name} is defined {n} times" for name, n in defined.items() if n > 1)
        nodes = Counter(node.name for node in graph.node if node.name)
        yield from (f"two nodes called {name}" for name, n in nodes.items() if n > 1)


def order_is_topological(model: onnx.ModelProto) -> Iterator[str]:
    """Every value is defined before it is read, and no inner graph hides a name of the outer one."""
    yield from _unordered(model.graph, set())


def _unordered(graph: onnx.GraphProto, outer: set[str]) -> Iterator[str]:
    own = {*_inputs(graph), *_initializers(graph)}
    yield from (f"{name} hides a value of the outer graph" for name in own & outer)
    defined = outer | own
    for node in graph.node:
        missing = {name for name in node.input if name} - defined
        yield from (f"{node.op_type} {node.name} reads {name}, which is not there yet" for name in missing)
        for inner in _inner(node):
            yield from _unordered(inner, defined)
        yield from (f"{name} hides a value of the outer graph" for name in set(node.output) & outer)
        defined |= set(node.output)
    yield from (f"output {value.name} is written by nothing" for value in graph.output if value.name not in defined)


def statements_have_a_value(model: onnx.ModelProto) -> Iterator[str]:
    """No value_info of a value that is gone."""
    for graph in _graphs(model.graph):
        there = {*_written(graph), *_inputs(graph), *_initializers(graph)}
        yield from (f"{v.name} is described and not there" for v in graph.value_info if v.name not in there)


def shapes_are_as_inferred(model: onnx.ModelProto) -> Iterator[str]:
    """What the file states of its values is what ONNX infers without these statements."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    try:
        fresh = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        yield f"ONNX cannot infer the shapes: {error}"
        return
    found = {value.name: value.type.tensor_type for value in fresh.graph.value_info}
    for value in model.graph.value_info:
        stated, inferred = value.type.tensor_type, found.get(value.name)
        if inferred is not None and not _agree(stated, inferred):
            yield f"{value.name} is said to be {stated}, and is {inferred}"


def _agree(a: onnx.TypeProto.Tensor, b: onnx.TypeProto.Tensor) -> bool:
    if a.elem_type != b.elem_type:
        return False
    if not (a.HasField("shape") and b.HasField("shape")):
        return True
    return len(a.shape.dim) == len(b.shape.dim) and all(
        x.dim_value == y.dim_value
        for x, y in zip(a.shape.dim, b.shape.dim, strict=True)
        if x.HasField("dim_value") and y.HasField("dim_value")
    )


def passes_the_checker(model: onnx.ModelProto) -> Iterator[str]:
    """The checker of ONNX: operators, attributes and types as the opset has them."""
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        yield str(error)


def everything_is_used(model: onnx.ModelProto) -> Iterator[str]:
    """No node, and no initializer but the default of an input, that nobody reads."""
    for graph in _graphs(model.graph):
        read = {value.name for value in graph.output}.union(*(_reads(node) for node in graph.node))
        for node in graph.node:
            if not read & set(node.output):
                yield f"{node.op_type} {node.name} is not used"
        yield from (f"{name} is not used" for name in set(_initializers(graph)) - set(_inputs(graph)) - read)


AFTER_A_STAGE: tuple[Rule, ...] = (
    names_are_unique,
    order_is_topological,
    statements_have_a_value,
    shapes_are_as_inferred,
    passes_the_checker,
)
RULES: tuple[Rule, ...] = (*AFTER_A_STAGE, everything_is_used)


def violations(model: onnx.ModelProto, rules: tuple[Rule, ...] = RULES) -> list[str]:
    """A line for each place that breaks a rule."""
    return [f"{rule.__name__}: {sentence}" for rule in rules for sentence in rule(model)]


def written(model: ir.Model) -> onnx.ModelProto:
    """A graph between two stages, as the file it would be: parameters rounded, names made unique, in a copy."""
    copy = model.clone()
    passes.NameFixPass()(copy)  # between stages a value is an object, whatever its name
    for graph in [*subgraphs(copy.graph), copy.graph]:
        round_constants(graph)
    return ir.to_proto(copy)
