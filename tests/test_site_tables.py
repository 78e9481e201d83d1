"""docs/tables.js in a browser: long tables are sorted by their headings and filtered, by the keyboard too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "tables.js"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom")

COUNTS = ["10", "9", "-", "1,200", "-3", "0.5", *["7"] * 40]
CHECK = """
<script>
addEventListener("load", () => {
  const cells = (id, k) => [...document.querySelectorAll(`#${id} tbody tr`)].map((row) => row.cells[k].textContent);
  const [name, count] = document.querySelectorAll("#long th"), seen = { first: cells("long", 0), states: [] };
  const press = (button) => { button.focus(); button.click(); seen.states.push([name.ariaSort, count.ariaSort]); };
  const button = count.querySelector("button");
  press(button); seen.up = cells("long", 1);
  press(button); seen.down = cells("long", 1);
  press(button); seen.again = cells("long", 0);
  press(name.querySelector("button")); seen.names = cells("long", 0);
  seen.focused = document.activeElement === name.querySelector("button");
  const field = document.querySelector("input");
  const say = (text) => { field.value = text; field.dispatchEvent(new Event("input")); };
  const rows = () => [...document.querySelectorAll("#long tbody tr:not([hidden])")];
  const shown = () => rows().map((row) => row.cells[0].textContent);
  say("NET 1,2"); seen.filtered = shown(); seen.said = document.querySelector("output").value;
  say(""); seen.unfiltered = shown().length;
  seen.labelled = field.labels.length;
  seen.short = document.querySelectorAll("#short button").length;
  const out = document.createElement("pre"); out.id = "out"; out.textContent = JSON.stringify(seen);
  document.body.append(out);
});
</script>
"""


def _table(name: str, counts: list[str]) -> str:
    rows = "".join(f"<tr><td>net{k}</td><td>{count}</td></tr>" for k, count in enumerate(counts))
    total = "<tr><td><strong>total</strong></td><td><strong>9</strong></td></tr>"
    head = "<thead><tr><th>network</th><th>found</th></tr></thead>"
    return f'<table id="{name}">{head}<tbody>{rows}{total}</tbody></table>'


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")
def test_long_tables_are_sorted_and_filtered(tmp_path: Path) -> None:
    page = f"<script>{SCRIPT.read_text()}</script><article>{_table('long', COUNTS)}{_table('short', ['1'])}</article>"
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{page}{CHECK}")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()]
    done = subprocess.run(map(str, command), check=True, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    seen: dict[str, Any] = json.loads(found[1])
    names = [f"net{k}" for k in range(len(COUNTS))]
    assert seen["first"] == seen["again"] == [*names, "total"]
    sevens = ["7"] * 40
    assert seen["up"] == ["-3", "0.5", *sevens, "9", "10", "1,200", "-", "9"]  # the dash behind numbers, then the sum
    assert seen["down"] == ["1,200", "10", "9", *sevens, "0.5", "-3", "-", "9"]
    assert seen["names"] == [*names, "total"]  # net2 before net10
    assert seen["states"] == [
        ["none", "ascending"], ["none", "descending"], ["none", "none"], ["ascending", "none"],
    ]  # fmt: skip
    assert seen["focused"]
    assert (seen["filtered"], seen["said"]) == (["net3", "total"], "1 of 46")
    assert seen["unfiltered"] == 47
    assert (seen["labelled"], seen["short"]) == (1, 0)
