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

    Attributes:
        batch_axis: the axis that counts the samples, None where an input serves all of them.
        symbols: the names of the axes in a file, None where they are fixed; empty where there are no names.
        between: the range of random values, None for standard normal ones or what the network expects.
        constant: the value of every element of an integer input that is a switch or a size, None for others.
        smallest_batch: where the batch axis is dynamic, the shortest length that it may take, and
        largest_batch: the longest; None for any.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    batch_axis: int | None = 0
    symbols: tuple[str | None, ...] = dataclasses.field(default=(), compare=False)
    between: tuple[float, float] | None = None
    constant: int | None = None
    smallest_batch: int = 1
    largest_batch: int | None = None

    @property
    def has_batch(self) -> bool:
        """Whether an axis counts the samples."""
        return self.batch_axis is not None and self.batch_axis < len(self.shape)

    @property
    def batch_dynamic(self) -> bool:
        """Whether the batch axis may take any length."""
        return self.batch_axis is not None and self.has_batch and self.shape[self.batch_axis] is None

    @property
    def fixed_batch(self) -> int | None:
        """The length of the batch axis where it is fixed; None where it is dynamic, or where there is none."""
        return self.shape[self.batch_axis] if self.batch_axis is not None and self.has_batch else None

    @property
    def row(self) -> tuple[int | None, ...]:
        """The shape of one sample: without the batch axis."""
        return tuple(size for axis, size in enumerate(self.shape) if axis != self.batch_axis)

    def with_batch(self, batch: int) -> tuple[int, ...]:
        """The shape at a given batch; other dynamic axes are refused.

        Raises:
            ValueError: an axis other than the batch is dynamic.
        """
        sizes = [batch if size is None and axis == self.batch_axis else size for axis, size in enumerate(self.shape)]
        if None in sizes:
            raise ValueError(f"input {self.name} has dynamic axes besides the batch: {self.shape}")
        return tuple(size for size in sizes if size is not None)
