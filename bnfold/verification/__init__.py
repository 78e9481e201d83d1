"""The proof that a file computes what its source computes."""

from __future__ import annotations

from bnfold.verification.gate import verify_file
from bnfold.verification.reference import OnnxReference, Reference, TorchReference, reference_for

__all__ = ["OnnxReference", "Reference", "TorchReference", "reference_for", "verify_file"]
