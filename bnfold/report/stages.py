"""The stages of a command on a terminal: a bar, the name of the stage, and the time left.

Nobody knows how long an exporter takes. What is known is what stages take of each other, about:

    left  =  pace (sum of what is expected of the stages to come) + the rest of this one,

`pace` being the seconds of the stages that have ended over what was expected of them. So there is no time left to be
told before the first has ended.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["StagePace", "stage_bar", "stage_spinner"]

WIDTH = 40  # of the bar, in characters
MINUTE = 60.0


class StagePace:
    """How much of a command is done, and how long the rest will take.

    Args:
        expected: seconds of each stage in their order, on any machine; a stage of another name takes none.
        certain: seconds of stages that take as long everywhere, a budget of time, say.
        clock: the seconds now.
    """

    def __init__(
        self,
        expected: Mapping[str, float],
        certain: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._expected, self._certain, self._clock = dict(expected), dict(certain or {}), clock
        self._ended: dict[str, float] = {}
        self._since = clock()
        self._share = 0.0
        self.stage = ""

    def begin(self, stage: str) -> None:
        """A stage begins, and the one before has ended."""
        self._end()
        self.stage, self._share, self._since = stage, 0.0, self._clock()

    def tell(self, share: float) -> None:
        """How much of the stage is done, from 0 to 1."""
        self._share = share

    def left(self) -> float | None:
        """Seconds to the end of the last stage; None where nothing is known yet."""
        known = [stage for stage in self._ended if self._expected.get(stage)]
        if not known:
            return None
        pace = sum(self._ended[stage] for stage in known) / sum(self._expected[stage] for stage in known)
        to_come = [stage for stage in (*self._expected, *self._certain) if stage not in {*self._ended, self.stage}]
        later = sum(self._seconds(stage, pace) for stage in to_come)
        elapsed = self._clock() - self._since
        if self._share > 0:
            return later + elapsed * (1 - self._share) / self._share
        return later + max(self._seconds(self.stage, pace) - elapsed, 0.0)

    def done(self) -> float:
        """The share of all that is done, from 0 to 1."""
        left = self.left()
        spent = sum(self._ended.values()) + self._clock() - self._since
        return 0.0 if left is None else spent / max(spent + left, 1e-9)

    def _end(self) -> None:
        if self.stage:
            self._ended[self.stage] = self._clock() - self._since

    def _seconds(self, stage: str, pace: float) -> float:
        return self._certain[stage] if stage in self._certain else pace * self._expected.get(stage, 0.0)


def time_left(seconds: float | None) -> str:
    """In words: of many seconds, minutes."""
    if seconds is None:
        return ""
    return f"{seconds / MINUTE:.0f} min left" if seconds >= 2 * MINUTE else f"{seconds:.0f} s left"


@contextmanager
def stage_bar(pace: StagePace) -> Iterator[None]:
    """Draw a pace on standard error, which must be a terminal, until the block ends."""
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    def line() -> Table:
        row = Table.grid(padding=(0, 1))
        row.add_row(pace.stage, ProgressBar(1.0, pace.done(), width=WIDTH), time_left(pace.left()))
        return row

    with Live(get_renderable=line, console=Console(file=sys.stderr), transient=True, refresh_per_second=4):
        yield


@contextmanager
def stage_spinner() -> Iterator[Callable[[str], None]]:
    """Draw the stage that is told on standard error, which must be a terminal, where nobody knows how long it takes."""
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield status.update
