"""Stands for Triton Inference Server: its gRPC service over a model repository, executed by ONNX Runtime.

It reads config.pbtxt by Triton's own schema and refuses what Triton refuses: a batch above max_batch_size, other types
and shapes than `dims` says. It makes the warm-up requests, of the files in `warmup`. It is no Triton: what the server
makes of the configuration beyond that is not tested by it.

    python triton_stand_in.py REPOSITORY NAME PORT
"""

from __future__ import annotations

import sys
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype


def dtype_of(kind: int) -> np.dtype[Any]:
    name = model_config_pb2.DataType.Name(kind).removeprefix("TYPE_")
    return np.dtype(triton_to_np_dtype(name))


class StandIn(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, folder: Path) -> None:
        self.config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        self.session = ort.InferenceSession(folder / "1" / "model.onnx", providers=["CPUExecutionProvider"])
        for request in self.config.model_warmup:
            arrays = {}
            for name, tensor in request.inputs.items():
                row = np.fromfile(folder / "warmup" / tensor.input_data_file, dtype_of(tensor.data_type))
                row = row.reshape(list(tensor.dims))
                arrays[name] = np.stack([row] * request.batch_size) if self.config.max_batch_size else row
            self.run(arrays)

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        own = {one.name: one for one in self.config.input}
        if set(arrays) != set(own):
            raise ValueError(f"inputs {sorted(arrays)}, expected {sorted(own)}")
        feeds = {name: self.checked(own[name], array) for name, array in arrays.items()}
        found = dict(zip([o.name for o in self.config.output], self.session.run(None, feeds), strict=True))
        return {o.name: self.shaped(o, found[o.name]) for o in self.config.output}

    def checked(self, declared: Any, array: np.ndarray) -> np.ndarray:
        batched, dims = bool(self.config.max_batch_size), list(declared.dims)
        shape = list(array.shape[1:] if batched else array.shape)
        if array.dtype != dtype_of(declared.data_type):
            raise ValueError(f"input {declared.name} is {array.dtype}")
        if len(shape) != len(dims) or any(d not in (-1, s) for d, s in zip(dims, shape, strict=True)):
            raise ValueError(f"input {declared.name} has shape {shape}, expected {dims}")
        if batched and len(array) > self.config.max_batch_size:
            raise ValueError(f"batch {len(array)} is above max_batch_size {self.config.max_batch_size}")
        return array.reshape([len(array), *declared.reshape.shape]) if declared.HasField("reshape") else array

    def shaped(self, declared: Any, array: np.ndarray) -> np.ndarray:
        return array.reshape([len(array), *declared.dims]) if declared.HasField("reshape") else array

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002 - Triton's name
        return service_pb2.ModelReadyResponse(ready=request.name == self.config.name)

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            arrays = {
                one.name: np.frombuffer(raw, triton_to_np_dtype(one.datatype)).reshape(list(one.shape))
                for one, raw in zip(request.inputs, request.raw_input_contents, strict=True)
            }
            answers = self.run(arrays)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = service_pb2.ModelInferResponse(model_name=self.config.name, model_version="1")
        for name, array in answers.items():
            output = response.outputs.add()
            output.name, output.datatype = name, np_to_triton_dtype(array.dtype)
            output.shape.extend(array.shape)
            response.raw_output_contents.append(array.tobytes())
        return response


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(StandIn(Path(sys.argv[1]) / sys.argv[2]), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[3]}")
    server.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.wait_for_termination()
