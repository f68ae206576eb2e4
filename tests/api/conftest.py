"""A teacher that has learnt its classes."""

import pytest

from nas_kd.commands.distill_modules import distill

from .toys import Net, net, samples


@pytest.fixture(scope="session")
def teacher() -> Net:
    return distill(net(12, seed=9), train=samples(), method="none", epochs=15, batch_size=16)
