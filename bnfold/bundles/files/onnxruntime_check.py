"""Is the model right on this machine? Judges it, or a server, by the golden values; needs onnxruntime and numpy.

    python check.py                                 the model, opened here
    python check.py --url http://127.0.0.1:8000     what serve.py answers there

Exit code 0: right; 1: wrong; 3: the bundle is damaged; 4: the provider, a package or the server is not there.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from typing import Any

import numpy as np
from golden_values import HERE, BundleRefused, Feed, Judged, read_feeds, read_manifest

DATATYPES = {"float16": "FP16", "float32": "FP32", "float64": "FP64", "bool": "BOOL"}


def answers_here(manifest: dict[str, Any], feeds: list[Feed]) -> tuple[str, list[dict[str, np.ndarray]]]:
    """What ONNX Runtime answers in this process, and where it runs."""
    from session_options import open_session

    session = open_session(manifest, HERE)
    names = [output["name"] for output in manifest["outputs"]]
    found = [dict(zip(names, session.run(names, feed.inputs), strict=True)) for feed in feeds]
    return session.get_providers()[0], found


def answers_there(manifest: dict[str, Any], feeds: list[Feed], url: str) -> list[dict[str, np.ndarray]]:
    """What a server answers that speaks the Open Inference Protocol."""
    dtypes = {output["name"]: output["dtype"] for output in manifest["outputs"]}
    found = []
    for feed in feeds:
        tensors = [
            {
                "name": name, "shape": list(array.shape), "data": array.ravel().tolist(),
                "datatype": DATATYPES.get(array.dtype.name, array.dtype.name.upper()),
            }
            for name, array in feed.inputs.items()
        ]  # fmt: skip
        request = urllib.request.Request(  # noqa: S310 - the address is the user's own
            f"{url.rstrip('/')}/v2/models/{manifest['name']}/infer", json.dumps({"inputs": tensors}).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            outputs = json.load(answer)["outputs"]
        found.append({one["name"]: np.array(one["data"], dtypes[one["name"]]).reshape(one["shape"]) for one in outputs})
    return found


def main() -> int:
    """Judge, print what was found; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", help="judge the server at this address, and open nothing here")
    url = parser.parse_args().url
    try:
        manifest = read_manifest()
        feeds = read_feeds(manifest)
        where, found = (url, answers_there(manifest, feeds, url)) if url else answers_here(manifest, feeds)
    except BundleRefused as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except urllib.error.HTTPError as error:
        print(f"failed: {url} answers {error.code}: {error.read().decode(errors='replace')[:300]}")
        return 1
    except Exception as error:  # noqa: BLE001 - the environment's, whatever it raises
        print(f"error: {type(error).__name__}: {error}; see README.md for what must be installed", file=sys.stderr)
        return 4
    judged = Judged(manifest)
    for feed, answers in zip(feeds, found, strict=True):
        judged.take(feed, answers)
    return judged.report(where)


if __name__ == "__main__":
    sys.exit(main())
