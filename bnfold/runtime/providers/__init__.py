"""Execution providers of ONNX Runtime, one file each; everything that depends on one is asked of its record."""

from __future__ import annotations

from bnfold.runtime.providers.registry import (
    chain,
    known_providers,
    most_telling,
    provider_names,
    provider_spec,
    register_provider,
    session_providers,
)
from bnfold.runtime.providers.spec import Fault, Provider, ProviderSpec

__all__ = [
    "Fault",
    "Provider",
    "ProviderSpec",
    "chain",
    "known_providers",
    "most_telling",
    "provider_names",
    "provider_spec",
    "register_provider",
    "session_providers",
]
