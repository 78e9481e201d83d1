"""What `bnfold bundle` prints of how a bundle serves."""

from __future__ import annotations

from bnfold.report.bundle_lines import settings_lines


def test_batching_is_told_as_triton_does_it() -> None:
    triton = {"repository": "models", "max_batch_size": 8, "preferred_batch": 4, "queue_delay_us": 1000}
    assert settings_lines(triton) == [
        "repository: models",
        "largest batch of a request: 8",
        "dynamic batching: requests are gathered into batches of 4; one waits for others for 1000 microseconds at most",
    ]


def test_what_is_off_is_told_as_off() -> None:
    off = {"repository": "models", "max_batch_size": 0, "preferred_batch": None, "queue_delay_us": None}
    assert settings_lines(off) == [
        "repository: models",
        "largest batch of a request: that of the file",
        "dynamic batching: off, each request runs on its own",
    ]
    assert settings_lines({"runtime": "onnxruntime", "runs": 1}) == ["runtime: onnxruntime", "runs: 1"]
