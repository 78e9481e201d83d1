"""Seconds per stage of a command."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "Stopwatch"]

Progress = Callable[[str], None]
log = logging.getLogger("bnfold.workflows")


class Stopwatch:
    """Seconds per stage, in the order the stages first ran; each start is told to `progress`, or logged."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress or _logged

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._progress(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)


def _logged(stage: str) -> None:
    log.info("%s", stage)
