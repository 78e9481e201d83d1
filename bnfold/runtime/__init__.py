"""ONNX Runtime and the machine: which build is installed, sessions, providers, threads, environment."""
