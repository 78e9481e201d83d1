"""Makes the helper modules of this folder importable by its tests, and checks the graph after every stage of a fold."""

from __future__ import annotations

import functools
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx.checker
import onnx.shape_inference
import pytest

import bnfold.folding.fold_pass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx_ir as ir

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("fold_checks")

MOST_NODES, MOST_BYTES = 300, 1 << 24  # the tests of large graphs measure time and memory
STAGES = ("canonicalise", "merge_branches", "apply_choice", "remove_dead_channels")


def is_valid(model: onnx.ModelProto) -> bool:
    """Whether ONNX takes the model that a test folds; some tests have one on purpose that it does not."""
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        onnx.checker.check_model(model)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError):
        return False
    return True


def is_small(model: ir.Model) -> bool:
    """Whether a test means the graph, and not what a large one takes."""
    n_bytes = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    return len(model.graph) <= MOST_NODES and n_bytes <= MOST_BYTES


class _Raising(logging.Handler):
    """Ends a test by the error of a rule that failed, which a command would survive."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            raise record.exc_info[1]


ATTEMPTS = logging.getLogger("bnfold.attempts")


@pytest.fixture(scope="session", autouse=True)
def _rules_do_not_fail() -> Iterator[logging.Handler]:
    handler, level = _Raising(), ATTEMPTS.level
    ATTEMPTS.addHandler(handler)
    ATTEMPTS.setLevel(logging.DEBUG)
    yield handler
    ATTEMPTS.removeHandler(handler)
    ATTEMPTS.setLevel(level)


@pytest.fixture
def rules_may_fail(_rules_do_not_fail: logging.Handler) -> Iterator[None]:
    """For tests of what a command does when a rule fails."""
    ATTEMPTS.removeHandler(_rules_do_not_fail)
    yield
    ATTEMPTS.addHandler(_rules_do_not_fail)


@pytest.fixture(scope="session", autouse=True)
def _valid_after_each_stage() -> Iterator[None]:
    """Wrap the stages of the fold: each must leave a valid graph, whichever test runs it."""
    from validity import AFTER_A_STAGE, violations, written

    folded: list[ir.Model] = []  # the model whose stages run, if they are checked

    def checked(name: str, stage: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(stage)
        def run(first: Any, *rest: Any) -> Any:
            if name == "canonicalise":
                folded[:] = [first] if is_small(first) and is_valid(written(first)) else []
            result = stage(first, *rest)
            for model in folded:
                broken = violations(written(model), AFTER_A_STAGE)
                assert not broken, f"after {name}:\n" + "\n".join(broken)
            return result

        return run

    with pytest.MonkeyPatch.context() as patch:
        for name in STAGES:
            patch.setattr(bnfold.folding.fold_pass, name, checked(name, getattr(bnfold.folding.fold_pass, name)))
        yield
