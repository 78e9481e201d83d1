"""`.onnx` files, whoever exported them, with their external data."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.graph import operators as op
from bnfold.graph.claims import settle_claims
from bnfold.graph.operators import kind_of
from bnfold.graph.reading import read_model, tidied
from bnfold.records import SourceFacts
from bnfold.sources.decoding import SEPARATE_SINCE, check_structure, decoded
from bnfold.sources.external_data import external_tensors, locate_external_data
from bnfold.sources.graph_inputs import graph_inputs
from bnfold.sources.onnx_checks import all_nodes, refuse_unhealthy_graph
from bnfold.sources.options import GraphOptions, graph_options
from bnfold.sources.types import OnnxSource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Unpack

__all__ = ["load_onnx", "onnx_source"]

log = logging.getLogger("bnfold.sources")


def load_onnx(
    path: Path,
    spec: str,
    **options: Unpack[GraphOptions],
) -> OnnxSource:
    """Read and check an `.onnx` file; external data is mapped, not copied.

    Args:
        path: the file, or a link to it; its external data lies beside either.
        spec: the source as the user named it.
        options: see `GraphOptions`.

    Raises:
        InputRefused: missing, damaged, against the ONNX specification, with external data that is missing or lies
            elsewhere, or with BatchNorms in training mode or without valid statistics.
    """
    if not path.is_file():
        raise InputRefused("no such file", where=str(path), remedy="give the path of an existing .onnx file")
    found = decoded(path)
    folder, data_files = locate_external_data(found, path)
    proto = tidied(found)
    check_structure(proto, path, as_written=proto is found)
    model = read_model(proto)
    ir.external_data.set_base_dir(model.graph, folder)
    return _source(model, spec, path, _sha256([path, *data_files]), graph_options(options))


def onnx_source(
    given: onnx.ModelProto,
    spec: str,
    **options: Unpack[GraphOptions],
) -> OnnxSource:
    """Check a model in memory; arguments as of `load_onnx`, the model stays as it is.

    Raises:
        InputRefused: as `load_onnx`; or its tensors lie in a file that is not loaded.
    """
    outside = next(external_tensors(given), None)
    if outside is not None:
        raise InputRefused(
            "the model's tensors lie in another file, which was not loaded", where=spec, found=outside.name,
            expected="a model with its data", remedy="read it with onnx.load(path), or give its path",
        )  # fmt: skip
    proto = tidied(given)
    check_structure(proto, None, as_written=proto is given, spec=spec)
    model = read_model(proto)
    return _source(model, spec, None, _sha256_in_memory(given), graph_options(options))


def _source(
    model: ir.Model,
    spec: str,
    path: Path | None,
    sha256: str,
    options: GraphOptions,
) -> OnnxSource:
    _separate_parameters(model, spec)
    settle_claims(model)
    if options["runs"]:
        _refuse_unknown_outputs(model, spec)
    refuse_unhealthy_graph(model, spec)
    return OnnxSource(
        facts=SourceFacts(spec=spec, sha256=sha256, n_parameters=_n_parameters(model)),
        path=path,
        model=model,
        inputs=graph_inputs(
            model, options["input_shapes"], where=spec, dims=options["dims"], batch_dim=options["batch_dim"]
        )
        if options["runs"]
        else (),
        output_names=tuple(str(value.name) for value in model.graph.outputs),
    )


def _separate_parameters(model: ir.Model, where: str) -> None:
    """Take the initializers of an IR version 3 file off its inputs, where that version made every one of them stand.

    From version 4 an initializer among the inputs is a default value that the caller may replace
    (https://github.com/onnx/onnx/blob/main/docs/IR.md), and stays one.
    """
    if model.ir_version >= SEPARATE_SINCE:
        return
    inputs = model.graph.inputs
    kept = [value for value in inputs if value.name not in model.graph.initializers]
    if len(kept) < len(inputs):
        log.info(
            "%s has ONNX IR version %d, where every parameter had to be an input: %d of them are read as constants",
            where,
            model.ir_version,
            len(inputs) - len(kept),
        )
        inputs[:] = kept
    model.ir_version = SEPARATE_SINCE


def _refuse_unknown_outputs(model: ir.Model, where: str) -> None:
    """Refuse outputs whose element type or rank is neither written nor inferred, as ONNX Runtime does.

    Raises:
        InputRefused: the file that bnfold writes would lack it.
    """
    for value in model.graph.outputs:
        if isinstance(value.type, ir.SequenceType | ir.OptionalType):
            continue
        if value.shape is None or value.dtype is None:
            raise InputRefused(
                f"output {value.name} has no shape, and none can be inferred",
                where=where,
                expected="an output of known rank and element type",
                remedy="write its type into the file; sizes may be left open",
            )


def _sha256(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _sha256_in_memory(model: onnx.ModelProto) -> str:
    """Of the model without its tensors' data, then of the data: together they may be too large for one message."""
    structure = onnx.ModelProto()
    structure.CopyFrom(model)
    for tensor in structure.graph.initializer:
        tensor.ClearField("raw_data")
    digest = hashlib.sha256(structure.SerializeToString(deterministic=True))
    for tensor in model.graph.initializer:
        digest.update(tensor.raw_data)
    return digest.hexdigest()


def _n_parameters(model: ir.Model) -> int:
    """Elements of the floating-point initializers, without the running statistics of BatchNorms."""
    statistics = {
        id(value) for node in all_nodes(model) if kind_of(node) == op.BatchNormalization for value in node.inputs[3:5]
    }
    return sum(
        value.const_value.size
        for graph in model.graphs()
        for value in graph.initializers.values()
        if value.const_value is not None and id(value) not in statistics and value.const_value.dtype.is_floating_point()
    )
