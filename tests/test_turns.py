"""Workers run tests side by side, and one that is marked `alone` while no other test runs (tests/conftest.py)."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bnfold.sources.usercode import import_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Makes one of the workers that take turns in a folder."""
    turns = import_file(Path(__file__).with_name("conftest.py")).Turns
    made: list[Any] = []

    def make() -> Any:
        made.append(turns(tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.door.close()
        one.room.close()


def may(worker: Any, how: int) -> bool:
    """Whether the room could be had in this way just now."""
    try:
        fcntl.flock(worker.room, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(worker.room, fcntl.LOCK_UN)
    return True


def test_tests_run_side_by_side_and_keep_those_out_that_are_alone(worker: Callable[[], Any]) -> None:
    first, second = worker(), worker()
    with first.taken(alone=False, keep=False):
        assert may(second, fcntl.LOCK_SH)
        assert not may(second, fcntl.LOCK_EX)
    assert may(second, fcntl.LOCK_EX)


def test_a_test_that_is_alone_keeps_all_others_out_and_leaves_also_where_it_fails(worker: Callable[[], Any]) -> None:
    first, second = worker(), worker()

    def fail() -> None:
        with first.taken(alone=True, keep=False):
            assert not may(second, fcntl.LOCK_SH)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert may(second, fcntl.LOCK_EX)


def test_tests_that_are_alone_follow_each_other_without_one_in_between(worker: Callable[[], Any]) -> None:
    first, second = worker(), worker()
    with first.taken(alone=True, keep=True):
        pass
    assert not may(second, fcntl.LOCK_SH)
    with first.taken(alone=True, keep=False):
        assert not may(second, fcntl.LOCK_SH)
    assert may(second, fcntl.LOCK_EX)
