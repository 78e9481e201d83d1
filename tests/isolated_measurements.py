"""Measurements for tests/test_isolated.py: functions of a module, since another process calls them."""

from __future__ import annotations

import os
import time
from typing import Any


def well(name: str) -> dict[str, Any]:
    return {"network": name, "pid": os.getpid()}


def raises(name: str) -> dict[str, Any]:
    raise ValueError(f"{name} is not liked\nat all")


def dies(name: str) -> dict[str, Any]:
    os.abort()


def leaves(name: str) -> dict[str, Any]:
    os._exit(3)


def eats(name: str) -> dict[str, Any]:
    return {"network": name, "kept": len(bytearray(2**33))}


def runs(name: str) -> dict[str, Any]:
    while True:
        pass


def sleeps(name: str) -> dict[str, Any]:
    time.sleep(1000)
    return {}
