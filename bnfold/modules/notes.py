"""What a fold changes in a module besides its BatchNorms, in sentences for the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.records.base import few

if TYPE_CHECKING:
    from bnfold.modules.places import Place, Places

__all__ = ["notes_of"]


def notes_of(places: Places, parameters: Mapping[Place, np.ndarray], stored: Sequence[str]) -> tuple[str, ...]:
    """Tied parameters that part, and parametrizations that are gone.

    Args:
        places: of the module before.
        parameters: those that are written.
        stored: the parametrized ones, which hold what was computed from now on.
    """
    notes = [f"{few(stored)}: stored as what the parametrization computes"] if stored else []
    for group in places.tied():
        n_left = _distinct([parameters.get(place) for place in group])
        if n_left > 1:
            notes.append(f"{_listed(group)}: one parameter before, {n_left} now, in other units each")
    return tuple(notes)


def _distinct(arrays: Sequence[np.ndarray | None]) -> int:
    """How many different ones there are; None is the one that was there before."""
    found: list[Any] = []
    for array in arrays:
        if not any(array is known or (array is not None and np.array_equal(array, known)) for known in found):
            found.append(array)
    return len(found)


def _listed(group: Sequence[Place]) -> str:
    return " and ".join(str(place) for place in group)
