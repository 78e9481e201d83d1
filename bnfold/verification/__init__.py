"""The proof that a file computes what its source computes."""

from __future__ import annotations

from bnfold.verification.execution.onnx_reference import OnnxReference
from bnfold.verification.execution.reference import Reference
from bnfold.verification.execution.source_reference import reference_for
from bnfold.verification.execution.torch_reference import TorchReference
from bnfold.verification.verdict import verify_file

__all__ = ["OnnxReference", "Reference", "TorchReference", "reference_for", "verify_file"]
