"""What must hold of every fold: the same function, a valid graph, a true ledger, an untouched argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.inliner
from validity import batchnorm_nodes, violations

from bnfold.folding import CHANNEL_BLOCK, fold
from bnfold.graph.float64 import Float64Graph
from bnfold.records import Cause
from bnfold.verification.certificate import prove

if TYPE_CHECKING:
    from bnfold.records import Ledger

__all__ = ["assert_equal", "assert_valid", "batchnorm_nodes", "check_fold", "held_by", "kept", "kept_causes"]

# The promise: in float64 the folded graph equals the original to 1e-10 of the output's largest magnitude.
PROMISE = 1e-10


def check_fold(
    model: onnx.ModelProto,
    feed: Mapping[str, np.ndarray],
    *,
    exact: bool = False,
    settled: bool = True,
    n_decomposed: int = 0,
    channel_block: int = CHANNEL_BLOCK,
) -> tuple[onnx.ModelProto, Ledger]:
    """Fold, check all that must hold of any fold, and return the folded model with its ledger.

    `exact` asks for equal bits, as dyadic parameters allow; else for the promised 1e-10 in float64. Parameters of the
    model should be float64: with narrower ones the folded weights are rounded once, which is not the fold's error.
    `settled=False` is for models that hold a BatchNorm back for its conditioning: the file does not say that its input
    is now stored in other units than its variance is, and so the second fold may judge otherwise. `n_decomposed` is the
    number of BatchNorms that the model writes as several operators. Dead channels leave in blocks of `channel_block`.
    """
    before = model.SerializeToString(deterministic=True)
    folded, ledger = fold(model, channel_block=channel_block)
    assert model.SerializeToString(deterministic=True) == before, "fold changed its argument"
    assert_valid(folded, model)
    assert_ledger(ledger, model, folded, n_decomposed)
    assert_equal(model, folded, feed, exact=exact)
    assert_proven(model, folded, feed, ledger)
    if settled:
        assert_settled(folded, ledger, channel_block)
    return folded, ledger


def kept(ledger: Ledger) -> dict[str, Any]:
    """Why every BatchNorm that stayed did, by name."""
    return {entry.name: entry.stays for entry in ledger.entries if entry.outcome == "kept"}


def kept_causes(ledger: Ledger) -> dict[str, str]:
    """The cause of every BatchNorm that stayed, by name."""
    return {name: stays.cause.value for name, stays in kept(ledger).items()}


def held_by(ledger: Ledger) -> tuple[str, ...]:
    """What holds the only BatchNorm that stayed."""
    (stays,) = kept(ledger).values()
    names: tuple[str, ...] = stays.held_by
    return names


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


def assert_proven(
    model: onnx.ModelProto, folded: onnx.ModelProto, feed: Mapping[str, np.ndarray], ledger: Ledger
) -> None:
    """What the fold says of its values and parameters is so, operator by operator."""
    sizes = {name: np.shape(value) for name, value in feed.items()}
    proof = prove(folded, model, ledger.certificate, sizes=sizes)
    assert proof, f"{proof.failed.value} for {proof.failed.counterpart}: {proof.failed.reason}"
    assert proof.certified == proof.regions
    assert proof.unexcited_channels == 0


def assert_valid(folded: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """A correct file with the interface of the original, and nothing that is not used."""
    broken = violations(folded)
    assert not broken, "\n".join(broken)
    for side in ("input", "output"):
        old, new = getattr(model.graph, side), getattr(folded.graph, side)
        assert [(v.name, v.type.SerializeToString()) for v in new] == [
            (v.name, v.type.SerializeToString()) for v in old
        ], f"the {side}s differ"
    versions = [{o.domain: o.version for o in m.opset_import if not o.domain} for m in (folded, model)]
    assert versions[0] == versions[1]
    assert not folded.functions


def assert_ledger(ledger: Ledger, model: onnx.ModelProto, folded: onnx.ModelProto, n_decomposed: int) -> None:
    """Every BatchNorm exactly once, and the counts add up."""
    inlined = onnx.inliner.inline_local_functions(model) if model.functions else model
    before, after = batchnorm_nodes(inlined.graph), batchnorm_nodes(folded.graph)
    assert ledger.found == len(before) + n_decomposed
    assert ledger.found == ledger.absorbed + ledger.merged + ledger.removed + ledger.kept
    assert ledger.kept == len(after)
    names = [entry.name for entry in ledger.entries]
    assert len(set(names)) == len(names)
    identities = [node.name for node in before if is_identity(node, inlined.graph)]
    for entry in ledger.entries:
        if entry.outcome == "kept":
            assert isinstance(entry.cause, Cause), entry.name
            assert entry.reason, entry.name
            assert not entry.into
        else:
            assert (entry.cause, entry.held_by, entry.reason) == (None, (), None), entry.name
        if entry.outcome != "removed":
            assert np.isfinite(entry.max_abs_scale) or entry.cause == Cause.TRAINING_MODE, entry.name
        if entry.outcome in ("absorbed", "merged"):
            assert entry.into or entry.name in identities, f"{entry.name} was absorbed by nothing"
            assert len(set(entry.into)) == len(entry.into)


def is_identity(norm: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    """Whether a BatchNorm computes y = x in every channel: it vanishes, and no weights change."""
    known = {tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float64) for tensor in graph.initializer}
    if not known.keys() >= set(norm.input[1:]):
        return False
    gamma, beta, mean, variance = (known[name] for name in norm.input[1:])
    epsilon = next((attribute.f for attribute in norm.attribute if attribute.name == "epsilon"), 1e-5)
    return bool((gamma == np.sqrt(variance + epsilon)).all() and (beta == mean).all())


def assert_settled(folded: onnx.ModelProto, ledger: Ledger, channel_block: int) -> None:
    """Folding again finds only what was kept, keeps all of it, and changes no node and no parameter.

    A constant Mul or Add that a vanished BatchNorm had held may still go: the fold is repeated for BatchNorms only.
    """
    again, second = fold(folded, channel_block=channel_block)
    assert second.found == second.kept == ledger.kept
    if len(again.graph.node) < len(folded.graph.node):
        assert_settled(again, second, channel_block)
        return
    assert list(again.graph.node) == list(folded.graph.node)
    assert {t.name: t.SerializeToString() for t in again.graph.initializer} == {
        t.name: t.SerializeToString() for t in folded.graph.initializer
    }
