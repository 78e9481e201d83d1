"""The peers of a measurement, built from its source, and what files lose on samples that calibrated none of them."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from bnfold.benchmarking.axes import shapes_of_input
from bnfold.errors import InputRefused
from bnfold.workflows.static_peers import losses_of, open_calibration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bnfold.benchmarking.subjects import Subject
    from bnfold.records import BenchLoss, MissingPeer
    from bnfold.sources import Source
    from bnfold.workflows.static_peers import Calibration

__all__ = ["PeerSamples", "bench_peers", "peer_name"]


def peer_name(peer: str, known: Sequence[str]) -> str:
    """A file may have a peer's name: plain.onnx beside the peer "plain"."""
    return f"{peer}{' (built)' * (peer in known)}"


class PeerSamples:
    """The samples of peers in int8, read when the first of them is built, and what all files lose on them."""

    def __init__(self, inputs: Path | None, data: str | None, seed: int, *, download: bool) -> None:
        self._inputs, self._data, self._seed, self._download = inputs, data, seed, download
        self._opened: tuple[Path, Calibration] | None = None

    def open(self, source: Source, plain: Path) -> Calibration:
        """The samples."""
        if self._opened is None:
            self._opened = (
                plain,
                open_calibration(
                    source, plain, inputs=self._inputs, data=self._data, seed=self._seed, download=self._download
                ),
            )
        return self._opened[1]

    def losses(self, files: Mapping[str, Path]) -> tuple[BenchLoss, ...]:
        """What files lose against the plain one; nothing where no peer asked for samples."""
        return () if self._opened is None else losses_of(files, *self._opened)


def bench_peers(
    against: Sequence[str],
    source: str | None,
    folder: Path,
    samples: PeerSamples,
    *,
    known: Sequence[str],
    input_shapes: Any,
    **options: Any,
) -> tuple[list[Subject], list[MissingPeer]]:
    """The peers asked for; the source is loaded at the first of several shapes."""
    if not against:
        return [], []
    if source is None:
        raise InputRefused("peers are built from a source", remedy="name it with --source")
    from bnfold.sources import load_source
    from bnfold.workflows.peers import build_peers

    first = [shapes_of_input(shape)[0] for shape in input_shapes or ()]
    loaded = load_source(source, input_shapes=first or None, **options)
    peers, missing = build_peers(against, loaded, folder, functools.partial(samples.open, loaded))
    return [dataclasses.replace(peer, name=peer_name(peer.name, known)) for peer in peers], missing
