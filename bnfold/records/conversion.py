"""From a source to a file: `bnfold fold-export` and `bnfold inspect`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from bnfold.records.certificate import CertificateFacts
from bnfold.records.file_facts import FileFacts
from bnfold.records.ledger import Ledger, MergedBranches, RemovedChannels
from bnfold.records.network import NetworkFacts
from bnfold.records.timing import Timing
from bnfold.records.verification import Verdict
from bnfold.shown import Shown

__all__ = ["FoldExportReport", "GraphFacts", "InspectReport", "OutputFacts", "SourceFacts"]


@dataclasses.dataclass(frozen=True)
class SourceFacts:
    """The source as the user named it; `sha256` covers the parameters and buffers (the file's bytes for .onnx)."""

    spec: str
    sha256: str
    n_parameters: int


@dataclasses.dataclass(frozen=True)
class OutputFacts:
    """The written file; `path` is relative to the report's folder."""

    path: str
    sha256: str
    opset: int
    ir_version: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class GraphFacts:
    """Node and multiply-add counts; the latter at batch 1, None where a shape is unknown."""

    nodes_before: int
    nodes_after: int
    batchnorm_after: int
    macs_before: int | None
    macs_after: int | None


@dataclasses.dataclass(frozen=True, repr=False)
class FoldExportReport(Shown):
    """What `bnfold fold-export` did; `seconds` holds load, export, fold, simplify, verify, bench.

    `passed`: the file is equal, and no slower than was allowed. `timing` is None where nothing was measured. `facts`
    are what the file's metadata says of it, `network` the nodes of the graph before and after.
    """

    passed: bool
    source: SourceFacts
    output: OutputFacts | None
    ledger: Ledger
    graph: GraphFacts
    verify: Verdict
    seconds: Mapping[str, float]
    timing: Timing | None = None
    facts: FileFacts = dataclasses.field(default_factory=FileFacts)
    network: NetworkFacts | None = None
    schema: ClassVar[str] = "bnfold.fold-export/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)
    json_properties: ClassVar[tuple[str, ...]] = ("removed_channels", "merged_branches", "certificate")

    def in_a_line(self) -> str:
        """The source, whether it passed, and what became of its BatchNorms."""
        return f"{self.source.spec}: {'passed' if self.passed else 'failed'}, {self.ledger.in_a_line()}"

    @property
    def removed_channels(self) -> tuple[RemovedChannels, ...]:
        """The operators that lost dead channels, in the graph's order."""
        return self.ledger.removed_channels

    @property
    def merged_branches(self) -> tuple[MergedBranches, ...]:
        """Parallel branches that became one operator each."""
        return self.ledger.merged_branches

    @property
    def certificate(self) -> CertificateFacts | None:
        """What proves the file operator by operator."""
        return self.verify.certificate


@dataclasses.dataclass(frozen=True, repr=False)
class InspectReport(Shown):
    """What `bnfold inspect` found: the ledger that fold-export would report, and what the source says of itself.

    `network`: the nodes of its graph, before the fold and after it; a file that is written is simplified besides.
    """

    source: SourceFacts
    ledger: Ledger
    facts: FileFacts = dataclasses.field(default_factory=FileFacts)
    network: NetworkFacts | None = None
    schema: ClassVar[str] = "bnfold.inspect/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)
    json_properties: ClassVar[tuple[str, ...]] = ("removed_channels", "merged_branches")

    def in_a_line(self) -> str:
        """The source, and what would become of its BatchNorms."""
        return f"{self.source.spec}: {self.ledger.in_a_line()}"

    @property
    def removed_channels(self) -> tuple[RemovedChannels, ...]:
        """The operators that would lose dead channels, in the graph's order."""
        return self.ledger.removed_channels

    @property
    def merged_branches(self) -> tuple[MergedBranches, ...]:
        """Parallel branches that would become one operator each."""
        return self.ledger.merged_branches
