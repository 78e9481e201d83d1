"""Modules without their BatchNorms: the units are chosen on the exported graph, and written back into a copy.

`fold_module` and `fold_program` are the ways in. Stages: a copy whose parametrizations are stored; its graph, and which
element of which parameter every constant is (`elements`); what can be written where (`slots`, `places`); the units
(`solve`); the new parameters (`writing`, `applying`, `norms`); the proof (`checking`).
"""

from __future__ import annotations

from bnfold.modules.fold import fold_module
from bnfold.modules.program import fold_program

__all__ = ["fold_module", "fold_program"]
