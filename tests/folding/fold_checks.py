"""What must hold of every fold: the same function, a valid graph, a true ledger, an untouched argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.inliner

from bnfold.folding import fold
from bnfold.graph.float64 import Float64Graph

if TYPE_CHECKING:
    from bnfold.records import Ledger

__all__ = ["assert_equal", "assert_valid", "batchnorm_nodes", "check_fold", "kept_reasons"]

# The promise: in float64 the folded graph equals the original to 1e-10 of the output's largest magnitude.
PROMISE = 1e-10


def check_fold(
    model: onnx.ModelProto, feed: Mapping[str, np.ndarray], *, exact: bool = False, settled: bool = True
) -> tuple[onnx.ModelProto, Ledger]:
    """Fold, check all that must hold of any fold, and return the folded model with its ledger.

    `exact` asks for equal bits, as dyadic parameters allow; else for the promised 1e-10 in float64. Parameters of the
    model should be float64: with narrower ones the folded weights are rounded once, which is not the fold's error.
    `settled=False` is for models that hold a BatchNorm back for its conditioning: the file does not say that its input
    is now stored in other units than its variance is, and so the second fold may judge otherwise.
    """
    before = model.SerializeToString(deterministic=True)
    folded, ledger = fold(model)
    assert model.SerializeToString(deterministic=True) == before, "fold changed its argument"
    assert_valid(folded, model)
    assert_ledger(ledger, model, folded)
    assert_equal(model, folded, feed, exact=exact)
    if settled:
        assert_settled(folded, ledger)
    return folded, ledger


def batchnorm_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Every BatchNormalization, those of subgraphs included."""
    found = []
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            found.append(node)
        for subgraph in _subgraphs(node):
            found += batchnorm_nodes(subgraph)
    return found


def kept_reasons(ledger: Ledger) -> dict[str, str]:
    """Name and reason of every BatchNorm that stayed."""
    return {entry.name: entry.reason or "" for entry in ledger.entries if entry.outcome == "kept"}


def assert_equal(
    model: onnx.ModelProto, folded: onnx.ModelProto, feed: Mapping[str, np.ndarray], *, exact: bool
) -> None:
    wanted, got = Float64Graph(model).evaluate(feed), Float64Graph(folded).evaluate(feed)
    assert list(got) == list(wanted)
    for name, reference in wanted.items():
        assert np.all(np.isfinite(reference)), f"the test's own model gives no finite {name}"
        assert got[name].shape == reference.shape
        assert reference.size
        if exact:
            np.testing.assert_array_equal(got[name], reference, err_msg=name)
        else:
            error, largest = np.abs(got[name] - reference).max(), np.abs(reference).max()
            assert error <= PROMISE * largest, f"{name}: off by {error:.3g}, its largest magnitude is {largest:.3g}"


def assert_valid(folded: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """A correct file with the interface of the original, and nothing that is not used."""
    onnx.checker.check_model(folded, full_check=True)
    for side in ("input", "output"):
        old, new = getattr(model.graph, side), getattr(folded.graph, side)
        assert [(v.name, v.type.SerializeToString()) for v in new] == [
            (v.name, v.type.SerializeToString()) for v in old
        ], f"the {side}s differ"
    versions = [{o.domain: o.version for o in m.opset_import if not o.domain} for m in (folded, model)]
    assert versions[0] == versions[1]
    assert not folded.functions
    _assert_names(folded.graph, set())
    _assert_stated_shapes(folded)


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    single = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return single + [g for a in node.attribute if a.type == onnx.AttributeProto.GRAPHS for g in a.graphs]


def _assert_names(graph: onnx.GraphProto, outer: set[str]) -> None:
    """Every name defined once and before its use; every node and initializer used."""
    inputs = {value.name for value in graph.input}
    names = [tensor.name for tensor in graph.initializer]
    assert len(set(names)) == len(names), "two initializers of one name"
    assert not (inputs | set(names)) & outer, "a name of the outer graph is hidden"
    defined = outer | inputs | set(names)
    used = {value.name for value in graph.output}
    for node in graph.node:
        reads = {name for name in node.input if name}
        for subgraph in _subgraphs(node):
            _assert_names(subgraph, defined)
            reads |= _reads(subgraph)
        assert {name for name in node.input if name} <= defined, f"{node.name} reads what comes later"
        for name in filter(None, node.output):
            assert name not in defined, f"{name} is defined twice"
            defined.add(name)
        used |= reads
    assert {value.name for value in graph.output} <= defined
    for node in graph.node:
        assert used & set(node.output), f"{node.op_type} {node.name} is not used"
    assert set(names) <= used | inputs, f"initializers not used: {set(names) - used - inputs}"
    node_names = [node.name for node in graph.node if node.name]
    assert len(set(node_names)) == len(node_names), "two nodes of one name"
    assert {value.name for value in graph.value_info} <= defined - outer, "value_info of values that are not there"


def _reads(graph: onnx.GraphProto) -> set[str]:
    inner = {name for node in graph.node for name in node.input if name} | {value.name for value in graph.output}
    for node in graph.node:
        for subgraph in _subgraphs(node):
            inner |= _reads(subgraph)
    return inner


def _assert_stated_shapes(folded: onnx.ModelProto) -> None:
    """What the file states of its values agrees with what ONNX infers without these statements."""
    bare = onnx.ModelProto()
    bare.CopyFrom(folded)
    del bare.graph.value_info[:]
    fresh = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True)
    known = {value.name: value.type.tensor_type for value in fresh.graph.value_info}
    for value in folded.graph.value_info:
        if value.name in known:
            stated, found = value.type.tensor_type, known[value.name]
            assert stated.elem_type == found.elem_type, value.name
            if not (stated.HasField("shape") and found.HasField("shape")):
                continue
            for a, b in zip(stated.shape.dim, found.shape.dim, strict=True):
                if a.HasField("dim_value") and b.HasField("dim_value"):
                    assert a.dim_value == b.dim_value, value.name


def assert_ledger(ledger: Ledger, model: onnx.ModelProto, folded: onnx.ModelProto) -> None:
    """Every BatchNorm exactly once, and the counts add up."""
    inlined = onnx.inliner.inline_local_functions(model) if model.functions else model
    before, after = batchnorm_nodes(inlined.graph), batchnorm_nodes(folded.graph)
    assert ledger.found == len(before)
    assert ledger.found == ledger.absorbed + ledger.merged + ledger.removed + ledger.kept
    assert ledger.kept == len(after)
    names = [entry.name for entry in ledger.entries]
    assert len(set(names)) == len(names)
    for entry in ledger.entries:
        if entry.outcome == "kept":
            assert entry.reason, entry.name
            assert not entry.into
        else:
            assert entry.reason is None, entry.name
        if entry.outcome != "removed":
            assert np.isfinite(entry.max_abs_scale) or "training" in (entry.reason or ""), entry.name
        if entry.outcome in ("absorbed", "merged"):
            assert entry.into, f"{entry.name} was absorbed by nothing"
            assert len(set(entry.into)) == len(entry.into)


def assert_settled(folded: onnx.ModelProto, ledger: Ledger) -> None:
    """Folding again finds only what was kept, keeps all of it, and changes no node and no parameter.

    A constant Mul or Add that a vanished BatchNorm had held may still go: the fold is repeated for BatchNorms only.
    """
    again, second = fold(folded)
    assert second.found == second.kept == ledger.kept
    if len(again.graph.node) < len(folded.graph.node):
        assert_settled(again, second)
        return
    assert list(again.graph.node) == list(folded.graph.node)
    assert {t.name: t.SerializeToString() for t in again.graph.initializer} == {
        t.name: t.SerializeToString() for t in folded.graph.initializer
    }
