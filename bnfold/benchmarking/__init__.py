"""Latency on ONNX Runtime, measured side by side."""
