"""All operators that the float64 evaluation has of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.graph.float64_contrib import CONTRIB
from bnfold.graph.float64_mended import MENDED
from bnfold.graph.float64_ops import OPERATORS as FASTER
from bnfold.graph.float64_quantized import QUANTIZED
from bnfold.graph.float64_quantized_contrib import QUANTIZED_CONTRIB
from bnfold.graph.float64_recurrent import RECURRENT
from bnfold.graph.float64_signal import SIGNAL

if TYPE_CHECKING:
    from onnx.reference.op_run import OpRun

__all__ = ["OPERATORS"]

OPERATORS: tuple[type[OpRun], ...] = (*CONTRIB, *FASTER, *MENDED, *QUANTIZED, *QUANTIZED_CONTRIB, *RECURRENT, *SIGNAL)
