"""Makes the helper modules of this folder importable by its tests, and checks the graph after every stage of a fold."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bnfold.folding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx_ir as ir

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("fold_checks")

MOST_NODES, MOST_BYTES = 300, 1 << 24  # the tests of large graphs measure time and memory
STAGES = ("canonicalise", "merge_branches", "apply_choice", "remove_dead_channels")


def is_small(model: ir.Model) -> bool:
    """Whether a test means the graph, and not what a large one takes."""
    n_bytes = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    return len(model.graph) <= MOST_NODES and n_bytes <= MOST_BYTES


@pytest.fixture(scope="session", autouse=True)
def _valid_after_each_stage() -> Iterator[None]:
    """Wrap the stages of `bnfold.folding`: each must leave a valid graph, whichever test runs it."""
    from validity import AFTER_A_STAGE, violations, written

    folded: list[ir.Model] = []  # the model whose stages run

    def checked(name: str, stage: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stage)
        def run(first: Any, *rest: Any) -> Any:
            result = stage(first, *rest)
            if name == "canonicalise":
                folded[:] = [first]
            if is_small(folded[0]):
                broken = violations(written(folded[0]), AFTER_A_STAGE)
                assert not broken, f"after {name}:\n" + "\n".join(broken)
            return result

        return run

    with pytest.MonkeyPatch.context() as patch:
        for name in STAGES:
            patch.setattr(bnfold.folding, name, checked(name, getattr(bnfold.folding, name)))
        yield
