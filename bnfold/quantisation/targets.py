"""Processors that files of lower precision are made for."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

from bnfold.records.recipes import Target
from bnfold.runtime.providers.cuda import SPEC

__all__ = ["GPU", "this_target"]

GPU: Target = SPEC.name
"""What float16 is for."""

_CPUINFO = Path("/proc/cpuinfo")
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})


@cache
def this_target() -> Target:
    """The target that this machine is: on x86 by the instructions that the system names."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return "arm"
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("flags"):
                return "x86-vnni" if _VNNI & set(line.partition(":")[2].split()) else "x86"
    return "x86"
