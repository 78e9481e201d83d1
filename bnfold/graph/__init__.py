"""Reading, matching and editing onnx_ir graphs; shape and axis facts."""
