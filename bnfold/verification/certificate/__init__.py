"""The certificate of a fold: proven operator by operator, with no code of the fold."""

from bnfold.verification.certificate.check import prove
from bnfold.verification.certificate.facts import departure_of, facts_of
from bnfold.verification.certificate.files import Written, read_certificate, write_certificate
from bnfold.verification.certificate.proof import Failed, Proof

__all__ = ["Failed", "Proof", "Written", "departure_of", "facts_of", "prove", "read_certificate", "write_certificate"]
