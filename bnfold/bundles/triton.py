"""The target `triton`: a model repository of Triton Inference Server, and a check over its client.

What a configuration means: model_config.proto of Triton, and the README of its ONNX Runtime backend.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.bundles.content import Content, Made, copied
from bnfold.bundles.pbtxt import Enum, as_text
from bnfold.bundles.server import copy_model
from bnfold.errors import InputRefused
from bnfold.runtime.providers import provider_names, provider_spec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bnfold.bundles.session_choice import SessionChoice
    from bnfold.records.bundle import BundledInput, BundledOutput

__all__ = ["NAMES", "write_repository"]

GOLDEN, REPOSITORY = "golden", "models"
SCRIPTS = {"check.py": "triton_check.py", "golden_values.py": "golden_values.py"}
NAMES = (*SCRIPTS, "README.md", "requirements.txt", GOLDEN, REPOSITORY)

TYPES = {"float16": "FP16", "float32": "FP32", "float64": "FP64", "bool": "BOOL"}
LEVELS = {"basic": -1, "extended": 1, "disabled": 2}
"""Of the graph, as the backend numbers them; its default is all."""
PARAMETERS = {
    "intra_op_num_threads": "intra_op_thread_count",
    "inter_op_num_threads": "inter_op_thread_count",
    "enable_cpu_mem_arena": "enable_mem_arena",
    "enable_mem_pattern": "enable_mem_pattern",
}
"""Options of a session that the backend has, by its own names."""
ENTRIES = ("session.use_device_allocator_for_initializers",)


def write_repository(stage: Path, content: Content) -> Made:
    """Write the repository, the golden values and the check.

    Args:
        stage: an empty folder.
        content: the file, judged.

    Raises:
        InputRefused: the backend does not have the provider, or an input has no axis at all.
    """
    accelerators = [name for name in provider_names() if provider_spec(name).triton]
    if content.provider not in ("cpu", *accelerators):
        raise InputRefused(
            "Triton's backend is not configured for the provider", found=content.provider,
            expected=" or ".join(("cpu", *accelerators)), remedy="give one of these with --provider",
        )  # fmt: skip
    folder = stage / REPOSITORY / content.name
    (folder / "1").mkdir(parents=True)
    (folder / "warmup").mkdir()
    copy_model(content.files, folder / "1" / "model.onnx")
    has_batch = _has_batch(content)
    rows = _warmup_rows(content, folder / "warmup", has_batch=has_batch)
    config, notes = _configuration(content, rows, has_batch=has_batch)
    (folder / "config.pbtxt").write_text(as_text(config), encoding="utf-8")
    for name, ours in SCRIPTS.items():
        copied(ours, stage / name)
    copied("triton_requirements.txt", stage / "requirements.txt")
    copied("triton_readme.md", stage / "README.md", {"NAME": content.name})
    shutil.copytree(content.golden, stage / GOLDEN)
    batching = config.get("dynamic_batching")
    settings = {
        "repository": REPOSITORY,
        "max_batch_size": config["max_batch_size"],
        "preferred_batch": None if batching is None else batching["preferred_batch_size"][0],
        "queue_delay_us": None if batching is None else batching["max_queue_delay_microseconds"],
    }
    return Made(GOLDEN, f"{REPOSITORY}/{content.name}/1/model.onnx", settings, notes)


def _has_batch(content: Content) -> bool:
    """Whether Triton may batch: every input and output begins with an axis of any length that counts the samples."""
    tensors: tuple[BundledInput | BundledOutput, ...] = (*content.inputs, *content.outputs)
    return (
        content.max_batch is not None
        and all(one.batch_axis == 0 for one in content.inputs)
        and all(one.shape and one.shape[0] is None for one in tensors)
    )


def _configuration(
    content: Content, rows: Mapping[str, str], *, has_batch: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The configuration as a message, and what it leaves out."""
    max_batch = (content.max_batch or 0) if has_batch else 0
    batching, notes = _batching(content, max_batch)
    parameters, graph, left_out = _session(content.session)
    on_host = provider_spec(content.provider).on_host
    optimization: dict[str, Any] = {"graph": graph}
    if provider_spec(content.provider).triton:
        options = {} if content.session is None else content.session.provider_options
        given = [{"key": key, "value": str(value)} for key, value in options.items()]
        if on_host:
            left_out += options  # the backend reads parameters of accelerators on the GPU alone
        optimization["execution_accelerators"] = {
            f"{'cpu' if on_host else 'gpu'}_execution_accelerator": {
                "name": content.provider,
                "parameters": [] if on_host else given,
            }
        }
    config = {
        "name": content.name,
        "backend": "onnxruntime",
        "max_batch_size": max_batch,
        "input": [_tensor(one, has_batch=has_batch) for one in content.inputs],
        "output": [_tensor(one, has_batch=has_batch) for one in content.outputs],
        "instance_group": {"count": content.instances, "kind": Enum("KIND_CPU" if on_host else "KIND_GPU")},
        "dynamic_batching": batching,
        "optimization": {key: value for key, value in optimization.items() if value is not None} or None,
        "parameters": parameters,
        "model_warmup": _warmup(content, rows, max_batch, has_batch=has_batch),
    }
    if content.max_batch is not None and not has_batch:
        left_out.append("batching: an input or output does not begin with the batch")
    notes += [f"Triton's configuration leaves out {', '.join(left_out)}"] * bool(left_out)
    return config, tuple(notes)


def _batching(content: Content, max_batch: int) -> tuple[dict[str, Any] | None, list[str]]:
    """Dynamic batching where it is worth something."""
    if max_batch < 2:
        return None, []
    if content.curve is None:
        return None, ["no batch curve was given (--bench), so that Triton does not gather requests into batches"]
    preferred = min(content.curve.preferred, max_batch)
    if preferred == 1:
        return None, ["a batch is no faster per sample than one sample alone: Triton does not gather requests"]
    return {"preferred_batch_size": [preferred], "max_queue_delay_microseconds": content.curve.queue_delay_us}, []


def _session(session: SessionChoice | None) -> tuple[list[dict[str, Any]], dict[str, Any] | None, list[str]]:
    """Parameters of the backend, the level of its graph, and the options that it has not."""
    if session is None:
        return [], None, []
    parameters, left_out, graph = [], [], None
    for name, value in session.session_options.items():
        if name == "graph_optimization_level":
            graph = {"level": LEVELS[value]} if value in LEVELS else None
        elif name == "execution_mode":
            parameters.append(_parameter(name, int(value == "parallel")))
        elif name in PARAMETERS:
            parameters.append(_parameter(PARAMETERS[name], int(value)))
        else:
            left_out.append(name)
    for name, value in session.config_entries.items():
        if name in ENTRIES:
            parameters.append(_parameter(name, value))
        else:
            left_out.append(name)
    return parameters, graph, left_out


def _parameter(key: str, value: object) -> dict[str, Any]:
    return {"key": key, "value": {"string_value": str(value)}}


def _tensor(one: BundledInput | BundledOutput, *, has_batch: bool) -> dict[str, Any]:
    """A tensor without its batch. Triton wants an axis at least: one number for each sample is an axis of 1."""
    sizes = [-1 if size is None else size for size in (one.shape[1:] if has_batch else one.shape)]
    if not sizes and not has_batch:
        raise InputRefused(
            "Triton has no tensors without an axis", found=f"{one.name}, a single number",
            remedy="export the file with an axis of 1 there",
        )  # fmt: skip
    return {
        "name": one.name,
        "data_type": _type(one.dtype),
        "dims": sizes or [1],
        "reshape": None if sizes else {},
    }


def _type(dtype: str) -> Enum:
    return Enum(f"TYPE_{TYPES.get(dtype, dtype.upper())}")


def _warmup(content: Content, rows: Mapping[str, str], max_batch: int, *, has_batch: bool) -> list[dict[str, Any]]:
    """Requests that Triton makes before it is ready, of one golden sample: alone, and as the largest batch."""
    sizes = sorted({1, max_batch}) if has_batch else [1]
    with np.load(content.golden / "inputs.npz") as stored:
        shapes = {one.name: stored[f"0/{one.name}"].shape[int(has_batch) :] or (1,) for one in content.inputs}
    return [
        {
            "name": f"golden_batch_{size}",
            "batch_size": size,
            "inputs": [
                {
                    "key": one.name,
                    "value": {
                        "data_type": _type(one.dtype),
                        "dims": list(shapes[one.name]),
                        "input_data_file": rows[one.name],
                    },
                }
                for one in content.inputs
            ],
        }
        for size in sizes
    ]


def _warmup_rows(content: Content, folder: Path, *, has_batch: bool) -> dict[str, str]:
    """The first golden sample as bytes, one file for each input; the names of the files."""
    account = json.loads((content.golden / "bundle.json").read_text(encoding="utf-8"))
    if not account["feeds"]:
        raise InputRefused("the golden values hold no input", where=str(content.golden), remedy="write them again")
    names = {}
    with np.load(content.golden / "inputs.npz") as stored:
        for number, one in enumerate(content.inputs):
            array = stored[f"0/{one.name}"]
            names[one.name] = f"input_{number}"
            row = array[0] if has_batch else array
            (folder / names[one.name]).write_bytes(np.ascontiguousarray(row, array.dtype.newbyteorder("<")).tobytes())
    return names
