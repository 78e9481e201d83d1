"""Latency on ONNX Runtime, measured side by side."""

from __future__ import annotations

from bnfold.benchmarking.axes import OPT_LEVELS, Axes, OptLevel
from bnfold.benchmarking.measure import bench_files

__all__ = ["OPT_LEVELS", "Axes", "OptLevel", "bench_files"]
