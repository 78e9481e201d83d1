"""Everything that can be folded: zoo names, model files, runs, timm, torchvision, factories, .pt2, .onnx."""
