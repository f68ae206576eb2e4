"""What every test can rely on."""

import pytest
import torch
from hypothesis import HealthCheck, settings

# How long an example takes says more about the machine, which may be shared, than about the code.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


@pytest.fixture(autouse=True)
def _subnormal_numbers() -> None:
    """Training flushes subnormal numbers to zero for the whole process; tests after it start with IEEE 754 again."""
    torch.set_flush_denormal(False)
