"""What `bnfold bundle` prints of how a bundle serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["settings_lines"]

_BATCHING = ("max_batch_size", "preferred_batch", "queue_delay_us")


def settings_lines(settings: Mapping[str, Any]) -> list[str]:
    """The settings of a bundle, a line each.

    Args:
        settings: of a `BundleReport`.
    """
    others = [f"{name.replace('_', ' ')}: {value}" for name, value in settings.items() if name not in _BATCHING]
    return others + (_batching(*(settings[name] for name in _BATCHING)) if _BATCHING[0] in settings else [])


def _batching(largest: int, preferred: int | None, delay_us: int | None) -> list[str]:
    """Whether Triton gathers requests: its max_batch_size, preferred_batch_size and max_queue_delay_microseconds."""
    size = f"largest batch of a request: {largest}" if largest else "largest batch of a request: that of the file"
    if preferred is None:
        return [size, "dynamic batching: off, each request runs on its own"]
    return [
        size,
        f"dynamic batching: requests are gathered into batches of {preferred}; one waits for others for {delay_us} "
        "microseconds at most",
    ]
