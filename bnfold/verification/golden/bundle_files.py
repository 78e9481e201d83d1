"""The files of a bundle of golden values, read; whatever is wrong with them is said in one sentence.

A folder of three. `inputs.npz` holds the inputs as `feed/name`, feeds counted from 0; `outputs.npz` the source in
float64 as `feed/name/exact` and its own executions as `feed/name/0`, `feed/name/1`; `bundle.json` (schema
`bnfold.golden/1`) the names, types, errors allowed, the constants of the criterion, and the digests of the arrays.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused
from bnfold.verification.checks import criterion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["SCHEMA", "criterion_constants", "open_bundle", "read_arrays"]

SCHEMA = "bnfold.golden/1"
CONSTANTS = ("K_RMS", "K_MAXIMUM", "K_PARAMETERS", "K_ORDER")
REMEDY = "copy the whole folder again from where `bnfold fold-export --golden` wrote it, or write it again"


def criterion_constants() -> dict[str, float]:
    """The constants of the criterion by which this program judges."""
    return {name.lower(): getattr(criterion, name) for name in CONSTANTS}


@contextlib.contextmanager
def open_bundle(folder: Path) -> Iterator[Any]:
    """Yield what `bundle.json` says; a fault in what the block then reads is one of the bundle.

    Raises:
        InputRefused: the folder is no bundle of this schema, or its parts do not fit together.
    """
    path = folder / "bundle.json"
    try:
        account = json.loads(path.read_text(encoding="utf-8"))
        found = account["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged("no golden values", path, error) from error
    if found != SCHEMA:
        raise InputRefused(
            "golden values of another kind", where=str(path), found=str(found), expected=SCHEMA,
            remedy="write them again with this version's `bnfold fold-export --golden`",
        )  # fmt: skip
    try:
        yield account
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged("the golden values are damaged", path, error) from error


def read_arrays(path: Path, digests: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The arrays of one file, which has the digest that `bundle.json` gives.

    Raises:
        InputRefused: the file is missing, or not as it was written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _damaged("golden values are missing", path, error) from error
    found = hashlib.sha256(content).hexdigest()
    if found != digests[path.name]:
        raise InputRefused(
            "the golden values are not as they were written", where=str(path),
            found=f"sha256 {found[:12]}", expected=f"{digests[path.name][:12]}", remedy=REMEDY,
        )  # fmt: skip
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise _damaged("the golden values are damaged", path, error) from error


def _damaged(what: str, path: Path, error: Exception) -> InputRefused:
    return InputRefused(what, where=str(path), found=f"{type(error).__name__}: {error}", remedy=REMEDY)
