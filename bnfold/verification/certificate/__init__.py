"""The certificate of a fold: proven operator by operator, with no code of the fold."""

from bnfold.verification.certificate.check import prove
from bnfold.verification.certificate.facts import departure_of, facts_of
from bnfold.verification.certificate.files import Written, read_certificate, write_certificate
from bnfold.verification.certificate.parameters import MAX_ULPS, ulps
from bnfold.verification.certificate.proof import Failed, Proof

__all__ = [
    "MAX_ULPS", "Failed", "Proof", "Written", "departure_of", "facts_of", "prove", "read_certificate", "ulps",
    "write_certificate",
]  # fmt: skip
