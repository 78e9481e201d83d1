"""Which provider took each node: nothing runs elsewhere unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnfold.errors import EnvironmentNotReady, GateFailed
from bnfold.records import BenchPlacement, PlacedNode
from bnfold.runtime import provider_spec
from bnfold.runtime.placement import computes, node_counts, node_providers, output_types
from bnfold.runtime.providers import chain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bnfold.runtime import Provider

__all__ = ["placement_of", "require_provider"]

N_NAMED = 3


def placement_of(name: str, file: Path, session: Any, provider: Provider) -> BenchPlacement:
    """Where the nodes of a session run.

    Args:
        name: of the file in the report.
        file: what the session was made from.
        session: made with `record_placement`.
        provider: the one asked for.
    """
    placed = node_providers(session)
    own = {spec.ort_name for spec in chain(provider)}
    elsewhere = [node for node in placed or () if node[2] not in own]
    types = output_types(file) if elsewhere else {}
    return BenchPlacement(
        name=name,
        provider=provider_spec(provider).ort_name,
        nodes=node_counts(session),
        elsewhere=tuple(
            PlacedNode(node, kind, where, computes=computes(node, types)) for node, kind, where in elsewhere
        ),
    )


def require_provider(placements: Sequence[BenchPlacement]) -> None:
    """Demand that every node that computes runs on the provider asked for.

    Raises:
        GateFailed: one fell back.
        EnvironmentNotReady: this ONNX Runtime does not tell.
    """
    for placement in placements:
        if placement.nodes is None:
            raise EnvironmentNotReady(
                "this ONNX Runtime does not tell where nodes run", where=placement.name,
                remedy="install onnxruntime 1.24 or newer, or leave out --strict-provider",
            )  # fmt: skip
        fell = [node for node in placement.elsewhere if node.computes]
        if fell:
            named = ", ".join(f"{node.name or 'unnamed'} ({node.op_type})" for node in fell[:N_NAMED])
            more = f" and {len(fell) - N_NAMED} more" if len(fell) > N_NAMED else ""
            raise GateFailed(
                "compute nodes fell back to another provider", where=placement.name,
                found=f"{named}{more} on {fell[0].provider}", expected=placement.provider,
                remedy="export without these operators, or leave out --strict-provider",
            )  # fmt: skip
