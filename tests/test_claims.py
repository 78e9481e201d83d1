"""scripts/claims.py judges by its criteria: a claim that fails for one seed is not reproduced, and the page says so."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def claims() -> ModuleType:
    """The script, imported with its neighbours."""
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    try:
        from claims import command
    finally:
        sys.path.remove(str(REPOSITORY / "scripts"))
    return command


@pytest.fixture
def results(claims: ModuleType) -> dict[str, list[Any]]:
    """Results of three seeds for which every claim holds."""
    curve = [(20, 50.0), (40, 95.0)]
    levels = dict.fromkeys(("none", "LayerNorm", "InstanceNorm", "GroupNorm"), [95.0] * 6)
    shift = {"unshifted": [98.0] * 3, **{name: [30.0, 50.0, 70.0] for name in claims.statistics.SHIFTS}}
    one = {
        "steps_to_90": {"without": {"steps": None, "curve": curve}, "with": {"steps": 40, "curve": curve}},
        "learning_rates": {"without": [0.1], "with": [0.1, 2.0]},
        "initialisations": {"without": [0.1, 0.2], "with": [0.001, 1.0]},
        "along_the_gradient": {"without": [2.0, 3.0], "with": [0.1, 0.2]},
        "regularising": {
            "without, batch 8": [100.0, 88.0], "without, batch 64": [100.0, 88.0],
            "with, batch 8": [100.0, 91.0], "with, batch 64": [100.0, 90.0],
        },
        "batch_sizes": {**levels, "BatchNorm": [70.0, 80.0, 90.0, 95.0, 96.0, 96.0]},
        "few_steps": {
            "moving average": [10.0, 20.0, 50.0, 80.0, 95.0, 97.0],
            "pooled": [40.0, 60.0, 78.0, 92.0, 96.0, 97.5],
        },
        "shifted": shift,
        "foldable": {"BatchNorm": [3, 0], "LayerNorm": [3, 3], "InstanceNorm": [3, 3], "GroupNorm": [3, 3]},
    }  # fmt: skip
    return {name: [copy.deepcopy(result) for _ in range(3)] for name, result in one.items()}


def test_every_claim_can_hold_and_can_fail(claims: ModuleType, results: dict[str, list[Any]]) -> None:
    assert [all(claim.judge(results)[1]) for claim in claims.CLAIMS] == [True] * len(claims.CLAIMS)
    swapped = copy.deepcopy(results)
    for name in ("steps_to_90", "learning_rates", "initialisations", "along_the_gradient"):
        one = swapped[name][1]
        one["with"], one["without"] = one["without"], one["with"]
    swapped["regularising"][1]["with, batch 8"] = [100.0, 80.0]
    swapped["batch_sizes"][1]["BatchNorm"][0] = 96.0
    swapped["few_steps"][1]["pooled"] = [0.0] * 6
    swapped["shifted"][1] = {name: [50.0, 40.0, 30.0] for name in swapped["shifted"][1]}
    assert [claim.judge(swapped)[1] for claim in claims.CLAIMS] == [[True, False, True]] * len(claims.CLAIMS)
    assert claims.page(swapped, seconds=1.0, processes=2).count("**no** (2 of 3 seeds)") == len(claims.CLAIMS)


def test_page_in_docs_is_of_these_claims(claims: ModuleType) -> None:
    page = (REPOSITORY / "docs" / "claims.md").read_text()
    assert [claim.text in page and claim.paper in page and claim.criterion in page for claim in claims.CLAIMS] == [
        True
    ] * len(claims.CLAIMS)


def test_picture_of_the_results(claims: ModuleType, results: dict[str, list[Any]], tmp_path: Path) -> None:
    claims.draw(results, tmp_path / "claims.png")
    assert (tmp_path / "claims.png").read_bytes().startswith(b"\x89PNG")


def test_measurements_are_deterministic(claims: ModuleType) -> None:
    first, again = (claims.run((claims.SLOWEST_FIRST.index(claims.statistics.few_steps), 0)) for _ in range(2))
    assert first == again
    assert first[:2] == ("few_steps", 0)
