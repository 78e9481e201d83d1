"""The proof of a float16 file: its ranges, its parameters, and which of its operators are in float16.

1. The file is simulated as a GPU computes it: every stored value is finite, and no larger than the margin says.
2. Every parameter is derived again from the folded graph and the recorded units.
3. The types of the file are inferred: what the recipe calls float16 is, what it calls float32 is too.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx

from bnfold.derivation.half import derived_differences
from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of
from bnfold.quantisation.half.simulate import half_values, simulated
from bnfold.quantisation.prove import Proof
from bnfold.records.quantisation import ProofFacts
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bnfold.records.recipes import HalfRecipe

__all__ = ["prove_half"]

LAYERS = (op.Conv, op.ConvTranspose, op.Gemm, op.MatMul, op.Add)


@dataclasses.dataclass
class _Seen:
    n: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)


def prove_half(
    file: Path,
    folded: onnx.ModelProto,
    recipe: HalfRecipe,
    feeds: Iterable[Mapping[str, np.ndarray]],
    *,
    threads: int | None = None,
) -> Proof:
    """Run the three checks.

    Args:
        file: the float16 file.
        folded: the float graph that it was made from.
        recipe: what it was made with.
        feeds: inputs to simulate it on.
        threads: of one operator.
    """
    model = onnx.load(file)
    n_derived, differences = derived_differences(folded, model, recipe)
    names = half_values(model)
    ranges = _ranges(model, names, feeds, threads)
    failures = (*differences, *_wrong_types(model, set(names), recipe), *ranges.failures)
    return Proof(ProofFacts(ranges.n, 0, n_derived, {}), 0, failures)


def _ranges(
    model: onnx.ModelProto, names: list[str], feeds: Iterable[Mapping[str, np.ndarray]], threads: int | None
) -> _Seen:
    """Look at every value that is stored in float16; the first that is not finite is named, with the node."""
    exposed = simulated(model)
    outputs = [value.name for value in exposed.graph.output]
    inner = [name for name in names if name not in outputs]
    exposed.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in inner
    )
    session = open_session(exposed.SerializeToString(deterministic=True), threads=threads, optimized=False)
    writers = {name: node.name for node in model.graph.node for name in node.output}
    seen = _Seen()
    for feed in feeds:
        for name, value in zip(names, session.run(names, dict(feed)), strict=True):
            seen.n += value.size
            wrong = int((~np.isfinite(value)).sum())
            if wrong and not seen.failures:
                seen.failures.append(f"{writers[name]}: {wrong} of {value.size} values are not finite in float16")
    return seen


def _wrong_types(model: onnx.ModelProto, half: set[str], recipe: HalfRecipe) -> list[str]:
    """A sentence for each layer whose type is not the recorded one."""
    found = []
    for node in model.graph.node:
        if kind_of(node) in LAYERS:
            is_half, recorded = node.output[0] in half, node.name not in recipe.reasons
            if is_half != recorded:
                words = ("float32", "float16")
                found.append(f"{node.name} is {words[recorded]} by the recipe, and {words[is_half]} in the file")
    return found
