"""The source's answers, kept between asking the source and asking the file."""

from __future__ import annotations

import numpy as np
import pytest

from bnfold.verification.execution import answers as module
from bnfold.verification.execution.answers import Answer, Answers, Kind


def _answer(seed: int) -> Answer:
    rng = np.random.default_rng(seed)
    exact = {"y": rng.standard_normal((2, 3, seed)), "label": rng.integers(0, 2, (2, seed))}
    first = {"y": exact["y"].astype(np.float32), "label": exact["label"]}
    second = {"y": exact["y"].astype(np.float32), "label": exact["label"] * (np.arange(seed) % 2)}
    return Answer.of(exact, [first, second])


@pytest.mark.parametrize("in_memory", [1 << 24, 1])
def test_answers_come_back_in_order_from_memory_and_from_disk(monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    """As often as they are read, also by two readers at a time, bit for bit."""
    monkeypatch.setattr(module, "IN_MEMORY", in_memory)
    wanted = [_answer(seed) for seed in (0, 4, 7)]
    with Answers() as answers:
        for answer in wanted:
            answers.add(answer)
        for pair in zip(answers, answers, wanted, strict=True):
            for got in pair[:2]:
                assert got.kinds == pair[2].kinds
                assert got.exact.keys() == pair[2].exact.keys()
                assert all(np.array_equal(got.exact[name], values) for name, values in pair[2].exact.items())
                assert np.array_equal(got.agreed["label"], pair[2].agreed["label"])


def test_whole_numbers_count_where_the_executions_agree() -> None:
    """Values of floating point count everywhere, and the kind is that of the source's own precision."""
    answer = _answer(5)
    assert answer.kinds["y"] == Kind(np.dtype(np.float32), (2, 3, 5))
    assert answer.agreed_values("y", answer.exact["y"]) is answer.exact["y"]
    label = answer.exact["label"]
    agreed = (label == 0) | (np.arange(5) % 2 == 1)
    assert np.array_equal(answer.agreed_values("label", label), label[agreed])
    assert not agreed.all()
