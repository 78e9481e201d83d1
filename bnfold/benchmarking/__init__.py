"""Latency on ONNX Runtime, measured side by side."""

from __future__ import annotations

from bnfold.benchmarking.measure import bench_files

__all__ = ["bench_files"]
