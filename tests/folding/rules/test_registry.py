"""One rule for an operator: a second one would win or lose by the order of imports."""

from __future__ import annotations

import pytest

from bnfold.folding.relations import RULES
from bnfold.folding.relations.registry import relation, rewrites


def test_second_relation_is_an_error():
    before = RULES["Relu"]
    with pytest.raises(ValueError, match="Relu must have one relation, got a second one, another"):

        @relation("Relu", kind="other")
        def another(node, units):
            """Nothing."""

    assert RULES["Relu"] is before


@pytest.mark.parametrize("op_type", ["Conv", "Tan"])
def test_second_rewrite_or_one_without_relation_is_an_error(op_type):
    with pytest.raises(ValueError, match=f"{op_type} must have a relation and no other rewrite"):

        @rewrites(op_type)
        def another(node, gauge):
            """Nothing."""
