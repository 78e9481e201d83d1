"""From a source to a plain ONNX graph, and from a folded graph to the file that ships."""
