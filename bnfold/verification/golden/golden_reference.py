"""A source by what it has computed: the golden values of a bundle, read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.records import InputSpec
from bnfold.verification.data.feeds import Feed
from bnfold.verification.golden.bundle_files import criterion_constants, open_bundle, read_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bnfold.verification.execution.reference import Arrays

__all__ = ["GoldenReference", "read_bundle"]


@dataclass(frozen=True)
class GoldenReference:
    """A source by what it has computed: a `Reference` that knows the answers to `feeds` and to nothing else.

    `answers` holds, in the order of `feeds`, the float64 values and the executions in the source's own precision.
    """

    description: str
    output_names: tuple[str, ...]
    stored_format: str
    inputs: tuple[InputSpec, ...]
    feeds: tuple[Feed, ...]
    answers: tuple[tuple[Arrays, list[Arrays]], ...]
    constants: Mapping[str, float]
    n_own: int = 1
    is_file = True  # what it computed has been judged already
    plain = None
    graph64 = None
    coverage = None

    @property
    def input_facts(self) -> Mapping[str, Any]:
        """None: the inputs are there already."""
        return {}

    def evaluate64(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """What the source computed in float64."""
        return self._answer(feed)[0]

    def executions32(self, feed: Mapping[str, np.ndarray]) -> list[Arrays]:
        """What the source computed in its own precision."""
        return self._answer(feed)[1]

    def execution32(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """The first of them."""
        return self._answer(feed)[1][0]

    def release(self) -> None:
        """Nothing: the answers are all there is."""

    def _answer(self, arrays: Mapping[str, np.ndarray]) -> tuple[Arrays, list[Arrays]]:
        for feed, answer in zip(self.feeds, self.answers, strict=True):
            if feed.arrays is arrays:
                return answer
        raise KeyError("a bundle has answers to its own feeds only")

    def warnings(self) -> tuple[str, ...]:
        """What differs between the bundle's criterion and this program's."""
        ours = criterion_constants()
        changed = [f"{name} {self.constants.get(name)} then, {k} now" for name, k in ours.items()
                   if self.constants.get(name) != k]  # fmt: skip
        return (f"the bundle was written under another criterion: {', '.join(changed)}",) if changed else ()


def read_bundle(folder: Path) -> GoldenReference:
    """The golden values in a folder.

    Raises:
        InputRefused: a file is missing or is not as it was written.
    """
    with open_bundle(folder) as account:
        inputs = tuple(
            InputSpec(one["name"], tuple(one["shape"]), one["dtype"], one.get("batch_axis", 0))
            for one in account["inputs"]
        )
        shared = any(not spec.has_batch for spec in inputs)
        outputs = {one["name"]: one["dtype"] for one in account["outputs"]}
        stored = read_arrays(folder / "inputs.npz", account["sha256"])
        golden = read_arrays(folder / "outputs.npz", account["sha256"])
        feeds, answers = [], []
        for number, one in enumerate(account["feeds"]):
            arrays = {spec.name: _typed(stored[f"{number}/{spec.name}"], spec.dtype) for spec in inputs}
            feeds.append(Feed(one["kind"], one["batch"], arrays, tuple(one["rows"]), shared=shared))
            exact = {name: golden[f"{number}/{name}/exact"] for name in outputs}
            n_executions = sum(f"{number}/{next(iter(outputs))}/{k}" in golden for k in range(len(golden)))
            executions = [
                {name: _typed(golden[f"{number}/{name}/{k}"], dtype) for name, dtype in outputs.items()}
                for k in range(n_executions)
            ]
            answers.append((exact, executions))
        return GoldenReference(
            f"{account['reference']}, from the bundle of {account['source']['spec']}",
            tuple(outputs), account["stored_format"], inputs, tuple(feeds), tuple(answers), account["constants"],
            account.get("n_own", 1),
        )  # fmt: skip


def _typed(array: np.ndarray, dtype: str) -> np.ndarray:
    """NumPy stores bfloat16, which is not its own, as two bytes without a meaning."""
    return array.view(np.dtype(dtype)) if array.dtype.kind == "V" else array
