"""A session of a graph in memory that holds no second copy of its parameters.

Large parameters are written to a file that is gone as soon as ONNX Runtime has mapped it: the operating system reads
their pages when they are needed, and may drop them again (https://onnxruntime.ai/docs/tutorials/web/large-models.html
describes external data). There is no limit of 2 GB, as there is for the bytes of one message.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import onnx
from onnx import TensorProto

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

    from bnfold.runtime import Provider

__all__ = ["frugal", "open_written", "plain_session", "try_run", "write_plain"]

ALIGNMENT = 1 << 16  # of a tensor in the file: a multiple of the page sizes in use, 4 to 64 KiB
SPINNING = "session.intra_op.allow_spinning"  # onnxruntime_session_options_config_keys.h
SMALL = 1 << 16  # bytes of a tensor that stays in the message


def plain_session(model: onnx.ModelProto, **options: Any) -> Any:
    """Open the graph in ONNX Runtime as `open_written` does, with its options; the model is not changed.

    Raises:
        EnvironmentNotReady: ONNX Runtime or the provider is missing.
        InputRefused: ONNX Runtime does not load it.
    """
    with tempfile.TemporaryDirectory() as folder:
        return open_written(write_plain(model, Path(folder)), **options)


def write_plain(model: onnx.ModelProto, folder: Path) -> Path:
    """Write the graph into a folder, large parameters beside it, and return its file."""
    structure = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    for field, value in model.graph.ListFields():
        if field.name == "initializer":
            continue
        if isinstance(value, str):
            setattr(structure.graph, field.name, value)
        else:
            getattr(structure.graph, field.name).extend(value)
    path = folder / "plain.onnx"
    with path.with_name("plain.onnx.data").open("wb") as data:
        structure.graph.initializer.extend(_stored(model.graph.initializer, data))
    path.write_bytes(structure.SerializeToString())
    return path


def open_written(
    path: Path,
    *,
    provider: Provider = "cpu",
    threads: int | None = None,
    optimized: bool = False,
) -> Any:
    """Open what `write_plain` has written, graph optimizations off unless asked for; the files may go then.

    Raises:
        EnvironmentNotReady: ONNX Runtime or the provider is missing.
        InputRefused: ONNX Runtime does not load it.
    """
    from bnfold.runtime import open_session

    return open_session(
        path,
        provider=provider,
        threads=threads,
        optimized=optimized,
        exact=True,
        configure=frugal,
    )


def try_run(session: Any, feed: Mapping[str, np.ndarray]) -> list[Any] | str:
    """The outputs of a graph, or what ONNX Runtime says where it does not run on these inputs.

    Its errors have no type in common but Exception.
    """
    try:
        outputs: list[Any] = session.run(None, dict(feed))
    except Exception as error:  # noqa: BLE001 - see above; the sentence is the answer
        return " ".join(str(error).split())
    return outputs


def frugal(options: Any) -> None:
    """Take little from others, with these `SessionOptions`: give memory back after each run, and let threads sleep.

    An arena would keep the most of the values' memory: for ResNet-50 at batch 3 three sessions keep 350 MB otherwise,
    more than three of its files. A pattern of the values, planned from the run before, takes one block for all of them:
    117 MB there. A thread that waits for its share of an operator spins otherwise, and takes a CPU while it does.
    """
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry(SPINNING, "0")


def _stored(tensors: Iterable[TensorProto], data: BinaryIO) -> Iterable[TensorProto]:
    """The tensors, large ones as places in the file."""
    for tensor in tensors:
        raw = tensor.raw_data
        if len(raw) <= SMALL:
            yield tensor
            continue
        data.seek(-(-data.tell() // ALIGNMENT) * ALIGNMENT)
        places = {"location": Path(data.name).name, "offset": data.tell(), "length": len(raw)}
        data.write(raw)
        yield TensorProto(
            name=tensor.name,
            data_type=tensor.data_type,
            dims=tensor.dims,
            data_location=TensorProto.EXTERNAL,
            external_data=[onnx.StringStringEntryProto(key=key, value=str(place)) for key, place in places.items()],
        )
