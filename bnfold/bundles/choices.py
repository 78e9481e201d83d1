"""How a file shall be served: what was asked for, what a session.json says, and how large a batch may be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnfold.bundles.session_choice import SessionChoice, as_choice
from bnfold.errors import InputRefused
from bnfold.runtime import provider_spec

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from bnfold.bundles.judged_file import OpenedFile
    from bnfold.records.tuning import SessionSettings
    from bnfold.runtime import Provider

__all__ = ["Choice", "chosen_session", "exact_session", "largest_batch", "served_batch"]

SERVED_BATCH = 8
"""The largest batch that is served where nothing says more."""
MAX_BATCH = 65536


@dataclass(frozen=True)
class Choice:
    """What was asked for; the arguments of `bnfold.bundle` of these names."""

    name: str
    golden: str | os.PathLike[str] | None
    session: str | os.PathLike[str] | None
    bench: str | os.PathLike[str] | None
    provider: Provider | None
    max_batch: int | None
    instances: int


def chosen_session(choice: Choice, settings: SessionSettings | None) -> tuple[SessionChoice | None, tuple[str, ...]]:
    """The session that was chosen, None where none was, and what is left out of it.

    Args:
        choice: what was asked for.
        settings: of its session.json.

    Raises:
        InputRefused: it is of another provider than was asked for.
    """
    if settings is None:
        return None, ()
    if choice.provider not in (None, settings.provider):
        raise InputRefused(
            "the session was chosen for another provider", where=str(choice.session), found=settings.provider,
            expected=str(choice.provider), remedy="leave --provider out, or tune for this one",
        )  # fmt: skip
    session, notes = as_choice(settings)
    exact = provider_spec(settings.provider).exact_options
    return replace(session, provider_options={**exact, **session.provider_options}), notes


def exact_session(provider: Provider) -> SessionChoice | None:
    """Options with which float32 is computed as float32, where the provider has such."""
    exact = provider_spec(provider).exact_options
    return SessionChoice(provider_options=exact, provider=provider) if exact else None


def largest_batch(opened: OpenedFile, asked: int | None, measured: int | None) -> int | None:
    """The largest batch that is served; None where the file fixes it.

    Raises:
        InputRefused: one is asked for that the file has not.
    """
    if not opened.has_dynamic_batch:
        _refuse_asked(opened, asked)
        return None
    largest = opened.largest_batch
    if asked is not None and largest is not None and asked > largest:
        raise InputRefused(
            "the file does not run at this batch", where=str(opened.path), found=str(asked),
            expected=f"{largest} at most", remedy="give a smaller --max-batch",
        )  # fmt: skip
    return asked or min(measured or SERVED_BATCH, largest or MAX_BATCH)


def served_batch(opened: OpenedFile, asked: int | None, largest: int | None, judged: Sequence[int]) -> int | None:
    """The largest batch that is served of a judged file; None where it has been found to run at batch 1 only.

    Args:
        opened: the file.
        asked: the largest batch that was asked for.
        largest: what `largest_batch` gave.
        judged: the batches of the golden values.

    Raises:
        InputRefused: as `largest_batch`.
    """
    if largest is not None and tuple(judged) == (1,):
        _refuse_asked(opened, asked)
        return None
    return largest


def _refuse_asked(opened: OpenedFile, asked: int | None) -> None:
    if asked is not None:
        raise InputRefused(
            "the file has no dynamic batch", where=str(opened.path), found=f"--max-batch {asked}",
            remedy="leave --max-batch out, or export the file with a dynamic batch",
        )  # fmt: skip
