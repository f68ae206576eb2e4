"""Memory that trainings free stays with their process."""

import ctypes
import subprocess
import sys

import pytest

# Prints how many bytes the C library holds for later use after a step has freed its blocks. The library is asked, as
# not every system counts page faults.
PROGRAM = """
import ctypes
import torch
from nas_kd.engine.freed_memory import keep_freed_memory
class Memory(ctypes.Structure):  # struct mallinfo2
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]
if {kept}:
    assert keep_freed_memory()
def step():
    blocks = [torch.ones(5_000_000) for _ in range(5)]
step()
mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Memory
print(mallinfo2().fordblks)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 or newer")
def test_freed_blocks_stay_with_the_process() -> None:
    """Five blocks of 20 MB are kept for the next step; without it they go back to the system."""
    kept, given_back = (
        int(
            subprocess.run(
                [sys.executable, "-c", PROGRAM.format(kept=kept)], capture_output=True, text=True, check=True
            ).stdout
        )
        for kept in (True, False)
    )
    assert given_back < 20_000_000
    assert kept >= 100_000_000
