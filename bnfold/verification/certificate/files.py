"""A certificate as two files: its statements as JSON, its numbers as `.npz`.

certificate.json   schema, digests of the source and of the file, and for each graph (`Certificate`) its values and
                   parameters; numbers are named by their key in the other file
certificate.npz    gauges and positions, and of each parameter the difference `float64 digits - stored`
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import AttributeProto, numpy_helper

from bnfold.errors import InputRefused
from bnfold.records.certificate import Certificate, Counterpart

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import onnx
    from onnx import GraphProto

    from bnfold.records.certificate import Exact

__all__ = ["SCHEMA", "Written", "read_certificate", "write_certificate"]

SCHEMA = "bnfold.certificate/1"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever it is written


@dataclass(frozen=True)
class Written:
    """A certificate, the SHA-256 of what it speaks of, and the options of the export: opset and static_batch."""

    certificate: Certificate
    source_sha256: str
    file_sha256: str
    options: Mapping[str, int | None]


def write_certificate(
    path: Path,
    certificate: Certificate,
    file: onnx.ModelProto,
    *,
    source_sha256: str,
    file_sha256: str,
    options: Mapping[str, int | None],
) -> tuple[Path, Path]:
    """Write PATH and the `.npz` of the same name; both come back.

    Args:
        path: of the JSON file.
        certificate: what the fold says.
        file: as written, whose parameters the differences are taken from.
        source_sha256: of the source, as in the report of fold-export.
        file_sha256: of the file, the same.
        options: that the unfolded graph of the source depends on.
    """
    arrays = _Arrays()
    graphs = dict(_graphs(file.graph, ""))
    places = dict.fromkeys((*certificate.values, *certificate.parameters))
    content = {
        "schema": SCHEMA,
        "source": {"sha256": source_sha256},
        "file": {"sha256": file_sha256},
        "options": dict(options),
        "numbers": path.with_suffix(".npz").name,
        "graphs": {
            place: {
                "values": {
                    name: [_counterpart_json(one, arrays) for one in counterparts]
                    for name, counterparts in certificate.values.get(place, {}).items()
                },
                "parameters": _differences(certificate.parameters.get(place, {}), graphs.get(place), arrays),
            }
            for place in places
        },
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    numbers = path.with_suffix(".npz")
    arrays.save(numbers)
    return path, numbers


def read_certificate(path: Path) -> Written:
    """Read what `write_certificate` wrote.

    Raises:
        InputRefused: a file is missing, damaged, or of another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("schema") != SCHEMA:
            raise InputRefused(
                "the certificate is of another schema", where=str(path), found=str(content.get("schema")),
                expected=SCHEMA, remedy="write it again with `bnfold fold-export --certificate`",
            )  # fmt: skip
        with np.load(path.with_name(content["numbers"]), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        graphs = content["graphs"]
        certificate = Certificate(
            {
                place: {
                    name: tuple(_counterpart(one, arrays) for one in counterparts)
                    for name, counterparts in graph["values"].items()
                }
                for place, graph in graphs.items()
            },
            {
                place: {name: _digits(arrays[key]) for name, key in graph["parameters"].items()}
                for place, graph in graphs.items()
            },
        )
        return Written(certificate, content["source"]["sha256"], content["file"]["sha256"], dict(content["options"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputRefused(
            "the certificate cannot be read", where=str(path), found=f"{type(error).__name__}: {error}",
            remedy="write it again with `bnfold fold-export --certificate`",
        ) from error  # fmt: skip


class _Arrays:
    """Arrays by key; equal ones are kept once."""

    def __init__(self) -> None:
        self._keys: dict[bytes, str] = {}
        self._arrays: dict[str, np.ndarray] = {}

    def key(self, array: np.ndarray) -> str:
        array = np.asarray(array)
        digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).digest()
        if digest not in self._keys:
            self._keys[digest] = f"a{len(self._keys)}"
            self._arrays[self._keys[digest]] = array
        return self._keys[digest]

    def save(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for key, array in self._arrays.items():
                stream = io.BytesIO()
                np.lib.format.write_array(stream, array, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{key}.npy", _EPOCH), stream.getvalue())


def _counterpart_json(one: Counterpart, arrays: _Arrays) -> dict[str, Any]:
    found: dict[str, Any] = {"source": one.source}
    if one.scale is not None:
        found["scale"] = arrays.key(one.scale)
    if one.offset is not None:
        found["offset"] = arrays.key(one.offset)
    if one.kept:
        found["kept"] = {str(axis): arrays.key(positions) for axis, positions in one.kept.items()}
    return found


def _counterpart(content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Counterpart:
    kept = {int(axis): arrays[key].astype(np.int64) for axis, key in content.get("kept", {}).items()}
    scale, offset = (arrays[content[key]] if key in content else None for key in ("scale", "offset"))
    return Counterpart(str(content["source"]), scale, offset, kept)


def _differences(exact: Mapping[str, Exact], graph: GraphProto | None, arrays: _Arrays) -> dict[str, str]:
    """Of the parameters that the file has: their digits minus what it stores, in float32.

    A difference of half a unit in the last place needs no more digits: 24 + 24 are beyond what is compared.
    """
    found = {}
    for tensor in () if graph is None else graph.initializer:
        if tensor.name in exact:
            stored = numpy_helper.to_array(tensor)
            digits = exact[tensor.name](stored)
            if digits.size == stored.size:
                difference = digits.reshape(stored.shape) - stored.astype(np.float64)
                found[tensor.name] = arrays.key(difference.astype(np.float32))
    return found


def _digits(difference: np.ndarray) -> Exact:
    return lambda stored: (
        stored.astype(np.float64)
        + difference.astype(np.float64).reshape(stored.shape if stored.size == difference.size else difference.shape)
    )


def _graphs(graph: GraphProto, place: str) -> Iterator[tuple[str, GraphProto]]:
    yield place, graph
    for node in graph.node:
        for attribute in node.attribute:
            one = attribute.type == AttributeProto.GRAPH
            for k, body in enumerate([attribute.g] if one else attribute.graphs):
                name = f"{node.output[0]}.{attribute.name}{'' if one else k}"
                yield from _graphs(body, f"{place}/{name}" if place else name)
