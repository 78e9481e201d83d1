"""The providers there are: one for each module of this package that has a `SPEC`, and those that were registered."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from bnfold.runtime.providers.spec import Provider, ProviderSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "chain",
    "known_providers",
    "most_telling",
    "provider_names",
    "provider_spec",
    "register_provider",
    "session_providers",
]

_PACKAGE = __name__.rpartition(".")[0]


@cache
def known_providers() -> dict[Provider, ProviderSpec]:
    """Every provider by its name: those of this package in the order of their modules' names, then registered ones."""
    modules = sorted(found.name for found in pkgutil.iter_modules(import_module(_PACKAGE).__path__))
    specs = [getattr(import_module(f"{_PACKAGE}.{name}"), "SPEC", None) for name in modules]
    return {spec.name: spec for spec in specs if isinstance(spec, ProviderSpec)}


def register_provider(spec: ProviderSpec) -> None:
    """Add a provider of another package, for this process.

    Raises:
        ValueError: there is one of this name.
    """
    if spec.name in known_providers():
        raise ValueError(f"there is a provider {spec.name!r} already; give another name")
    known_providers()[spec.name] = spec


def provider_names() -> tuple[Provider, ...]:
    """The names of all providers, in their order."""
    return tuple(known_providers())


def provider_spec(name: Provider) -> ProviderSpec:
    """The provider of a name.

    Raises:
        ValueError: there is none; what users may name is checked before (`bnfold.workflows.arguments`).
    """
    spec = known_providers().get(name)
    if spec is None:
        raise ValueError(f"provider is {name!r}, expected {_either(provider_names())}")
    return spec


def chain(name: Provider) -> tuple[ProviderSpec, ...]:
    """A provider, and those behind it that take what it leaves."""
    spec = provider_spec(name)
    return (spec, *map(provider_spec, spec.behind))


def session_providers(
    name: Provider, threads: int, given: Mapping[str, str] | None = None, *, exact: bool = False
) -> list[tuple[str, dict[str, str]]]:
    """The argument `providers` of an `onnxruntime.InferenceSession`: ONNX Runtime's names and options, in order.

    Args:
        name: of the provider.
        threads: of the session.
        given: options of this provider, before its own.
        exact: whether float32 must be computed as float32.
    """
    options = [{**spec.options(threads), **(spec.exact_options if exact else {})} for spec in chain(name)]
    options[0] |= given or {}
    return [(spec.ort_name, own) for spec, own in zip(chain(name), options, strict=True)]


def most_telling(specs: Sequence[ProviderSpec]) -> ProviderSpec:
    """Of the providers of a measurement the one whose device the environment describes: not the CPU's, if it can be."""
    return next((spec for spec in specs if spec.falls_back), specs[0])


def _either(names: Sequence[str]) -> str:
    """The names in quotes, with an "or" before the last."""
    *first, last = map(repr, names)
    return f"{', '.join(first)} or {last}" if first else last
