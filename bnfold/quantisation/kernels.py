"""What ONNX Runtime makes of a quantised file: its optimized graph, read.

A layer called int8 must be one integer kernel, a layer called float must be none: optimizers leave what does not match
their patterns in float, and quantise again (WeightBiasQuantization) what does.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from bnfold.graph import operators as op
from bnfold.graph.operators import Trait, having, kind_of
from bnfold.quantisation.operators import CARRIERS
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.records.recipes import Recipe

__all__ = ["OptimizedNode", "allow_signed", "executed_nodes", "kernel_counts", "wrong_kernels"]

_INTEGER = re.compile(r"^(QLinear|QGemm|MatMulInteger|ConvInteger|DynamicQuantize|QMoE|QAttention|Nhwc.*Pool$)")
_LARGEST = "NhwcMaxPool"  # see `wrong_kernels`
_TOKEN = re.compile(r"_token_\d+$")  # what the layout transformation adds to a name
_WEIGHT_INPUT = {known.name: known.weight for known in having(Trait.QUANTISED) if known.weight is not None}


@dataclasses.dataclass(frozen=True)
class OptimizedNode:
    """A node of the optimized graph; `layer` is the node of the file that it came from, as far as names tell."""

    kind: str
    layer: str
    reads_dequantized: bool

    @property
    def is_integer(self) -> bool:
        """Whether it is a kernel of integers."""
        return _INTEGER.match(self.kind) is not None


def allow_signed(options: Any) -> None:
    """Let ONNX Runtime fuse around activations in s8, as it does by itself on ARM, and on no other processor."""
    options.add_session_config_entry("session.qdqisint8allowed", "1")


def executed_nodes(file: Path, *, signed: bool = False, threads: int | None = None) -> tuple[OptimizedNode, ...]:
    """The nodes that ONNX Runtime runs for a file, at the level at which it is deployed (all optimizations).

    Args:
        file: the quantised file.
        signed: whether its activations are s8.
        threads: of one operator.

    Raises:
        InputRefused: ONNX Runtime does not load it.
    """
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        path = Path(folder) / "optimized.onnx"

        def configure(options: Any) -> None:
            options.optimized_model_filepath = str(path)
            if signed:
                allow_signed(options)

        open_session(file, threads=threads, configure=configure)
        graph = onnx.load_model(path, load_external_data=False).graph
    producer = {name: kind_of(node) for node in graph.node for name in node.output}
    return tuple(
        OptimizedNode(
            node.op_type, _layer(node), any(producer.get(name) == op.DequantizeLinear for name in node.input[:1])
        )
        for node in graph.node
    )


def _layer(node: onnx.NodeProto) -> str:
    """The node of the file: by the name of the integer weight, which no transformation changes, else by its own."""
    index = _WEIGHT_INPUT.get(node.op_type)
    if index is not None and index < len(node.input) and node.input[index].endswith("/weight/s8"):
        return str(node.input[index]).removesuffix("/weight/s8")
    return _TOKEN.sub("", node.name)


def kernel_counts(nodes: Sequence[OptimizedNode]) -> Mapping[str, int]:
    """How often each integer kernel runs."""
    return dict(sorted(Counter(node.kind for node in nodes if node.is_integer).items()))


def wrong_kernels(nodes: Sequence[OptimizedNode], recipe: Recipe) -> tuple[str, ...]:
    """A sentence for each layer that does not run as the recipe says.

    A float MaxPool may run on integers: ONNX Runtime moves a QuantizeLinear from behind it to in front of it
    (QDQPropagation), and the largest of rounded numbers is the largest number, rounded.
    """
    found: list[str] = []
    kernels: dict[str, list[OptimizedNode]] = {}
    for node in nodes:
        kernels.setdefault(node.layer, []).append(node)
    expected = {plan.name for plan in recipe.nodes}
    for plan in recipe.nodes:
        own = kernels.get(plan.name, [])
        if plan.op in CARRIERS:
            found += [f"{plan.name} ({plan.op}) runs on float" for node in own if node.reads_dequantized]
        elif sum(node.is_integer for node in own) != 1:
            kinds = ", ".join(node.kind for node in own) or "no kernel of its name"
            found.append(f"{plan.name} is int8, and ONNX Runtime runs {kinds}")
    for node in nodes:
        if node.is_integer and node.layer not in expected and node.kind != _LARGEST:
            found.append(f"{node.layer} is float, and ONNX Runtime runs {node.kind}")
    return tuple(found)
