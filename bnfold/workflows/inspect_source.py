"""`bnfold inspect`: what would happen to each BatchNorm of a source, without writing anything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bnfold.records import InspectReport
from bnfold.workflows.accounts import fold_accounted
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["inspect"]


@runs_user_code()
def inspect(
    source: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    input_dtypes: Sequence[str] | None = None,
) -> InspectReport:
    """Fold a source in memory and return its ledger.

    An `.onnx` source needs neither PyTorch nor ONNX Runtime, and no sizes.

    Args:
        source: what to look at, see SOURCE in the README.
        weights: parameters for a source that has none of its own (`.safetensors`, `.pt`).
        pretrained: take the pretrained parameters of timm or torchvision, which may download them.
        input_shapes: one shape per input, batch first, where the source does not tell them.
        input_dtypes: NumPy's name of each input's type, or one for all, where Python code does not tell them.

    Raises:
        InputRefused: the source cannot be used.
        EnvironmentNotReady: a package that the source needs is missing.
    """
    from bnfold.export import plain_graph
    from bnfold.sources import load_source

    loaded = load_source(
        os.fspath(source),
        weights=weights,
        pretrained=pretrained,
        input_shapes=input_shapes,
        input_dtypes=input_dtypes,
        runs=False,
    )
    model = plain_graph(loaded)
    return InspectReport(source=loaded.facts, ledger=fold_accounted(model))
