"""Running statistics estimated anew."""

import torch
from torch import nn

from nas_kd.engine.batch_statistics import re_estimate
from nas_kd.models.blocks import BatchNorm


def test_they_are_the_mean_over_the_batches_whatever_they_were() -> None:
    batches = [torch.randn(5, 3, 4, 4) * scale + scale for scale in (1.0, 2.0, 5.0)]
    for layer in (nn.BatchNorm2d(3), BatchNorm(3)):
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean.fill_(100.0)
        model = re_estimate(nn.Sequential(layer), batches)
        means = torch.stack([b.mean(dim=(0, 2, 3)) for b in batches]).mean(dim=0)
        variances = torch.stack([b.var(dim=(0, 2, 3)) for b in batches]).mean(dim=0)
        assert torch.allclose(layer.running_mean, means, atol=1e-5)
        assert torch.allclose(layer.running_var, variances, atol=1e-4)
        assert not model.training
        assert layer.momentum == 0.1
