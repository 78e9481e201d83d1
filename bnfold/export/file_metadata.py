"""The facts of a file in its metadata; see `bnfold.records.file_facts` for the keys."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.records.file_facts import PREFIX, as_properties
from bnfold.sources.types import OnnxSource
from bnfold.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from bnfold.records import Ledger
    from bnfold.records.file_facts import FileFacts
    from bnfold.sources.types import Source

__all__ = ["complete_facts", "write_facts"]

_PLACES = ("folder", "npz")


def complete_facts(facts: FileFacts, source: Source, plain: onnx.ModelProto, ledger: Ledger | None) -> FileFacts:
    """The facts of a file made here: with the digest of the network, versions, and the counts of its ledger.

    A folder or file of data is named by its last part: a file tells nothing of the machine that made it. What is made
    of a file of ours that has no BatchNorm left is the same file again.
    """
    versions = {**(facts.versions or {}), "bnfold": __version__}
    if plain.producer_name and plain.producer_name != "bnfold":
        versions[plain.producer_name] = plain.producer_version
    counts = facts.ledger
    if ledger is not None and (counts is None or ledger.found):
        counts = {name: getattr(ledger, name) for name in ("found", "absorbed", "merged", "removed", "kept")}
    digest = facts.source_sha256 if isinstance(source, OnnxSource) else source.facts.sha256
    return dataclasses.replace(
        facts, data=_without_place(facts.data), source_sha256=digest, ledger=counts, versions=versions
    )


def _without_place(data: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    kind, _, place = str((data or {}).get("data", "")).partition(":")
    if data is None or kind not in _PLACES:
        return data
    return {**data, "data": f"{kind}:{Path(place).name}", "place_is_name": True}


def write_facts(model: onnx.ModelProto, facts: FileFacts) -> None:
    """Put the facts into a model's metadata, in place of what it held of ours; entries of other tools stay."""
    others = [(entry.key, entry.value) for entry in model.metadata_props if not entry.key.startswith(PREFIX)]
    del model.metadata_props[:]
    for key, value in [*others, *sorted(as_properties(facts).items())]:
        model.metadata_props.add(key=key, value=value)
