"""Memory that trainings free stays with their process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from nas_kd.engine.freed_memory import keep_freed_memory
if {kept}:
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    blocks = [torch.ones(5_000_000) for _ in range(5)]
for _ in range(3):
    step()
before = faults()
for _ in range(10):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back")
def test_pages_are_cleared_once() -> None:
    """Blocks of 20 MB cost no page faults once they were used; without it they cost them every time."""
    kept, given_back = (
        int(
            subprocess.run(
                [sys.executable, "-c", PROGRAM.format(kept=kept)], capture_output=True, text=True, check=True
            ).stdout
        )
        for kept in (True, False)
    )
    assert kept * 10 < given_back
