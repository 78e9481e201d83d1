"""Serves the model of this bundle over HTTP by the Open Inference Protocol (version 2, as KServe and Triton speak it).

    python serve.py --host 127.0.0.1 --port 8000

Ready means: the model is open on its provider and has answered a golden input rightly. Wrong names, types and shapes,
and batches above `max_batch` of manifest.json, are answered with 422. MAX_BODY_MB (64) limits a request, THREADS the
threads of one inference (the CPUs that this container may use), RUNS the inferences at the same time (1).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from golden_values import HERE, BundleRefused, Judged, read_feeds, read_manifest
from pydantic import BaseModel, ValidationError
from session_options import open_session

DTYPES = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BOOL": "bool"}
MAX_BODY = int(os.environ.get("MAX_BODY_MB", "64")) << 20


class Tensor(BaseModel):
    """An input as the protocol has it; `data` is flat, or nested as `shape` says."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class InferenceRequest(BaseModel):
    """The body of a request."""

    id: str | None = None
    inputs: list[Tensor]


class Model:
    """The session, opened beside the server, so that it is alive before it is ready."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        self.manifest = manifest
        self.session: Any = None
        self.failure: str | None = None
        self.runs = asyncio.Semaphore(int(os.environ.get("RUNS", "1")))
        self.outputs = [output["name"] for output in manifest["outputs"]]

    def open(self) -> None:
        """Open it and have it answer a golden input; `failure` says what is wrong where it is."""
        try:
            session, feed = open_session(self.manifest, HERE), read_feeds(self.manifest)[0]
            judged = Judged({**self.manifest, "outputs": _at_most(self.manifest["outputs"])})
            judged.take(feed, dict(zip(self.outputs, session.run(self.outputs, feed.inputs), strict=True)))
            self.failure = next(iter(judged.failures()), None)
            self.session = session if self.failure is None else None
        except Exception as error:  # noqa: BLE001 - whatever it is, the server says it and is not ready
            self.failure = f"{type(error).__name__}: {error}"
        if self.failure is not None:
            print(f"error: the model is not served: {self.failure}", file=sys.stderr)

    async def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Answer; requests that come meanwhile wait."""
        async with self.runs:
            return list(await run_in_threadpool(self.session.run, self.outputs, arrays))


def _at_most(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The limits of one feed alone: the root mean square is that of all feeds together."""
    return [{**output, "allowed_rms": output["allowed_maximum"]} for output in outputs]


def as_array(tensor: Tensor, declared: dict[str, Any], max_batch: int | None) -> np.ndarray:
    """A tensor of a request; 422 where it is not what the model reads."""
    name = tensor.name
    if DTYPES.get(tensor.datatype, tensor.datatype.lower()) != declared["dtype"]:
        raise HTTPException(422, f"input {name}: datatype {tensor.datatype}, expected {declared['dtype']}")
    shape, wanted = tensor.shape, declared["shape"]
    fits = len(shape) == len(wanted) and all(w in (None, s) and s > 0 for s, w in zip(shape, wanted, strict=True))
    if not fits:
        raise HTTPException(422, f"input {name}: shape {shape}, expected {['any' if w is None else w for w in wanted]}")
    if max_batch is not None and shape[declared["batch_axis"]] > max_batch:
        raise HTTPException(422, f"input {name}: batch {shape[declared['batch_axis']]}, at most {max_batch}")
    try:
        array = np.array(tensor.data, declared["dtype"])
    except (ValueError, TypeError, OverflowError) as error:
        raise HTTPException(422, f"input {name}: data: {error}") from error
    if array.size != math.prod(shape):
        raise HTTPException(422, f"input {name}: {array.size} values, expected {math.prod(shape)} for shape {shape}")
    return array.reshape(shape)


def arrays_of(request: InferenceRequest, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """The inputs of a request by name; 422 where they are not those of the model."""
    declared = {one["name"]: one for one in manifest["inputs"]}
    names = [tensor.name for tensor in request.inputs]
    if sorted(names) != sorted(declared):
        raise HTTPException(422, f"inputs {names}, expected {list(declared)}")
    arrays = {one.name: as_array(one, declared[one.name], manifest["max_batch"]) for one in request.inputs}
    axes = {name: one["batch_axis"] for name, one in declared.items() if one["batch_axis"] is not None}
    batches = {arrays[name].shape[axis] for name, axis in axes.items()}
    if len(batches) > 1:
        raise HTTPException(422, f"inputs of different batches: {sorted(batches)}")
    return arrays


async def body_of(request: Request) -> bytes:
    """The body; 413 where it is longer than allowed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"a request may have {MAX_BODY >> 20} MB (MAX_BODY_MB)")
    return bytes(body)


def make_app(manifest: dict[str, Any]) -> FastAPI:
    """The server."""
    model, name = Model(manifest), manifest["name"]

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        opening = asyncio.create_task(run_in_threadpool(model.open))
        yield
        await opening

    app = FastAPI(title=name, lifespan=lifespan)

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        if model.failure is not None:
            raise HTTPException(500, model.failure)
        return {"live": True}

    @app.get("/v2/health/ready")
    @app.get(f"/v2/models/{name}/ready")
    async def ready() -> dict[str, bool]:
        if model.session is None:
            raise HTTPException(503, model.failure or "the model is being opened")
        return {"ready": True}

    @app.get(f"/v2/models/{name}")
    async def metadata() -> dict[str, Any]:
        kinds = {
            kind: [
                {
                    "name": t["name"],
                    "datatype": _datatype(t["dtype"]),
                    "shape": [-1 if n is None else n for n in t["shape"]],
                }
                for t in manifest[kind]
            ]
            for kind in ("inputs", "outputs")
        }
        return {"name": name, "versions": ["1"], "platform": "onnxruntime_onnx", **kinds}

    @app.post(f"/v2/models/{name}/infer")
    async def infer(request: Request) -> dict[str, Any]:
        await ready()
        try:
            asked = InferenceRequest.model_validate_json(await body_of(request))
        except ValidationError as error:
            raise HTTPException(
                422, error.errors(include_input=False, include_url=False, include_context=False)
            ) from error
        answers = await model.run(arrays_of(asked, manifest))
        for n, a in zip(model.outputs, answers, strict=True):
            if not np.isfinite(a).all():
                raise HTTPException(422, f"output {n}: the model has no finite answer to this input")
        outputs = [
            {"name": n, "shape": list(a.shape), "datatype": _datatype(a.dtype.name), "data": a.ravel().tolist()}
            for n, a in zip(model.outputs, answers, strict=True)
        ]
        return {"model_name": name, "model_version": "1", "outputs": outputs} | ({"id": asked.id} if asked.id else {})

    return app


def _datatype(dtype: str) -> str:
    return {ours: theirs for theirs, ours in DTYPES.items()}.get(dtype, dtype.upper())


def main() -> int:
    """Serve; exit code 3 where the bundle is damaged."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    try:
        manifest = read_manifest()
    except BundleRefused as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    uvicorn.run(make_app(manifest), host=arguments.host, port=arguments.port, access_log=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
