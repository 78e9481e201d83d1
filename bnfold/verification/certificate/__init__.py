"""The certificate of a fold: proven operator by operator, with no code of the fold."""

from bnfold.verification.certificate.check import Failed, Proof, prove

__all__ = ["Failed", "Proof", "prove"]
