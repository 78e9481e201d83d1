"""Where log lines go: to standard error, as they come."""

from __future__ import annotations

import logging
import sys
from typing import Any

__all__ = ["configure_logging"]


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
