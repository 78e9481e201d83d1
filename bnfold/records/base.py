"""What all records share: their JSON form, and the input of a network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["MIN_VARIANCE_OVER_EPSILON", "InputSpec", "as_json", "few"]

# A running variance below this many epsilons leaves the scale to epsilon.
MIN_VARIANCE_OVER_EPSILON = 10.0


def as_json(record: Any) -> Any:
    """Turn a record into plain JSON values: dataclasses to dicts, tuples to lists, NaN and infinity to null.

    A record may name properties in `json_properties` and class constants in `json_constants` that belong to its JSON,
    fields in `json_left_out` that do not, and in `json_names` what a field is called there.
    """
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        names = [
            *getattr(record, "json_constants", ()),
            *(field.name for field in dataclasses.fields(record)),
            *getattr(record, "json_properties", ()),
        ]
        left_out, called = getattr(record, "json_left_out", ()), getattr(record, "json_names", {})
        return {called.get(name, name): as_json(getattr(record, name)) for name in names if name not in left_out}
    if isinstance(record, Mapping):
        return {str(key): as_json(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [as_json(value) for value in record]
    if isinstance(record, Path):
        return str(record)
    if isinstance(record, float) and not math.isfinite(record):
        return None
    return record


def few(names: Sequence[str], n: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One input of a network: its name, its shape with None on dynamic axes, its NumPy dtype name ("float32").

    Axis 0 is the batch: `batch_dynamic` says whether it may take any length from `smallest_batch` to `largest_batch`.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    smallest_batch: int = 1
    largest_batch: int | None = None

    @property
    def batch_dynamic(self) -> bool:
        """Whether axis 0 may take any length."""
        return bool(self.shape) and self.shape[0] is None

    def with_batch(self, batch: int) -> tuple[int, ...]:
        """The shape at a given batch; other dynamic axes are refused.

        Raises:
            ValueError: an axis other than the batch is dynamic.
        """
        if any(size is None for size in self.shape[1:]):
            raise ValueError(f"input {self.name} has dynamic axes besides the batch: {self.shape}")
        rest = tuple(size for size in self.shape[1:] if size is not None)
        if not self.shape:
            return ()
        return (batch if self.shape[0] is None else self.shape[0], *rest)
