"""Which number of the output a label of the data has: by name where both are named, else by number."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.evaluation.labelled import Samples
    from bnfold.records.file_facts import FileFacts

__all__ = ["label_order"]

log = logging.getLogger("bnfold.evaluation")


def label_order(samples: Samples, facts: FileFacts, n_outputs: int, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The number in the output of each label of the data, and the names of the outputs.

    Names decide where both have them, else numbers.

    Raises:
        InputRefused: a label that the network does not have.
    """
    names = facts.classes or (samples.classes if len(samples.classes) == n_outputs else ())
    if facts.classes and len(facts.classes) != n_outputs:
        raise InputRefused(
            "the class names do not fit the output", where=where, found=f"{len(facts.classes)} names",
            expected=f"{n_outputs}, one for each class score", remedy="name the classes with --classes FILE",
        )  # fmt: skip
    if facts.classes and samples.classes and not _are_numbers(samples.classes):
        unknown = [name for name in samples.classes if name not in names]
        if unknown:
            raise InputRefused(
                "the data has labels that the file has not", where=samples.spec,
                found=", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""),
                expected=f"names of {len(names)} classes, such as {', '.join(names[:3])}",
                remedy="rename the folders, or name the file's classes with --classes FILE",
            )  # fmt: skip
        order = np.array([names.index(name) for name in samples.classes], np.int64)
        if order.tolist() != list(range(len(order))):
            log.warning("%s has the classes in another order than %s: they are matched by name", samples.spec, where)
        return order, names
    if len(samples.classes) > n_outputs:
        raise InputRefused(
            "the data has more classes than the output", where=samples.spec, found=str(len(samples.classes)),
            expected=f"at most {n_outputs}", remedy="evaluate on data of the network's classes",
        )  # fmt: skip
    if not facts.classes and samples.classes and len(samples.classes) != n_outputs:
        raise InputRefused(
            "nothing says which score of the output belongs to which class", where=where,
            found=f"{n_outputs} scores a sample, {len(samples.classes)} classes in the data",
            remedy="name the file's classes with --classes FILE (--classes imagenet for ImageNet-1k)",
        )  # fmt: skip
    return np.arange(n_outputs), names or tuple(map(str, range(n_outputs)))


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.isdigit() and int(name) == number for number, name in enumerate(names))
