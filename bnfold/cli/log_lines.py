"""Where log lines go: to standard error, as they come."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["configure_logging", "logging_kept"]


class _StderrHandler(logging.StreamHandler[Any]):
    """Writes to the standard error of the moment, so that progress bars and test runners may replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


def configure_logging(level: int) -> None:
    """Send the records of the logger "bnfold" from `level` on to standard error, in place of an earlier set-up.

    onnx_ir warns of values whose type nobody knows whenever a graph is written: those of operators of other domains.
    """
    logging.getLogger("onnx_ir").setLevel(logging.NOTSET if level <= logging.DEBUG else logging.ERROR)
    logger = logging.getLogger("bnfold")
    for handler in [handler for handler in logger.handlers if isinstance(handler, _StderrHandler)]:
        logger.removeHandler(handler)
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(message)s" if level > logging.DEBUG else "%(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


@contextmanager
def logging_kept() -> Iterator[None]:
    """Undo at the end what `configure_logging` sets up: a program that calls a command keeps its own logging."""
    logger, onnx_ir = logging.getLogger("bnfold"), logging.getLogger("onnx_ir")
    level, propagate, handlers, level_of_onnx_ir = logger.level, logger.propagate, list(logger.handlers), onnx_ir.level
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers = handlers
        onnx_ir.setLevel(level_of_onnx_ir)
