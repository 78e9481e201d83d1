"""The page holds the JSON's numbers, escapes every name, asks for nothing from outside, and opens in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from report_facts import SCRIPT, bench_facts, fold_export_report, large_network, open_loop_facts

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.records import InspectReport, as_json
from bnfold.report.html import render_html, write_html
from bnfold.report.pictures import panels, write_picture

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("matplotlib")
VOID = {"meta", "link", "br", "img", "hr", "input"}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """The elements of a page; `open` holds those that were not closed, `wrong` what was closed out of turn."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.text = ""
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    def numbers(self) -> dict[str, str]:
        return {a["data-path"]: a["data-value"] for _, a in self.tags if "data-path" in a}  # type: ignore[misc]


def leaves(content: Any, path: str = "") -> dict[str, Any]:
    """Every number of a JSON value by its path."""
    if isinstance(content, bool):
        return {}
    if isinstance(content, int | float):
        return {path.lstrip("."): content}
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return {key: leaf for name, item in items for key, leaf in leaves(item, f"{path}.{name}").items()}


def pages() -> dict[str, tuple[bytes, dict[str, Any]]]:
    exported, failed = as_json(fold_export_report()), as_json(fold_export_report(passed=False))
    bench, open_loop = bench_facts(), open_loop_facts()
    found = fold_export_report()
    inspected = as_json(InspectReport(found.source, replace(found.ledger, measured=None), network=found.network))
    return {
        "inspect": (render_html(inspected), inspected),
        "fold-export": (render_html(exported), exported),
        "failed": (render_html(failed), failed),
        "bench": (render_html(bench), bench),
        "open-loop": (render_html(open_loop), open_loop),
    }


@pytest.mark.parametrize("which", ["inspect", "fold-export", "failed", "bench", "open-loop"])
def test_tables_hold_every_number_of_the_json(which: str) -> None:
    content, report = pages()[which]
    shown = {path: json.loads(text) for path, text in Page(content).numbers().items()}
    expected = leaves(report)
    assert len(expected) > 20
    assert shown == expected


def test_numbers_of_a_proof_are_those_of_its_json() -> None:
    proof = as_json(fold_export_report())
    shown = Page(render_html(bench_facts(), proof=proof)).numbers()
    numbers = {path.removeprefix("report.json:"): json.loads(text) for path, text in shown.items() if ":" in path}
    expected = leaves({key: proof[key] for key in ("ledger", "removed_channels", "verify")})
    assert numbers == expected


@pytest.mark.parametrize("which", ["inspect", "fold-export", "failed", "bench", "open-loop"])
def test_well_formed_and_alone(which: str) -> None:
    content, _ = pages()[which]
    page = Page(content)
    assert (page.open, page.wrong) == ([], [])
    assert b"://" not in content
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe", "base", "object")]
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [a["href"] for _, a in page.tags if "href" in a] + re.findall(r"url\((#[^)]+)\)", content.decode())
    assert {target.removeprefix("#") for target in targets if target} <= set(ids)


def test_first_screen_of_an_open_loop() -> None:
    text = Page(pages()["open-loop"][0]).text
    assert "412.5 requests/s" in text
    assert "p95 within 10 ms, confirmed by another search" in text
    assert "p95 within 10 ms, not confirmed" in text
    assert "Where the time of folded goes" in text


def test_removed_channels_are_on_the_page() -> None:
    text = Page(render_html(as_json(fold_export_report()))).text
    assert "Dead channels: 48 removed in 2 layers" in text
    for fact in (f"{SCRIPT}.conv", "480", "448"):
        assert fact in text.partition("Dead channels that were removed")[2]


def test_names_are_text() -> None:
    for content, _ in pages().values():
        assert SCRIPT.encode() not in content
        assert SCRIPT in Page(content).text


def test_the_same_bytes_every_time() -> None:
    assert pages() == pages()


def test_first_screen_of_a_failure() -> None:
    text = Page(pages()["failed"][0]).text
    assert "Not equal" in text
    assert "output logits diverges" in text
    assert "no file was kept" in text


def test_an_unknown_field_shows_up() -> None:
    report = as_json(fold_export_report())
    report["verify"]["departure"] = {"layer": "conv7", "ulps": 12.25}
    report["rates"] = [{"slo_ms": 10.5, "rate": 123}]
    page = Page(render_html(report))
    assert "conv7" in page.text
    assert {page.numbers()[path] for path in ("verify.departure.ulps", "rates.0.slo_ms", "rates.0.rate")} == {
        "12.25", "10.5", "123",
    }  # fmt: skip


def test_an_unknown_schema() -> None:
    with pytest.raises(ValueError, match=r"bnfold\.other/1"):
        render_html({"schema": "bnfold.other/1"})


def test_interrupted_before_the_first_run() -> None:
    page = Page(render_html({**bench_facts(), "runs": [], "ratios": [], "complete": False}))
    assert "Interrupted" in page.text
    assert "Not measured" in page.text
    assert "Pictures" not in page.text


def test_first_screen_tells_what_to_know_before_relying_on_it() -> None:
    facts = bench_facts()
    facts["environment"] |= {"noise": "noisy", "noise_causes": "rounds scatter by 15%"}
    facts["ratios"][0] |= {"verdict": "undecided", "leaning": "faster"}
    facts["ratios"][0]["note"] = "no winner is named: noisy machine: rounds scatter by 15%"
    facts["gates"] = [
        {"name": name, "limit": 1.03, "ratio": 1.1, "low": 1.05, "high": 1.2, "verdict": verdict, "note": None}
        for name, verdict in (("a", "failed"), ("b", "passed"))
    ]
    first = render_html(facts).decode().partition("<h2>Pictures")[0]
    assert "0.741 × the time of $plain$" in first
    assert "undecided, leaning to faster, 0.729 to 0.761, batch 1 (no winner is named)<" in first
    assert "1 of 2 gates failed: slower than allowed." in first
    assert first.count("rounds scatter by 15%") == 1
    one = Page(render_html({**facts, "ratios": [], "runs": facts["runs"][:3]})).text
    assert "and 2 more below" in one


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_pictures_are_the_same_every_time(suffix: str, tmp_path: Path) -> None:
    one, two = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    for path in (one, two):
        write_picture(bench_facts(), path)
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes().startswith(b"<svg" if suffix == "svg" else b"\x89PNG")


def test_a_picture_has_units_names_and_the_page_s_colour(tmp_path: Path) -> None:
    write_picture(bench_facts(), tmp_path / "picture.svg")
    text = (tmp_path / "picture.svg").read_text()
    assert "run time in ms" in text
    assert "currentColor" in text
    assert "#000000" not in text
    assert "$plain$" in Page(text.encode()).text  # no mathematics made of a name


def test_a_picture_tells_the_undecided_from_the_tied(tmp_path: Path) -> None:
    facts = bench_facts()
    assert "Undecided" not in panels(facts)[0].caption
    facts["ratios"][0] |= {"verdict": "undecided", "leaning": "faster"}
    write_picture(facts, tmp_path / "picture.svg")
    assert "0.741, undecided, leaning to faster: " in (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert "Undecided: too noisy" in panels(facts)[0].caption


def test_names_stand_behind_the_numbers(tmp_path: Path) -> None:
    """A name that is written from right to left would change places with a number behind it."""
    write_picture(bench_facts(), tmp_path / "picture.svg")
    named = re.findall(r">([^<>]*\$plain\$[^<>]*)</text>", (tmp_path / "picture.svg").read_text())
    assert len(named) == 2 + 2 + 1  # ratios, latencies, the legend
    assert [text for text in named if re.search(r"\$plain\$.*: *\d", text)] == []


def test_which_pictures_there_are() -> None:
    facts = bench_facts()
    assert [panel.name for panel in panels(facts)] == ["ratios", "latency", "batch"]
    one = {**facts, "ratios": [], "runs": facts["runs"][:1]}
    assert [panel.name for panel in panels(one)] == ["latency"]


def test_another_kind_of_picture(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"the picture must be of a known kind .* expected \.svg or \.png"):
        write_picture(bench_facts(), tmp_path / "picture.jpg")


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(EnvironmentNotReady, match=r'pip install "bnfold\[report\]"'):
        write_html(bench_facts(), tmp_path / "bench.html")
    write_html(fold_export_report(), tmp_path / "report.html")  # no picture in it
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


WRAPPER = """<!DOCTYPE html><title>check</title>
<iframe id="f" width="{width}" height="{height}" srcdoc="{page}"></iframe>
<pre id="out"></pre><script>
document.getElementById("f").addEventListener("load", (event) => {{
  const page = event.target.contentDocument;
  const answers = page.querySelector(".answers").getBoundingClientRect();
  const shown = (item) => getComputedStyle(item);
  document.getElementById("out").textContent = JSON.stringify({{
    overflow: page.documentElement.scrollWidth - {width}, bottom: answers.bottom,
    colours: [shown(page.body).color, shown(page.body).backgroundColor],
    card: [shown(page.querySelector(".answer")).color, shown(page.querySelector(".answer")).backgroundColor],
    numbers: Object.fromEntries([...page.querySelectorAll("[data-path]")].map(
      (cell) => [cell.dataset.path, cell.dataset.value]))}});
}});</script>"""
DARK = "--blink-settings=preferredColorScheme=0"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
)  # fmt: skip


def seen_in_a_browser(content: bytes, width: int, height: int, folder: Path, *flags: str) -> dict[str, Any]:
    """What a browser makes of a page in a window of this size; no console message is allowed."""
    text = content.decode().replace("&", "&amp;").replace('"', "&quot;")
    return told_by_a_browser(WRAPPER.format(width=width, height=height, page=text), folder, *flags)


def told_by_a_browser(page: str, folder: Path, *flags: str) -> dict[str, Any]:
    """What the script of a page writes into its `out`; no console message is allowed."""
    check = folder / "check.html"
    check.write_text(page, encoding="utf-8")
    command = [
        CHROMIUM, *FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", "--dump-dom",
        check.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(map(str, command), check=True, capture_output=True, text=True, timeout=120)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout)
    assert found, done.stdout[-500:]
    seen: dict[str, Any] = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return seen


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (Web Content Accessibility Guidelines 2.2)."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "height"), [(360, 800), (1280, 800)])
@pytest.mark.parametrize("which", ["inspect", "fold-export", "failed", "bench", "open-loop"])
def test_in_a_browser(which: str, width: int, height: int, tmp_path: Path) -> None:
    """No console message, no sideways scrolling, the four answers on the first screen, the JSON's numbers."""
    content, _ = pages()[which]
    seen = seen_in_a_browser(content, width, height, tmp_path)
    assert seen["overflow"] <= 0
    assert seen["bottom"] <= height
    assert seen["numbers"] == Page(content).numbers()


@pytest.mark.slow
@needs_browser
def test_dark_and_light(tmp_path: Path) -> None:
    """The page follows the system, and text stands out from its ground at least 4.5 to 1 (WCAG 1.4.3)."""
    content, _ = pages()["bench"]
    (tmp_path / "light").mkdir()
    (tmp_path / "dark").mkdir()
    light = seen_in_a_browser(content, 360, 800, tmp_path / "light")
    dark = seen_in_a_browser(content, 360, 800, tmp_path / "dark", DARK)
    assert luminance(light["colours"][1]) > 0.5 > luminance(dark["colours"][1])
    for scheme in (light, dark):
        for pair in (scheme["colours"], scheme["card"]):
            less, more = sorted(map(luminance, pair))
            assert (more + 0.05) / (less + 0.05) >= 4.5


DRAWING = """<pre id="out"></pre><script>
const [link, button] = [document.querySelector("#network a"), document.querySelector("#network button.kept")];
const tip = document.getElementById(button.getAttribute("popovertarget"));
const shown = () => getComputedStyle(tip).display;
const row = document.getElementById(link.getAttribute("href").slice(1));
const seen = {closed: row.checkVisibility(), before: shown()};
link.click();
seen.opened = row.checkVisibility();
button.focus({focusVisible: true});
seen.focused = shown();
button.blur();
seen.left = shown();
button.click();
seen.pressed = tip.matches(":popover-open") && shown();
seen.told = tip.textContent;
document.getElementById("out").textContent = JSON.stringify(seen);
</script>"""


@pytest.mark.slow
@needs_browser
def test_the_drawing_by_keyboard_and_links(tmp_path: Path) -> None:
    """A link opens the modules around a BatchNorm that stays; its reason shows on focus, and when it is pressed."""
    counts = {"found": 200, "absorbed": 100, "merged": 0, "removed": 0, "kept": 100}
    facts = large_network(100, kept=True)
    facts["ledger"] |= counts
    source = {"spec": "net", "sha256": "0", "n_parameters": 1}
    content = render_html({"schema": "bnfold.inspect/1", "source": source, **facts})
    own = "default-src 'none'"  # its policy allows no script, but for the one of this test
    page = content.decode().replace(own, f"{own}; script-src 'unsafe-inline'").replace("</main>", f"</main>{DRAWING}")
    seen = told_by_a_browser(page, tmp_path)
    assert seen == {
        "closed": False, "before": "none", "opened": True, "focused": "block", "left": "none", "pressed": "block",
        "told": "sign held by Relu",
    }  # fmt: skip
