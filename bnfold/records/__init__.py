"""The facts that bnfold reports, as frozen dataclasses; `as_json` gives the public JSON form of each."""

from bnfold.records.base import MIN_VARIANCE_OVER_EPSILON, InputSpec, as_json
from bnfold.records.benchmark import (
    BenchGate,
    BenchLoss,
    BenchPlacement,
    BenchProfile,
    BenchRatio,
    BenchReport,
    BenchRun,
    GateVerdict,
    Leaning,
    MissingPeer,
    PlacedNode,
    ProfileEntry,
    RatioVerdict,
)
from bnfold.records.causes import Cause
from bnfold.records.certificate import Certificate, CertificateFacts, Counterpart
from bnfold.records.conversion import FoldExportReport, GraphFacts, InspectReport, OutputFacts, SourceFacts
from bnfold.records.evaluation import (
    ClassMetrics,
    DataFacts,
    EvaluatedFile,
    EvaluatePair,
    EvaluateReport,
    Metric,
    MetricGate,
    Mistake,
    Prediction,
)
from bnfold.records.file_facts import FileFacts, Preprocessing
from bnfold.records.ledger import Ledger, LedgerEntry, MeasuredChoice, MergedBranches, Outcome, RemovedChannels
from bnfold.records.machine import Check, CheckStatus, DoctorReport
from bnfold.records.network import GraphNodes, NetworkFacts, NetworkNode
from bnfold.records.recalibration import LayerStatistics, RecalibrationReport
from bnfold.records.timing import LayerTime, SlowerPart, Timing
from bnfold.records.training import TrainPlan, TrainReport
from bnfold.records.verification import Coverage, Criterion, Departure, Execution, OutputVerdict, Verdict

__all__ = [
    "MIN_VARIANCE_OVER_EPSILON",
    "BenchGate",
    "BenchLoss",
    "BenchPlacement",
    "BenchProfile",
    "BenchRatio",
    "BenchReport",
    "BenchRun",
    "Cause",
    "Certificate",
    "CertificateFacts",
    "Check",
    "CheckStatus",
    "ClassMetrics",
    "Counterpart",
    "Coverage",
    "Criterion",
    "DataFacts",
    "Departure",
    "DoctorReport",
    "EvaluatePair",
    "EvaluateReport",
    "EvaluatedFile",
    "Execution",
    "FileFacts",
    "FoldExportReport",
    "GateVerdict",
    "GraphFacts",
    "GraphNodes",
    "InputSpec",
    "InspectReport",
    "LayerStatistics",
    "LayerTime",
    "Leaning",
    "Ledger",
    "LedgerEntry",
    "MeasuredChoice",
    "MergedBranches",
    "Metric",
    "MetricGate",
    "MissingPeer",
    "Mistake",
    "NetworkFacts",
    "NetworkNode",
    "Outcome",
    "OutputFacts",
    "OutputVerdict",
    "PlacedNode",
    "Prediction",
    "Preprocessing",
    "ProfileEntry",
    "RatioVerdict",
    "RecalibrationReport",
    "RemovedChannels",
    "SlowerPart",
    "SourceFacts",
    "Timing",
    "TrainPlan",
    "TrainReport",
    "Verdict",
    "as_json",
]
