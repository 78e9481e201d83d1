"""The smallest case that shows a failure: a layer of the source and of the file, inputs, a script that needs no bnfold.

source.onnx      the layer as the source has it, a convolution with its BatchNorm, say; or as it folds, where the
                 file holds its values in other units than the source; or in float64, where its execution diverges
candidate.onnx   the layer of the file
inputs.npz       what both read in float32 on the first input that shows the departure
reproduce.py     runs both in ONNX Runtime and prints the difference
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from bnfold.errors import InputRefused, unwritable
from bnfold.graph.float64 import to_float64
from bnfold.runtime import available_threads
from bnfold.runtime.providers import session_providers
from bnfold.verification.data.precision import coarsest_format
from bnfold.verification.localisation.float64_nodes import node_reads, widened
from bnfold.verification.localisation.graph_walk import FLOAT64_FLOOR
from bnfold.verification.localisation.imprecise_node import Executed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from bnfold.runtime import Provider
    from bnfold.verification.localisation.diverging_layer import Located

__all__ = ["FILES", "write_reproduction"]

SCRIPT = '''\
"""{title}"""
from pathlib import Path
import numpy as np, onnxruntime as ort
here = Path(__file__).resolve().parent
inputs, outputs = np.load(here / "inputs.npz"), []
for name in ("source", "candidate"):
    session = ort.InferenceSession(here / f"{{name}}.onnx", providers={providers})
    feed = {{value.name: inputs[f"{{name}}/{{value.name}}"] for value in session.get_inputs()}}
    outputs.append(session.run(None, feed)[0].astype(np.float64))
    print(f"{{name:9}} {{outputs[-1].shape}}, root mean square {{np.sqrt(np.mean(outputs[-1] ** 2)):.6g}}")
assert outputs[0].shape == outputs[1].shape, "the shapes differ"
print(f"largest difference {{np.abs(outputs[0] - outputs[1]).max():.6g}}")
'''
FILES = ("source.onnx", "candidate.onnx", "inputs.npz", "reproduce.py")


def write_reproduction(located: Located | Executed, folder: Path, *, provider: Provider = "cpu") -> None:
    """Write the four files; those of an earlier reproduction are replaced, other files are left alone.

    Args:
        located: what `localise` or `localise_execution` found.
        folder: made where missing.
        provider: that the script runs on.

    Raises:
        InputRefused: the folder cannot be written to, or a layer cannot be cut out.
    """
    layers = _executed_layers(located) if isinstance(located, Executed) else _layers(located)
    title = f"The file {located.departure.sentence().removeprefix('it ')}."
    arrays = {f"{name}/{key}": array for name, (_, feed) in layers.items() for key, array in feed.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (model, _) in layers.items():
            onnx.save(model, folder / f"{name}.onnx")
        savez: Any = np.savez  # its type would have the arrays be its options
        savez(folder / "inputs.npz", **arrays)
        title = title.replace("\\", "/").replace('"', "'")
        providers = session_providers(provider, available_threads(), exact=True)
        (folder / "reproduce.py").write_text(SCRIPT.format(title=title, providers=providers), "utf-8")
    except OSError as error:
        remedy = "choose a folder that you can write to"
        raise unwritable("cannot write the reproduction", error, where=str(folder), remedy=remedy) from error


Layer = tuple[onnx.ModelProto, dict[str, np.ndarray]]


def _layers(located: Located) -> dict[str, Layer]:
    return {"source": _source_layer(located), "candidate": _candidate_layer(located)}


def _executed_layers(executed: Executed) -> dict[str, Layer]:
    """The node of the file on what it read, in float64 and as it is."""
    model, node, reads = executed.candidate, executed.node, executed.reads
    cut, feed = _cut(model, set(node.output), node.output[0], reads)
    return {"source": (to_float64(cut), widened(feed)), "candidate": (cut, feed)}


def _candidate_layer(located: Located) -> Layer:
    """The suspects of the file, on the values that they read."""
    walk, suspect = located.walk, located.suspect
    reads = {name for node in suspect.region for name in walk.file.reads(node)}
    feed = {name: walk.states[name].array for name in reads if name in walk.states}
    written = {name for node in suspect.region for name in node.output}
    return _cut(located.candidate, written, suspect.value, {k: v for k, v in feed.items() if k not in written})


def _source_layer(located: Located) -> Layer:
    """What the source has in the place of the suspects, if its values are in the same units; else what it folds to."""
    walk, suspect = located.walk, located.suspect
    region = located.layers.region(suspect, walk)
    if region is not None:
        exact = located.plain_values()
        folded = walk.exact[suspect.counterpart]
        same = [(exact[name], walk.exact.get(name)) for name in region.reads] + [(exact[region.output], folded)]
        if all(b is not None and _equal(a, b) for a, b in same):
            written = {value.name for node in region.nodes for value in node.outputs if value.name}
            return _cut(located.plain, written, region.output, {name: exact[name] for name in region.reads})
    node = walk.other.writers[suspect.counterpart]
    return _cut(
        located.other,
        set(node.output),
        suspect.counterpart,
        {name: walk.exact[name] for name in walk.other.reads(node)},
    )


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two values are in the same units: far closer than any scale or offset would leave them."""
    if a.shape != b.shape:
        return False
    size = np.abs(a.astype(np.float64)).max(initial=0.0)
    return bool(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0) <= np.sqrt(FLOAT64_FLOOR) * size)


def _cut(model: onnx.ModelProto, written: Collection[str], output: str, feed: Mapping[str, np.ndarray]) -> Layer:
    """The nodes that write `written`, and what constants they need, as a model that reads `feed`."""
    nodes = [node for node in model.graph.node if set(node.output) & set(written)]
    made = {name for node in nodes for name in node.output} | set(feed)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    writers = {name: node for node in model.graph.node for name in node.output}
    needed = {name for node in nodes for name in node_reads(node)} - made
    while missing := {name for name in needed if name in writers and writers[name] not in nodes}:
        more = [writers[name] for name in missing]
        nodes = [node for node in model.graph.node if node in nodes or node in more]
        made |= {name for node in more for name in node.output}
        needed = {name for node in nodes for name in node_reads(node)} - made
    dtype = np.dtype(coarsest_format(model))
    arrays = {name: array.astype(dtype) if array.dtype.kind == "f" else array for name, array in feed.items()}
    if dtype.kind != "f":
        raise InputRefused("a layer in bfloat16 cannot be stored as .npz", where=output)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in arrays.items()
    ]
    graph = helper.make_graph(
        nodes, "layer", inputs, [helper.make_empty_tensor_value_info(output)], [constants[n] for n in sorted(needed)]
    )
    cut = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return onnx.shape_inference.infer_shapes(cut), arrays
