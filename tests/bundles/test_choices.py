"""How a file is served follows from what was measured: session.json, the batch curve, Triton's configuration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
import pytest

from bnfold import bundle
from bnfold.bundles.batch_curve import BatchCurve, BatchPoint
from bnfold.bundles.pbtxt import Enum, as_text
from bnfold.errors import InputRefused
from bnfold.sources.digests import file_sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


def curve(**times: float) -> BatchCurve:
    """Median times by batch, with intervals of one percent on each side."""
    points = {int(name.removeprefix("b")): ms for name, ms in times.items()}
    return BatchCurve(tuple(BatchPoint(b, ms, 0.99 * ms, 1.01 * ms) for b, ms in points.items()))


@pytest.mark.parametrize(
    ("measured", "preferred", "delay_us"),
    [
        (curve(b1=2.0, b2=4.0, b4=8.0), 1, 0),  # a batch brings nothing
        (curve(b1=2.0, b2=2.4, b4=4.0, b8=7.95), 4, 1000),  # 8 ties with 4 per sample: the smaller one
        (curve(b1=2.0, b2=2.4, b4=4.0, b8=6.0), 8, 1250),
        (curve(b2=2.0, b4=2.4), 4, 0),  # one sample alone was not measured
    ],
)
def test_batching_follows_the_curve(measured: BatchCurve, preferred: int, delay_us: int) -> None:
    assert (measured.preferred, measured.queue_delay_us) == (preferred, delay_us)


def bench_report(path: Path, sha256: str, times: dict[int, float], **other: Any) -> Path:
    runs = [
        {"name": "net", "provider": "CPUExecutionProvider", "batch": batch, "median_ms": ms, "sha256": sha256,
         "intervals": {"median_ms": [0.99 * ms, 1.01 * ms]}, "threads": threads,
         "input_shapes": {"x": [batch, 2, 6, 6]}, **other}
        for batch, ms in times.items() for threads in (1, 2)
    ]  # fmt: skip
    path.write_text(json.dumps({"schema": "bnfold.bench/1", "runs": runs}))
    return path


CONFIG = """\
name: "network"
backend: "onnxruntime"
max_batch_size: 8
input {
  name: "x"
  data_type: TYPE_FP32
  dims: 2
  dims: 6
  dims: 6
}
output {
  name: "y"
  data_type: TYPE_FP32
  dims: 4
  dims: 6
  dims: 6
}
instance_group {
  count: 2
  kind: KIND_CPU
}
dynamic_batching {
  preferred_batch_size: 4
  max_queue_delay_microseconds: 1000
}
optimization {
  graph {
    level: 1
  }
}
parameters {
  key: "intra_op_thread_count"
  value {
    string_value: "1"
  }
}
parameters {
  key: "enable_mem_arena"
  value {
    string_value: "0"
  }
}
"""


def session_file(path: Path, *entries: dict[str, Any], cpu: str | None = None) -> Path:
    content = {"schema": "bnfold.tune/1", "machine": {"cpu": cpu}, "files": list(entries)}
    path.write_text(json.dumps(content))
    return path


def test_triton_is_configured_by_what_was_measured(network: Path, tmp_path: Path) -> None:
    sha256 = file_sha256(network)
    times = {1: 2.0, 2: 2.4, 4: 4.0, 8: 7.95}
    session = session_file(
        tmp_path / "session.json",
        {"sha256": sha256, "session": {"threads": 1, "opt_level": "extended", "execution_mode": "sequential",
                                       "arena": False, "spinning": False, "optimize": "offline"}},
    )  # fmt: skip
    report = bundle(
        network, "triton", tmp_path / "bundle", bench=bench_report(tmp_path / "bench.json", sha256, times),
        session=session, instances=2, threads=1,
    )  # fmt: skip
    text = (tmp_path / "bundle" / "models" / "network" / "config.pbtxt").read_text()
    assert text.partition("model_warmup")[0] == CONFIG
    assert text.count("input_data_file") == 2  # one sample alone, and as the largest batch
    with np.load(tmp_path / "bundle" / "golden" / "inputs.npz") as stored:
        row = stored["0/x"][0].astype("<f4").tobytes()
    assert (tmp_path / "bundle" / "models" / "network" / "warmup" / "input_0").read_bytes() == row
    assert any("session.intra_op.allow_spinning" in note for note in report.notes)
    assert any("optimize was left out" in note for note in report.notes)
    assert (tmp_path / "bundle" / "session.json").read_bytes() == session.read_bytes()


def test_the_report_is_that_of_bench(network: Path, tmp_path: Path, cli: Callable[..., Result]) -> None:
    measured = ("bench", network, "--batch", "1,4", "--threads", 1, "--budget", "0.2", "--json", tmp_path / "b.json")
    assert cli(*measured).exit_code == 0
    report = bundle(network, "triton", tmp_path / "bundle", bench=tmp_path / "b.json", threads=1)
    assert report.max_batch == 4
    assert report.settings["max_batch_size"] == 4


def test_a_curve_is_of_this_file_on_this_provider(network: Path, tmp_path: Path) -> None:
    times, path = {1: 1.0, 2: 1.5}, tmp_path / "bench.json"
    for report in (
        bench_report(path, "another", times),
        bench_report(path, file_sha256(network), {1: 1.0}),
        bench_report(path, file_sha256(network), times, provider="CUDAExecutionProvider"),
        bench_report(path, file_sha256(network), times, mode="throughput"),
    ):
        with pytest.raises(InputRefused, match="no batch curve of this file"):
            bundle(network, "triton", tmp_path / "no", bench=report, threads=1)
    path.write_text("{}")
    with pytest.raises(InputRefused, match="no report of bnfold bench"):
        bundle(network, "triton", tmp_path / "no", bench=path, threads=1)


def test_a_session_of_elsewhere_is_a_warning(network: Path, tmp_path: Path, cli: Callable[..., Result]) -> None:
    own = {"threads": 2, "disabled_optimizers": ["NchwcTransformer"]}
    session = session_file(tmp_path / "s.json", {"sha256": "another", "session": own}, cpu="Z80")
    result = cli("bundle", network, "--target", "onnxruntime", "-o", tmp_path / "b", "--session", session)
    assert result.exit_code == 0, result.output
    assert "tuned on another machine (cpu Z80" in result.stderr
    assert "tuned for another file" in result.stderr
    chosen = json.loads((tmp_path / "b" / "manifest.json").read_text())["session"]
    assert chosen["session_options"] == {"intra_op_num_threads": 2}
    assert chosen["config_entries"] == {"optimization.disable_specified_optimizers": "NchwcTransformer"}


def test_a_session_that_cannot_be_used(network: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    other = [{"sha256": digest, "session": {}} for digest in ("a", "b")]
    with pytest.raises(InputRefused, match="of other files"):
        bundle(network, "onnxruntime", tmp_path / "no", session=session_file(path, *other))
    cuda = session_file(path, {"sha256": None, "session": {"provider": "cuda"}})
    with pytest.raises(InputRefused, match="another provider"):
        bundle(network, "onnxruntime", tmp_path / "no", session=cuda, provider="cpu")
    misspelt = session_file(path, {"sha256": None, "session": {"spining": False}})
    with pytest.raises(InputRefused, match="'spining', expected 'spinning'"):
        bundle(network, "onnxruntime", tmp_path / "no", session=misspelt)
    for text, sentence in (("{", "cannot read"), ('{"schema": "bnfold.bench/1", "files": []}', "not a session file")):
        path.write_text(text)
        with pytest.raises(InputRefused, match=sentence):
            bundle(network, "onnxruntime", tmp_path / "no", session=path)
    assert not (tmp_path / "no").exists()


def test_a_server_on_cuda_computes_float32(network: Path, tmp_path: Path) -> None:
    report = bundle(network, "onnxruntime", tmp_path / "server", provider="cuda", threads=1)
    assert report.session is not None
    assert report.session["provider_options"] == {"use_tf32": "0"}
    assert "onnxruntime-gpu" in (tmp_path / "server" / "requirements.txt").read_text()
    assert "RUN python check.py" not in (tmp_path / "server" / "Dockerfile").read_text()
    bundle(network, "triton", tmp_path / "triton", provider="cuda", threads=1)
    text = (tmp_path / "triton" / "models" / "network" / "config.pbtxt").read_text()
    assert "kind: KIND_GPU" in text
    assert 'name: "cuda"\n      parameters {\n        key: "use_tf32"\n        value: "0"' in text


def test_openvino_is_an_accelerator_of_the_cpu(network: Path, tmp_path: Path) -> None:
    report = bundle(network, "triton", tmp_path / "triton", provider="openvino", threads=1)
    text = (tmp_path / "triton" / "models" / "network" / "config.pbtxt").read_text()
    assert 'execution_accelerators {\n    cpu_execution_accelerator {\n      name: "openvino"\n    }' in text
    assert "kind: KIND_CPU" in text
    assert any("leaves out precision" in note for note in report.notes)
    with pytest.raises(InputRefused, match="no server is written for the provider: found openvino"):
        bundle(network, "onnxruntime", tmp_path / "no", provider="openvino", threads=1)


def test_a_browser_has_the_cpu_alone(network: Path, tmp_path: Path, stub_runtime: Path) -> None:
    with pytest.raises(InputRefused, match="browser has no such provider"):
        bundle(network, "web", tmp_path / "no", provider="cuda", web_runtime=stub_runtime, threads=1)


SCALARS = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N] x, int64[N, 3] k) => (float[N] y, int64[N, 3] m) {
  y = Neg (x)
  m = Neg (k)
}
"""


def test_one_number_for_each_sample_and_whole_numbers(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(SCALARS), tmp_path / "net.onnx")
    report = bundle(tmp_path / "net.onnx", "triton", tmp_path / "bundle", threads=1)
    text = (tmp_path / "bundle" / "models" / "net" / "config.pbtxt").read_text()
    assert 'name: "x"\n  data_type: TYPE_FP32\n  dims: 1\n  reshape {\n  }\n' in text
    assert 'name: "k"\n  data_type: TYPE_INT64\n  dims: 3\n}' in text
    assert [(one.dtype, one.allowed_maximum) for one in report.outputs if one.name == "m"] == [("int64", 0.0)]


def test_text_of_protobuf() -> None:
    message = {"a": 'say "no"\\', "b": True, "c": Enum("KIND"), "d": [1, 2], "e": {"f": "\n"}, "g": None, "h": []}
    assert as_text(message) == 'a: "say \\"no\\"\\\\"\nb: true\nc: KIND\nd: 1\nd: 2\ne {\n  f: "\\012"\n}\n'
