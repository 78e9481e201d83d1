"""The stages of functions that take long, how long each takes of the others, and how long files are measured."""

from __future__ import annotations

__all__ = ["BUDGET_S", "FOLD_STAGES", "QUANTIZE_STAGES", "STAGES", "expected_seconds"]

STAGES = ("load", "export", "fold", "simplify", "verify", "bench")  # of `fold_export`
FOLD_STAGES = ("export", "fold", "verify")
QUANTIZE_STAGES = ("load", "export", "fold", "simplify", "calibrate", "prove", "measure", "bench")
BUDGET_S = 3.0  # of a measurement that nobody gave a time for

# Of a ResNet-50, the interpreter's imports included; what counts is what they are of each other.
_EXPECTED_SECONDS = {"load": 3.6, "export": 4.4, "fold": 0.9, "simplify": 0.3, "verify": 3.4}
_MEASURE_SECONDS = 20.0


def expected_seconds(*, measure: bool = False) -> dict[str, float]:
    """What each stage takes of the others, in their order, apart from the measurement at the end.

    Args:
        measure: as of `fold_export`.
    """
    expected = dict(_EXPECTED_SECONDS)
    verify = expected.pop("verify")
    return {**expected, **({"measure": _MEASURE_SECONDS} if measure else {}), "verify": verify}
