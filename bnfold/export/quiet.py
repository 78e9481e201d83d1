"""Third-party exporters talk a lot; what they say about themselves is no message for our user."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["quiet", "swallowed_output"]


@contextlib.contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Silence Python warnings and the named loggers (below ERROR) while a third-party call runs."""
    old = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in old.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def swallowed_output() -> Iterator[None]:
    """Drop what Python code prints to standard output and standard error while a third-party call runs."""
    with io.StringIO() as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield
