"""What every test can rely on."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _subnormal_numbers() -> None:
    """Training flushes subnormal numbers to zero for the whole process; tests after it start with IEEE 754 again."""
    torch.set_flush_denormal(False)
