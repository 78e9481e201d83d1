"""Large blocks go back to the system when they are freed, whatever was freed before."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, sys
from pathlib import Path
from bnfold.runtime.memory import map_large_blocks

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
if sys.argv[1] == "mapped":
    map_large_blocks()
MiB = 1 << 20
libc.free(libc.malloc(24 * MiB))  # without a fixed threshold, blocks of 24 MiB are not mapped from here on
blocks = [libc.malloc(8 * MiB) for _ in range(8)]
for block in blocks:
    ctypes.memset(block, 1, 8 * MiB)
before = resident()
for block in blocks[:-1]:  # the last one holds the end of the heap
    libc.free(block)
print((before - resident()) * 4096 // MiB)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
@pytest.mark.parametrize(("how", "returned"), [("mapped", True), ("as it is", False)])
def test_freed_blocks_are_given_back(how: str, returned: bool) -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True)
    assert (int(result.stdout) >= 48) == returned
