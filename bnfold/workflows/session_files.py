"""session.json, as `bnfold tune` writes it: read for `--session`, checked, and held against this machine."""

from __future__ import annotations

import dataclasses
import difflib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from bnfold.errors import InputRefused
from bnfold.records.tuning import CHOICES, SessionSettings, TuneReport
from bnfold.runtime import provider_names
from bnfold.workflows.arguments import MAX_THREADS, check_provider

__all__ = ["Session", "offline_file", "session_axes", "session_settings"]

Session: TypeAlias = str | os.PathLike[str] | SessionSettings
"""What `session` takes: the path of a session.json, or its settings."""

log = logging.getLogger("bnfold.workflows")

KINDS: Mapping[str, tuple[type, str]] = {
    "spinning": (bool, "true or false"),
    "arena": (bool, "true or false"),
    "mem_pattern": (bool, "true or false"),
    "denormals_as_zero": (bool, "true or false"),
    "cuda_graph": (bool, "true or false"),
}
SAME = ("cpu", "gpu", "threads", "onnxruntime", "onnxruntime_build")
"""The facts of a machine by which what was fastest there is fastest here."""
REMEDY = "write it again with bnfold tune"


def session_settings(session: Session, files: Sequence[str | os.PathLike[str]] = ()) -> SessionSettings:
    """The settings of a session.json: those of the first of `files` that it knows by its digest, or its only ones.

    That it comes from another machine, or knows none of the files, is a warning: what was fastest there need not be
    here, and computes the same all the same.

    Args:
        session: the path, or settings, which are given back.
        files: that shall run with it.

    Raises:
        InputRefused: it cannot be read, is damaged, has a key that there is not, or several sessions and none of them
            for these files.
    """
    if isinstance(session, SessionSettings):
        return session
    path = Path(session)
    report = _read(path)
    entries = [_entry(entry, f"{path}, files[{number}]") for number, entry in enumerate(report["files"])]
    _warn_of_another_machine(report.get("machine"), path)
    digests = _digests(files)
    known = [settings for settings, digest in entries if digest is not None and digest in digests]
    if known:
        return known[0]
    if len(entries) > 1:
        raise InputRefused(
            "the session file is of other files", where=str(path), found=f"{len(entries)} sessions",
            expected=f"one for {', '.join(map(str, files))}", remedy="tune this file: bnfold tune FILE",
        )  # fmt: skip
    if digests and entries[0][1] is not None:
        log.warning("%s was tuned for another file: what is fastest for that need not be for this", path)
    return entries[0][0]


def session_axes(
    session: Session | None, files: Sequence[str | os.PathLike[str]], **axes: Any
) -> tuple[dict[str, Any], SessionSettings | None]:
    """The axes of a measurement, those of a session file in their place where there is one; and its other settings.

    Args:
        session: see `session_settings`; None for the axes as they are.
        files: likewise.
        axes: provider, threads, opt_level, optimize, cuda_graph.

    Raises:
        InputRefused: the session cannot be used, or an axis is given beside it.
    """
    if session is None:
        return axes, None
    defaults = SessionSettings()
    given = {name: value for name, value in axes.items() if _single(value) != getattr(defaults, name)}
    _beside_session(**given)
    settings = session_settings(session, files)
    return {name: getattr(settings, name) for name in axes}, settings


def _single(value: Any) -> Any:
    """The one value of an axis; several stay as they are."""
    return value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value


def _beside_session(**given: Any) -> None:
    """Refuse what a session file says already.

    Args:
        given: arguments by name, None where they have their defaults.

    Raises:
        InputRefused: one of them is given.
    """
    for name, value in given.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise InputRefused(
                f"the session says what {name} is", found=f"{option} beside --session",
                remedy=f"leave out {option}, or write another session file",
            )  # fmt: skip


def offline_file(file: Path, settings: SessionSettings, folder: Path) -> Path | None:
    """The file that ONNX Runtime writes of another for a session; None where the session loads the file itself."""
    from bnfold.benchmarking.offline import write_offline

    if settings.optimize == "online":
        return None
    target = folder / "offline.onnx"
    write_offline(file, target, settings.opt_level, settings.provider, settings)
    return target


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputRefused("cannot read the session file", where=str(path), found=str(error), remedy=REMEDY) from error
    if not isinstance(report, dict) or report.get("schema") != TuneReport.schema:
        found = report.get("schema") if isinstance(report, dict) else type(report).__name__
        raise InputRefused(
            "the file is not a session file", where=str(path), found=f"schema {found!r}",
            expected=f"schema {TuneReport.schema!r}", remedy=REMEDY,
        )  # fmt: skip
    files = _required(report, "files", str(path))
    if not isinstance(files, list) or not files:
        raise InputRefused(
            "the session file is damaged: files must be a list", where=str(path), found=repr(files)[:80], remedy=REMEDY
        )
    return report


def _entry(entry: Any, where: str) -> tuple[SessionSettings, str | None]:
    """The settings of one file, and its digest."""
    if not isinstance(entry, dict):
        raise InputRefused("the session file is damaged: no object", where=where, found=repr(entry)[:80], remedy=REMEDY)
    session = _required(entry, "session", where)
    if not isinstance(session, dict):
        raise InputRefused(
            "the session file is damaged: session is no object", where=where, found=repr(session)[:80], remedy=REMEDY
        )
    fields = {field.name for field in dataclasses.fields(SessionSettings)}
    for key in session:
        if key not in fields:
            raise InputRefused(
                "the session has a key that there is not", where=where, found=repr(key), expected=_nearest(key, fields),
                remedy="correct it, or tune again: a setting that is not understood would be left out unseen",
            )  # fmt: skip
    for key, value in session.items():
        _check_value(key, value, f"{where}, {key}")
    lists = {"disabled_optimizers": tuple(session.get("disabled_optimizers", ()))}
    return SessionSettings(**{**session, **lists}), entry.get("sha256")


def _required(entry: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in entry:
        close = difflib.get_close_matches(key, list(entry), n=1, cutoff=0.5)
        raise InputRefused(
            f"the session file is damaged: it has no {key!r}", where=where,
            found=f"{close[0]!r}" if close else ", ".join(entry) or "nothing", remedy=f"write {key!r}, or tune again",
        )  # fmt: skip
    return entry[key]


def _nearest(key: str, known: set[str]) -> str:
    close = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)
    return f"{close[0]!r}, the nearest that there is" if close else ", ".join(sorted(known))


def _check_value(key: str, value: Any, where: str) -> None:
    """Refuse a value that its key does not take."""
    if key == "provider":
        expected, is_right = " or ".join(provider_names()), value in provider_names()
    elif key in ("threads", "inter_op_threads"):
        expected = f"a whole number from 1 to {MAX_THREADS}"
        is_right = (value is None and key == "threads") or (type(value) is int and 1 <= value <= MAX_THREADS)
    elif key in CHOICES:
        expected, is_right = " or ".join(CHOICES[key]), value in CHOICES[key]
    elif key == "disabled_optimizers":
        expected, is_right = "a list of names", isinstance(value, list) and all(isinstance(own, str) for own in value)
    elif key == "provider_options":
        expected = "texts by name"
        is_right = isinstance(value, dict) and all(isinstance(own, str) for own in value.values())
    else:
        kind, expected = KINDS[key]
        is_right = isinstance(value, kind) and isinstance(value, bool) == (kind is bool) and value is not None
    if not is_right:
        raise InputRefused(f"the session's {key} must be {expected}, got {value!r}", where=where, remedy="correct it")


def _warn_of_another_machine(machine: Any, path: Path) -> None:
    from bnfold.runtime import environment

    if not isinstance(machine, dict):
        log.warning("%s does not say on which machine it was tuned", path)
        return
    provider = machine.get("provider", "cpu")
    check_provider(provider)
    here = environment(provider)
    other = [key for key in SAME if key in machine and machine[key] != here.get(key)]
    if other:
        told = "; ".join(f"{key} {machine[key]}, here {here.get(key)}" for key in other)
        log.warning("%s was tuned on another machine (%s): tune again here with bnfold tune", path, told)


def _digests(files: Sequence[str | os.PathLike[str]]) -> set[str]:
    """The digests of the files that can be read; what else they are, others say."""
    from bnfold.sources.digests import file_sha256

    found = set()
    for file in files:
        try:
            found.add(file_sha256(Path(file)))
        except (InputRefused, OSError):
            log.debug("no digest of %s", file)
    return found
