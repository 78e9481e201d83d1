"""ONNX Runtime's Python package as Triton's backend `onnxruntime`, where the server at hand has none in C++."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["TRITON_PACKAGES"])  # the stub that runs this takes no PYTHONPATH

import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of a model."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        return config

    def initialize(self, args: dict[str, str]) -> None:
        self.config = json.loads(args["model_config"])
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        feed = {
            own["name"]: pb_utils.get_input_tensor_by_name(request, own["name"]).as_numpy()
            for own in self.config["input"]
        }
        names = [own["name"] for own in self.config["output"]]
        found = zip(names, self.session.run(names, feed), strict=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in found])
