"""`bnfold evaluate`: how good files and sources are on labelled data, and how they differ, sample by sample."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, Literal

from bnfold.errors import InputRefused
from bnfold.records import DataFacts, EvaluatedFile, EvaluatePair, EvaluateReport, MetricGate
from bnfold.report.progress import notebook_progress
from bnfold.workflows.arguments import IN_A_FILE, check_paths, check_threads, require_provider
from bnfold.workflows.session_files import session_axes
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from bnfold.evaluation.contenders import Contender
    from bnfold.evaluation.judge import Judged
    from bnfold.runtime import Provider
    from bnfold.workflows.session_files import Session

__all__ = ["DEFAULT_BATCH", "Evaluation", "evaluate", "evaluation", "write_differences"]

DEFAULT_BATCH = 64


class Evaluation:
    """The report, and what only pictures and lists of differences need: the scores by sample."""

    def __init__(self, report: EvaluateReport, contenders: Sequence[Contender], judged: Judged) -> None:
        self.report = report
        self._contenders = contenders
        self._judged = judged

    def mistakes(self) -> list[tuple[Any, np.ndarray]]:
        """The surest mistakes of the first file, each with the input that it read."""
        from bnfold.evaluation.classified import Classified

        first = self._judged.scores[0]
        return list(zip(first.worst(), first.worst_inputs(), strict=True)) if isinstance(first, Classified) else []

    @property
    def preprocessing(self) -> Any:
        """How images become the input of the first file; None where nothing says so."""
        return self._contenders[0].facts.preprocessing

    def differences(self) -> list[dict[str, Any]]:
        """The samples that the first file and the others do not say the same of."""
        import numpy as np

        from bnfold.evaluation.classified import Classified

        scores = [own for own in self._judged.scores if isinstance(own, Classified)]
        if len(scores) < 2:
            return []
        said = np.stack([np.concatenate(own.predicted) for own in scores])
        first, labels = scores[0], np.concatenate(scores[0].labels)
        names = [contender.name for contender in self._contenders]
        return [
            {"index": index, "sample": first.name(index), "label": first.classes[labels[index]]}
            | {name: own.classes[said[k, index]] for k, (name, own) in enumerate(zip(names, scores, strict=True))}
            for index in np.flatnonzero((said != said[0]).any(axis=0)).tolist()
        ]


@runs_user_code()
def evaluation(
    *files: str | os.PathLike[str],
    data: str | None = None,
    split: Literal["train", "val", "test"] = "test",
    task: str | None = None,
    classes: str | os.PathLike[str] | None = None,
    normalize: str | None = None,
    least: Mapping[str, float] | None = None,
    max_drop: float | None = None,
    batch: int = DEFAULT_BATCH,
    provider: Provider = "cpu",
    threads: int | None = None,
    download: bool = False,
    progress: Callable[[float], None] | None = None,
    session: Session | None = None,
    **source_options: Any,
) -> Evaluation:
    """Evaluate; see `evaluate`, whose report this holds."""
    from bnfold.evaluation.contenders import open_contender
    from bnfold.evaluation.judge import judge
    from bnfold.evaluation.samples import open_samples

    if not files:
        raise InputRefused("there is nothing to evaluate", remedy="give at least one .onnx file or SOURCE")
    check_paths(files, remedy=IN_A_FILE)
    if max_drop is not None and len(files) < 2:
        raise InputRefused(
            "max_drop compares two files", found="one", remedy="give the file, and the one to compare it with"
        )
    check_threads(threads)
    own, settings = session_axes(
        session, [file for file in files if os.fspath(file).endswith(".onnx")], provider=provider, threads=threads
    )  # fmt: skip
    require_provider(own["provider"])
    start = time.perf_counter()
    specs = [os.fspath(file) for file in files]
    contenders = [
        open_contender(
            spec, **own, classes=classes, normalize=normalize, settings=settings, **source_options
        )
        for spec in specs
    ]  # fmt: skip
    spec = data if data is not None else (contenders[0].facts.data or {}).get("data")
    samples = [open_samples(spec, own, split=split, task=task, download=download) for own in contenders]
    size = next((own.fixed_batch for own in contenders if own.fixed_batch), None) or batch
    with notebook_progress("evaluate", progress) as told:
        judged = judge(contenders, samples, batch=size, progress=told)
    facts = DataFacts(samples[0].spec, samples[0].split, judged.n, samples[0].sha256)
    pairs = _pairs(contenders, judged)
    report = EvaluateReport(
        data=facts,
        task=samples[0].task,
        files=_files(contenders, specs, judged),
        pairs=tuple(pair for pair, _ in pairs),
        gates=_gates(contenders, judged, [difference for _, difference in pairs], least or {}, max_drop),
        seconds=time.perf_counter() - start,
    )
    return Evaluation(report, contenders, judged)


def evaluate(*files: str | os.PathLike[str], **options: Any) -> EvaluateReport:
    """Evaluate files and sources on labelled data, all on the same samples.

    Args:
        files: `.onnx` files, or any other SOURCE, which runs in PyTorch; the first is compared with the others.
        options: as follows.
            data: a data set of `bnfold train`: `digits`, `folder:PATH`, `npz:PATH`, `torchvision:NAME`, `hf:NAME`; None
                takes the one that the first file learnt on.
            split: the part of it, "train", "val" or "test", where it has parts.
            task: what the targets are for; None takes what the file says, else "classification".
            classes: a file with the class names in the order of the output, or "imagenet"; None takes the file's own.
            normalize: how images become the input, see `bnfold.sources.preprocessing`; None takes the file's own.
            least: limits by metric that the first file must reach.
            max_drop: how much worse than the second the first may be: 0.005 allows half a point.
            batch: samples at a time.
            provider: of ONNX Runtime.
            threads: of one operator; None for all that this process may use.
            session: a session.json of `bnfold.tune`, or settings, for the files in place of provider and threads.
            weights, pretrained, input_shapes, input_dtypes: see `bnfold.fold_export`.
            download: whether data that is not on this machine may be fetched.
            progress: called with the part that is done, 0 to 1; None shows a bar in a notebook.

    Returns:
        Metrics with 99 % intervals (Wilson's for proportions, else over samples drawn with replacement), paired
        differences (Tango's score interval, McNemar's test), gates.

    Raises:
        InputRefused: a file, the data, or both together cannot be used.
        EnvironmentNotReady: ONNX Runtime, the provider or another package is missing.
    """
    return evaluation(*files, **options).report


def _files(contenders: Sequence[Contender], specs: Sequence[str], judged: Judged) -> tuple[EvaluatedFile, ...]:
    from bnfold.evaluation.classified import Classified
    from bnfold.evaluation.scores import as_metric

    found = []
    for contender, spec, own in zip(contenders, specs, judged.scores, strict=True):
        metrics = {name: as_metric(interval) for name, interval in own.metrics().items()}
        details: dict[str, Any] = {}
        if isinstance(own, Classified):
            details = {
                "confusion": own.confusion(),
                "classes": own.classes,
                "per_class": own.per_class(),
                "worst_mistakes": own.worst(),
            }
        found.append(EvaluatedFile(contender.name, spec, metrics, **details))
    return tuple(found)


def _pairs(contenders: Sequence[Contender], judged: Judged) -> list[tuple[EvaluatePair, Any]]:
    """The first against each other one, in the metric that matters."""
    first = judged.scores[0]
    pairs = []
    for contender, other in zip(contenders[1:], judged.scores[1:], strict=True):
        difference = first.difference(other, judged.goal)
        paired, interval = difference.paired, difference.interval
        pair = EvaluatePair(
            a=contenders[0].name, b=contender.name, metric=judged.goal, difference=interval.value, low=interval.low,
            high=interval.high, agreement=difference.agreement,
            gained=None if paired is None else paired.gained, lost=None if paired is None else paired.lost,
            p_value=None if paired is None else paired.p_value(),
        )  # fmt: skip
        pairs.append((pair, difference))
    return pairs


def _gates(
    contenders: Sequence[Contender], judged: Judged, differences: Sequence[Any], least: Mapping[str, float],
    max_drop: float | None,
) -> tuple[MetricGate, ...]:  # fmt: skip
    from bnfold.evaluation.classified import Classified
    from bnfold.evaluation.gates import drop_gate, least_gate

    first, own = contenders[0].name, judged.scores[0].metrics()
    gates = []
    for metric, limit in least.items():
        if metric not in own:
            raise InputRefused(
                f"there is no metric {metric!r}", expected=", ".join(own), remedy="name one of them with --min"
            )
        gates.append(
            least_gate(
                f"{first} {metric}", limit, own[metric], judged.n, maximise=judged.maximise,
                is_proportion=isinstance(judged.scores[0], Classified),
            )
        )  # fmt: skip
    if max_drop is not None:
        name = f"{first} - {contenders[1].name} {judged.goal}"
        gates.append(drop_gate(name, max_drop, differences[0], judged.n, maximise=judged.maximise))
    return tuple(gates)


def write_differences(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write differing samples as JSON lines.

    Raises:
        InputRefused: the file cannot be written.
    """
    from bnfold.report import write_bytes

    write_bytes("".join(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows).encode(), path)
