"""What a file was compared with and judged by, as a clause for tables and pages, from the JSON facts of a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnfold.records import Criterion

__all__ = ["basis"]


def basis(verify: Mapping[str, Any]) -> str:
    """Who computed the float64 values, and what is out of the ordinary about the judgement.

    Reports of earlier versions say all of it in `reference`.
    """
    clauses = [str(verify["reference"])]
    if verify.get("judged_as"):
        clauses.append(f"the file stores {verify['judged_as']} and is judged by that format")
    outputs = verify["outputs"]
    weak = [output["name"] for output in outputs if output.get("ill_conditioned")]
    if weak:
        clauses.append(f"ill-conditioned: the source keeps less than half of its digits in {', '.join(weak)}")
    lossy = [
        f"{output['name']} lies {output['e_output'] / output['e_source']:.1f} times as far from float64 as the source's"
        for output in outputs
        if verify["passed"] and output.get("decided_by") == Criterion.PARAMETERS and output["e_source"]
    ]
    if lossy:
        clauses.append(f"{', '.join(lossy)}, by rounding alone: every parameter is the right one, rounded once")
    return "; ".join(clauses)
