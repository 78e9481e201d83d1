"""A small network with every kind of operator in integers, and samples for it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bnfold.quantisation.quantise import Quantised, quantise
from bnfold.quantisation.samples import batches, split_samples

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside the tests

from int8_networks import SHAPES, SPECS, TEXT, with_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx


@pytest.fixture(scope="session")
def network() -> onnx.ModelProto:
    """Dense, pointwise, depthwise and grouped convolutions, a residual, a concatenation, pools, and a head."""
    return with_parameters(TEXT, SHAPES)


@pytest.fixture(scope="session")
def samples() -> dict[str, np.ndarray]:
    """Forty inputs of the network."""
    return {"x": np.random.default_rng(1).standard_normal((40, 3, 13, 13)).astype(np.float32)}


@pytest.fixture(scope="session")
def make(network: onnx.ModelProto, samples: dict[str, np.ndarray]) -> Callable[..., Quantised]:
    """Quantise the network, or another one with the same input."""

    def run(model: onnx.ModelProto | None = None, **options: Any) -> Quantised:
        parts = split_samples(samples, seed=0, where="test")
        return quantise(model or network, parts, SPECS, **{"kept": {}, "threads": 1, **options})

    return run


@pytest.fixture(scope="session")
def made(make: Callable[..., Quantised]) -> Quantised:
    """The network in int8."""
    return make()


@pytest.fixture(scope="session")
def feeds(samples: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Two inputs, one after the other."""
    return list(batches({"x": samples["x"][:2]}, SPECS, 1))


@pytest.fixture(scope="session")
def mutants() -> Any:
    """scripts/int8/mutants.py."""
    file = Path(__file__).parents[2] / "scripts" / "int8" / "mutants.py"
    spec = importlib.util.spec_from_file_location("int8_mutants", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
