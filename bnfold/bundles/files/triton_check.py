"""Is the model right on this server? Judges Triton's answers by the golden values; needs tritonclient[grpc] and numpy.

    python check.py --config                  config.pbtxt against Triton's own schema, without a server
    python check.py --url localhost:8001      what the server answers

Exit code 0: right; 1: wrong; 3: the bundle is damaged; 4: a package or the server is not there.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from golden_values import HERE, BundleRefused, Judged, read_feeds, read_manifest


def read_config(manifest: dict[str, Any]) -> Any:
    """The configuration as Triton's message; ValueError where it cannot be parsed."""
    from google.protobuf import text_format  # type: ignore[import-untyped]  # protobuf ships no types
    from tritonclient.grpc import model_config_pb2

    path = HERE / manifest["settings"]["repository"] / manifest["name"] / "config.pbtxt"
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(f"{path} is no configuration of Triton: {error}") from error


def check_config(manifest: dict[str, Any], config: Any) -> list[str]:
    """What contradicts the manifest or the files, a sentence each."""
    found = []
    for kind, declared in (("input", config.input), ("output", config.output)):
        names, expected = [one.name for one in declared], [one["name"] for one in manifest[f"{kind}s"]]
        if names != expected:
            found.append(f"{kind}s {names}, expected {expected}")
    folder = HERE / manifest["settings"]["repository"] / manifest["name"]
    for request in config.model_warmup:
        for name, tensor in request.inputs.items():
            file = folder / "warmup" / tensor.input_data_file
            wanted = int(np.prod(list(tensor.dims))) * _width(manifest, name)
            if file.stat().st_size != wanted:
                found.append(f"{file}: {file.stat().st_size} bytes, expected {wanted}")
    return found


def _width(manifest: dict[str, Any], name: str) -> int:
    return next(np.dtype(one["dtype"]).itemsize for one in manifest["inputs"] if one["name"] == name)


def judge_server(manifest: dict[str, Any], config: Any, url: str) -> int:
    """Send the golden inputs, judge the answers; the exit code."""
    from tritonclient import grpc
    from tritonclient.utils import np_to_triton_dtype

    client, name = grpc.InferenceServerClient(url), manifest["name"]
    if not client.is_model_ready(name):
        print(f"error: {name} is not ready on {url}; see the server's log", file=sys.stderr)
        return 4
    dims = {one.name: list(one.dims) for one in config.input if one.HasField("reshape")}
    asked = [grpc.InferRequestedOutput(output["name"]) for output in manifest["outputs"]]
    judged = Judged(manifest)
    n_left_out = 0
    for feed in read_feeds(manifest):
        if config.max_batch_size and len(next(iter(feed.inputs.values()))) > config.max_batch_size:
            n_left_out += 1
            continue
        inputs = []
        for key, array in feed.inputs.items():
            sent = array.reshape([len(array), *dims[key]]) if key in dims else array
            inputs.append(grpc.InferInput(key, list(sent.shape), np_to_triton_dtype(sent.dtype)))
            inputs[-1].set_data_from_numpy(np.ascontiguousarray(sent))
        answer = client.infer(name, inputs, outputs=asked)
        answers = {o["name"]: answer.as_numpy(o["name"]) for o in manifest["outputs"]}
        judged.take(
            feed, {key: a.reshape(feed.exact[key].shape) if key in _flat(config) else a for key, a in answers.items()}
        )
    if n_left_out:
        print(f"{n_left_out} golden inputs have a larger batch than max_batch_size and were left out")
    return judged.report(url)


def _flat(config: Any) -> set[str]:
    """Outputs that Triton gives an axis of 1 behind the batch."""
    return {one.name for one in config.output if one.HasField("reshape")}


def main() -> int:
    """Judge, print what was found; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", action="store_true", help="hold config.pbtxt against Triton's schema")
    what.add_argument("--url", help="judge the server at this address, HOST:PORT of its gRPC service")
    arguments = parser.parse_args()
    try:
        manifest = read_manifest()
        config = read_config(manifest)
        wrong = check_config(manifest, config)
        if wrong or arguments.config:
            print("\n".join(f"failed: {sentence}" for sentence in wrong) or "passed: config.pbtxt is one of Triton")
            return 1 if wrong else 0
        return judge_server(manifest, config, arguments.url)
    except BundleRefused as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except ValueError as error:
        print(f"failed: {error}")
        return 1
    except Exception as error:  # noqa: BLE001 - the environment's, whatever it raises
        print(f"error: {type(error).__name__}: {error}; see README.md for what must be there", file=sys.stderr)
        return 4


if __name__ == "__main__":
    sys.exit(main())
