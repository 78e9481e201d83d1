"""JUnit XML of gates, as GitLab, Jenkins and GitHub actions read it (testmoapp/junitxml describes the format)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Case", "junit"]


@dataclass(frozen=True)
class Case:
    """A gate: failed, skipped (undecided) or passed.

    Attributes:
        name: of the gate.
        failure: in short, where it failed.
        sentence: what was found, in full.
        skipped: why nothing was decided, where nothing was.
        told: whether the sentence is worth reading though it passed.
    """

    name: str
    sentence: str
    failure: str | None = None
    skipped: str | None = None
    told: bool = False


def junit(command: str, cases: Sequence[Case], said: Sequence[str] = ()) -> bytes:
    """One test case per gate.

    Args:
        command: of bnfold, whose gates these are.
        cases: the gates.
        said: lines for the suite's `system-out`.
    """
    suite = ElementTree.Element(
        "testsuite", name=f"bnfold {command}", tests=str(len(cases)), errors="0",
        failures=str(sum(case.failure is not None for case in cases)),
        skipped=str(sum(case.skipped is not None for case in cases)),
    )  # fmt: skip
    for case in cases:
        element = ElementTree.SubElement(suite, "testcase", classname=f"bnfold.{command}", name=case.name)
        if case.failure is not None:
            ElementTree.SubElement(element, "failure", message=case.failure).text = case.sentence
        elif case.skipped is not None:
            ElementTree.SubElement(element, "skipped", message=case.skipped)
        elif case.told:
            ElementTree.SubElement(element, "system-out").text = case.sentence
    if said:
        ElementTree.SubElement(suite, "system-out").text = "\n".join(said)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"
