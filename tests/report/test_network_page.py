"""The drawing on a page: before and after, outcomes with their reasons, precision, time; names as text; many nodes."""

from __future__ import annotations

import re
import time
from typing import Any
from xml.etree.ElementTree import Element, tostring

from report_facts import SCRIPT, fold_export_report, large_network

from bnfold.records import as_json
from bnfold.report.html import render_html
from bnfold.report.network_page import MOST_LINKS, MOST_SHOWN, network_section

Facts = dict[str, Any]


def report() -> Facts:
    facts: Facts = as_json(fold_export_report())
    return facts


def drawn(facts: Facts, **options: Any) -> Element:
    section = network_section(facts, **options)
    assert section is not None
    return section


def rows(section: Element) -> list[list[str]]:
    """The texts of every row that is no heading: its label, before, after, time."""
    found = [part for part in section.iter() if part.get("class") == "row"]
    return [[" ".join("".join(cell.itertext()).split()) for cell in row] for row in found]


def tip_of(section: Element, button: Element) -> str:
    name = button.get("popovertarget")
    assert (button.tag, button.get("type"), button.get("aria-describedby")) == ("button", "button", name)
    (tip,) = (part for part in section.iter() if part.get("id") == name)
    assert tip.get("popover") == "auto"
    return tip.text or ""


def test_rows_tell_what_was_and_what_is() -> None:
    told = rows(drawn(report()))
    assert told[0] == ["conv<1>&", "before: Conv", "after: Conv", "1.19"]
    norm = next(row for row in told if row[0].startswith("norm"))
    assert norm[1:3] == ["before: BatchNorm", f"after: BatchNormkeptscale pinned by Gelu `{SCRIPT}`"]
    block = next(row for row in told if row[0].startswith("blocks.3"))
    assert block[1:3] == ["before: 3 nodes", "after: 2 nodes1 kept"]


def test_what_happened_is_a_button_that_tells_more() -> None:
    section = drawn(report())
    buttons = {part.text: tip_of(section, part) for part in section.iter("button")}
    assert buttons == {
        "absorbed": "into conv<1>&",
        "kept": f"scale pinned by Gelu `{SCRIPT}`",
        "merged": f"merged from {SCRIPT}.conv, blocks.3.conv",
    }


def test_branches_that_merged_say_what_they_became() -> None:
    told = [tip.text for tip in drawn(report()).iter("span") if tip.get("class") == "tip"]
    assert told.count("one of the branches that became one operator of blocks.3") == 2


def test_channels_that_left_are_told_where_they_were() -> None:
    facts = report()
    facts["removed_channels"] = [{"layer": "conv<1>&", "from": 480, "to": 448}]
    assert "480 to 448 channels" in rows(drawn(facts))[0][2]


def test_a_small_network_is_open_and_what_stays_is_linked() -> None:
    section = drawn(report())
    assert {part.get("open") for part in section.iter("details")} == {"open"}
    (link,) = section.iter("a")
    assert link.text == "blocks.3.norm"
    target = next(part for part in section.iter("li") if part.get("id") == (link.get("href") or "")[1:])
    assert "kept" in "".join(target.itertext())


def test_lines_stand_on_both_sides_and_are_not_read_aloud() -> None:
    section = drawn(report())
    for side, n_dots in (("before", 4 + 1), ("after", 2 + 1)):  # operators, and the module around some of them
        own = [part for part in section.iter("svg") if part.get("class") == side]
        assert {part.get("aria-hidden") for part in own} == {"true"}
        assert sum(len(part.findall("circle")) for part in own) >= n_dots
    assert "reads" in "".join(section.itertext())  # what lines say is said in words where it is not the row above


def test_a_module_that_is_called_again_says_with_what() -> None:
    facts = report()
    facts["network"]["before"]["nodes"].append(
        {"name": "g", "op": "Conv", "layer": "conv<1>&", "reads": ["f"], "parameters": None, "batchnorm": None}
    )
    assert rows(drawn(facts))[0][0] == "conv<1>& called again, with blocks.3"


def test_precision_and_times_of_a_file_in_integers() -> None:
    facts = report()
    facts["timing"] = None
    facts["layers"] = [
        {"name": "conv<1>&", "op": "Conv", "precision": "int8", "sentence": None, "ms": 0.25, "float_ms": 1.0},
        {"name": "blocks.3", "op": "Conv", "precision": "float32", "sentence": "int8 is slower there", "ms": 0.5,
         "float_ms": 0.5},
    ]  # fmt: skip
    section = drawn(facts)
    told = rows(section)
    assert told[0][2:] == ["after: Convint8", "0.25 (1)"]
    assert tip_of(section, next(b for b in section.iter("button") if b.text == "float32")) == "int8 is slower there"
    block = next(row for row in told if row[0].startswith("blocks.3"))
    assert block[2:] == ["after: 2 nodes1 kept1 float32", "0.5 (0.5)"]


def test_times_of_a_profile() -> None:
    profile = {"layers": [{"name": "blocks.3", "ms": 2.5, "share": 1.0, "n_nodes": 1}]}
    told = rows(drawn(report(), profile=profile))
    assert [row[-1] for row in told if row[-1] == "2.5"] == ["2.5", "2.5"]  # the operator and its module


def test_a_time_may_stand_under_the_name_of_the_parameters() -> None:
    """An exporter that folds a BatchNorm itself names the convolution after it."""
    facts = report()
    facts["network"]["after"]["nodes"][0] |= {"layer": "conv.bn", "name": "conv.bn/Conv", "parameters": "conv<1>&"}
    assert next(row for row in rows(drawn(facts)) if "Conv" in row[2] and row[0] == "conv.bn")[-1] == "1.19"


def test_a_report_of_an_earlier_version_has_no_drawing() -> None:
    facts = report()
    del facts["network"]
    assert network_section(facts) is None
    assert b'id="network"' not in render_html(facts)


def test_of_a_large_network_few_rows_are_shown_until_more_are_asked_for() -> None:
    section = drawn(large_network(100))
    assert len(rows(section)) > 800

    def visible(part: Element) -> int:
        own = sum(child.get("class") == "row" for child in part)
        closed = part.tag == "details" and not part.get("open")
        return own + sum(visible(child) for child in part if not closed or child.tag == "summary")

    assert 1 <= visible(section) <= MOST_SHOWN
    many = drawn(large_network(100, kept=True))
    assert visible(many) <= MOST_SHOWN
    assert len(list(many.iter("a"))) == 100 > MOST_LINKS


def test_800_nodes_take_less_than_a_second_and_a_megabyte() -> None:
    facts = large_network(100, kept=True)
    assert len(facts["network"]["before"]["nodes"]) == 800
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        content = tostring(drawn(facts), method="html")
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 1.0
    assert len(content) < 1_000_000
    ids = re.findall(rb' id="([^"]*)"', content)
    assert len(ids) == len(set(ids))
