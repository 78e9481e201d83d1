"""Several processes descend the gradient that one would, and end with the same bits, running statistics included."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("processes.py")


@pytest.fixture(scope="module")
def two(warm_python: list[str]) -> dict[str, Any]:
    """What two processes make of the networks."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python")
    command = [*warm_python, *launcher, *warm_python, str(SCRIPT)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    """What one process makes of them."""
    spec = importlib.util.spec_from_file_location("processes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["processes"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    found: dict[str, Any] = module.main()
    return found


@pytest.mark.parametrize("name", ["plain", "two updates", "norm", "average"])
def test_processes_agree_to_the_bit(two: dict[str, Any], name: str) -> None:
    n_states, _ = two[name]
    assert n_states == 1


@pytest.mark.parametrize("name", ["plain", "two updates"])
def test_the_gradient_is_that_of_one_process(two: dict[str, Any], one: dict[str, Any], name: str) -> None:
    for key, values in two[name][1].items():
        np.testing.assert_allclose(values, one[name][1][key], rtol=1e-3, atol=1e-5)


def test_running_statistics_are_those_of_all_images(two: dict[str, Any], one: dict[str, Any]) -> None:
    """A process sees a share of each batch, yet the mean over processes estimates what one process would."""
    for key in ("1.running_mean", "1.running_var"):
        np.testing.assert_allclose(two["norm"][1][key], one["norm"][1][key], rtol=0.2, atol=0.1)
    assert two["norm"][1]["1.num_batches_tracked"] == [16.0]
