"""Names in the rows of a picture: both of a ratio, by their beginnings and ends where a row cannot hold them."""

from __future__ import annotations

import pytest

from bnfold.report.pictures import NAME_LENGTH, _pair

LONG, OTHER = "efficientnet_lite0_as_it_was_written_by_others", "efficientnet_lite0_folded_and_quantised_by_us"


@pytest.mark.parametrize(
    ("a", "b", "where", "expected"),
    [
        ("plain", "model", ", batch 8", "plain / model, batch 8"),
        (LONG, OTHER, "", "efficient…by_others / efficient…ised_by_us"),
        ("plain", OTHER, "", "plain / efficientnet_lit…d_quantised_by_us"),
        (LONG, OTHER, ", batch 8", "efficie…_others / efficie…d_by_us, batch 8"),
    ],
)
def test_a_row_names_both(a: str, b: str, where: str, expected: str) -> None:
    assert _pair(a, b, where) == expected


def test_no_row_is_longer_than_it_has_room_for() -> None:
    assert len(_pair(LONG, OTHER, ", batch 8, 16 threads, CUDAExecutionProvider")) == NAME_LENGTH
