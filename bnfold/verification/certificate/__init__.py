"""The certificate of a fold: proven operator by operator, with no code of the fold."""

from bnfold.verification.certificate.check import Failed, Proof, prove
from bnfold.verification.certificate.facts import departure_of, facts_of
from bnfold.verification.certificate.files import Written, read_certificate, write_certificate

__all__ = ["Failed", "Proof", "Written", "departure_of", "facts_of", "prove", "read_certificate", "write_certificate"]
