"""How requests come in: one after the other, several at a time, or at random moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["MODES", "Load", "Mode"]

Mode = Literal["latency", "throughput", "open-loop"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class Load:
    """How requests come in; MLPerf Inference calls the three modes single-stream, offline and server.

    Args:
        mode: "latency", one request after the other; "throughput", `concurrency` workers that never rest; "open-loop",
            Poisson arrivals that wait for no answer, served by `concurrency` workers.
        concurrency: requests that run at the same time, 1 in latency mode.
        slo_p95_ms: in the open loop, what the 95th percentile must keep, in milliseconds.
    """

    mode: Mode = "latency"
    concurrency: int = 1
    slo_p95_ms: float = 10.0

    def __post_init__(self) -> None:
        if self.mode not in MODES or self.concurrency < 1 or self.slo_p95_ms <= 0:
            raise ValueError(f"{self}: expected a mode of {', '.join(MODES)}, a worker at least, and an SLO above 0")
        if self.mode == "latency" and self.concurrency != 1:
            raise ValueError("latency mode runs one request at a time")
