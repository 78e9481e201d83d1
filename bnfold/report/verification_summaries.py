"""A verdict for pipelines: JUnit XML, and a Markdown summary."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bnfold.report.junit import Case, junit
from bnfold.report.markdown import escaped, table
from bnfold.report.tables import verdict_facts, verdict_scope

if TYPE_CHECKING:
    from bnfold.records import Verdict

__all__ = ["equality_cases", "verdict_blocks", "verify_junit", "verify_markdown"]


def verify_junit(verdict: Verdict, candidate: str) -> bytes:
    """Test cases: that a file is equal to its reference, and that it is proven, where a certificate says so."""
    return junit("verify", equality_cases(verdict, candidate), [verdict_scope(verdict), *verdict_facts(verdict)])


def verify_markdown(verdict: Verdict, candidate: str) -> str:
    """The errors of every output and the verdict, in GitHub Flavored Markdown."""
    blocks = [[f"### bnfold verify {escaped(candidate)}"], *verdict_blocks(verdict)]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def equality_cases(verdict: Verdict, name: str) -> list[Case]:
    """The gates of a verdict."""
    sentence = verdict.failure or verdict_scope(verdict)
    cases = [Case(name, sentence, failure=None if verdict.passed else "not equal", told=verdict.passed)]
    own = verdict.certificate
    if own is not None:
        said = f"{own.certified:,} of {own.regions:,} values of the file proven operator by operator"
        failure = None if verdict.unproven is None else "not proven"
        cases.append(Case(f"{name}: certificate", f"{said}; {verdict.unproven or 'all that there are'}",
                          failure=failure, told=failure is None))  # fmt: skip
    return cases


def verdict_blocks(verdict: Verdict) -> list[list[str]]:
    """Blocks of Markdown: the outputs, and what the verdict rests on."""
    rows = [(o.name, *map(_error, (o.e_source, o.e_output, o.allowed))) for o in verdict.outputs]
    said = "equal" if verdict.passed else f"**NOT equal**: {escaped(verdict.failure or 'no reason given')}"
    lines = [f"- {said} ({escaped(verdict_scope(verdict))})"]
    lines += [f"- {escaped(sentence)}" for sentence in verdict_facts(verdict)]
    return [table(("output", "source error", "file error", "allowed"), rows), lines]


def _error(value: float) -> str:
    return "not compared" if math.isnan(value) else f"{value:.2e}"
