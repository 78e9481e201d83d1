"""The source and the file on feeds: in float64, in PyTorch, in ONNX Runtime, and what their answers are kept in."""
