"""What holds a file of lower precision back, and what its user should know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnfold.quantisation.prove import Proof
    from bnfold.records.quantisation import PairedAccuracy, QuantisationError, QuantizedTiming
    from bnfold.records.recipes import Target

__all__ = ["failures_of", "warnings_of"]

LEAST_SHOWN = 1e-4
FEW_HELD_OUT = 8
"""Below it, the loss is that of a handful of samples."""


def failures_of(
    proof: Proof, error: QuantisationError, accuracy: PairedAccuracy | None, timing: QuantizedTiming | None,
    *, min_sqnr_db: float, strict: bool,
) -> tuple[str, ...]:  # fmt: skip
    """What holds a file back, a clause each.

    Args:
        proof: its failures name the node.
        error: gated by `min_sqnr_db` where no limit on accuracy was given.
        accuracy: gated by its own limit.
        timing: a file that is slower fails.
        min_sqnr_db: in decibels.
        strict: whether what is undecided fails.
    """
    found = list(proof.failures)
    if accuracy is not None and accuracy.limit is not None:
        lost = (
            f"{accuracy.metric} fell from {accuracy.float_:.4f} to {accuracy.own:.4f}, more than {accuracy.limit:.4g}"
        )
        if not accuracy.passed:
            found.append(lost)
        elif accuracy.undecided and strict:
            found.append(f"{accuracy.n} samples do not decide whether {lost}")
    else:
        found += [
            f"{output.name} has {output.sqnr_db:.1f} dB of signal over quantisation noise, less than {min_sqnr_db:.4g}"
            for output in error.outputs
            if not output.sqnr_db >= min_sqnr_db
        ]
    if timing is not None and timing.verdict == "slower":
        found.append(f"it takes {timing.low:.3f} to {timing.high:.3f} of the time of the folded float file")
    if strict and timing is not None and timing.verdict in ("undecided", "tie"):
        found.append(f"it is not faster for certain: {timing.low:.3f} to {timing.high:.3f} of the float file's time")
    return tuple(found)


def warnings_of(
    error: QuantisationError,
    accuracy: PairedAccuracy | None,
    timing: QuantizedTiming | None,
    target: Target,
    here: Target,
) -> tuple[str, ...]:
    """What the user should know of a file that may pass.

    Args:
        error: with the share of inputs outside of the calibrated range.
        accuracy: None where no labels are.
        timing: None where nothing was measured.
        target: the processor that the file is for.
        here: this machine's.
    """
    found = []
    if error.held_out and error.n < FEW_HELD_OUT:
        found.append(f"the loss is measured on few held-out samples ({error.n}): give a hundred samples or more")
    if error.outside_range > 0:
        share = f"{error.outside_range:.2%}" if error.outside_range >= LEAST_SHOWN else f"less than {LEAST_SHOWN:.2%}"
        found.append(f"{share} of the held-out inputs lie outside of the calibrated range")
    if accuracy is not None and accuracy.limit is not None and accuracy.undecided:
        found.append(
            f"{accuracy.n} samples do not decide whether {accuracy.metric} fell by more than {accuracy.limit:.4g}"
        )
    if timing is not None and timing.verdict in ("undecided", "tie"):
        found.append("whether int8 is faster is not decided on this machine")
    if target != here:
        found.append(f"the time was not measured: the file is for {target}, and this machine is {here}")
    return tuple(found)
