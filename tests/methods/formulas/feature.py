"""Feature-based methods."""

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Outputs

from .sums import (
    affine,
    as_map,
    from_the_last,
    kl,
    length,
    mapped,
    mean,
    mean_square,
    normalised,
    of_one_size,
    positions_mean,
    relu,
    scalars,
    softmax,
    total,
)

Terms = dict[str, Tensor]


def hint(regressor: Any, f_s: Tensor, f_t: Tensor) -> Tensor:
    """Romero et al. 2015, eq. 3: a regressor with the hint's own non-linearity, which a hint of no negatives has."""
    behind_relu = not any(bool(v < 0) for v in f_t.flatten())
    f_s, f_t = of_one_size(f_s, f_t)
    convolution, norm = regressor[0], regressor[1]
    guided = normalised(mapped(f_s, convolution.weight[:, :, 0, 0]), norm.weight, norm.bias)
    return mean_square(relu(guided) if behind_relu else guided, f_t)


def fitnet(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    pairs = from_the_last(s.features, teachers[0].features)
    return {"fitnet": 100 * hint(method.adapter, *pairs[len(pairs) // 2])}


def attention_transfer(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Zagoruyko & Komodakis 2017, eq. 2, with the mean in place of the sum over positions."""

    def attention(sample: Tensor) -> list[Tensor]:
        q = [mean(v**2 for v in place) for place in sample.flatten(1).T]
        whole = length(q)
        return [v / whole for v in q]

    stages = []
    for f_s, f_t in from_the_last(s.features, teachers[0].features):
        a, b = of_one_size(f_s, f_t)
        differences = [
            (u - v) ** 2
            for one, other in zip(a, b, strict=True)
            for u, v in zip(attention(one), attention(other), strict=True)
        ]
        stages.append(mean(differences))
    return {"attention_transfer": 1000 * total(stages)}


def afd(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Wang et al. 2020: channels' maps of unit length, weighted by attention on the teacher's, at full resolution."""
    stages = []
    pairs = from_the_last(s.features, teachers[0].features)
    for (f_s, f_t), adapter, attention in zip(pairs, method.adapters, method.attention, strict=True):
        a, b = of_one_size(f_s, f_t)
        a = a if isinstance(adapter, nn.Identity) else mapped(a, adapter.weight[:, :, 0, 0])
        first, second = attention.layers[0], attention.layers[2]
        samples = []
        for one, other, g in zip(a, b, positions_mean(b), strict=True):
            scores = affine(relu(affine(g, first.weight, first.bias)), second.weight, second.bias)
            rho = [1 / (1 + torch.exp(-v)) for v in scores]
            attended = total(rho)
            channels = []
            for r, u, v in zip(rho, one, other, strict=True):
                square = mean((x - y) ** 2 for x, y in zip(_of_unit_length(u), _of_unit_length(v), strict=True))
                channels.append(r / attended * square)
            samples.append(total(channels))
        stages.append(mean(samples))
    return {"afd": 500 * mean(stages)}


def _of_unit_length(channel: Tensor) -> list[Tensor]:
    """A channel that is 0 everywhere stays so."""
    values = list(channel.flatten())
    whole = length(values)
    return [v / whole for v in values] if whole > 0 else values


def fsp(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Yim et al. 2017, eq. 1-2, from the stem on; the student's channels mapped to the teacher's before."""

    def flow(first: Tensor, second: Tensor) -> list[Tensor]:
        a, b = of_one_size(first, second)
        return [
            mean(u * v for u, v in zip(f_1, f_2, strict=True))
            for one, other in zip(a, b, strict=True)
            for f_1, f_2 in product(scalars(one.flatten(1)), scalars(other.flatten(1)))
        ]

    shown, taught = ([f for f in (o.stem, *o.features) if f is not None] for o in (s, teachers[0]))
    maps = []
    for (f_s, f_t), adapter in zip(from_the_last(shown, taught), method.adapters, strict=True):
        maps.append((as_taught(f_s, adapter), f_t))
    terms = []
    for (s_1, t_1), (s_2, t_2) in pairwise(maps):
        terms.append(mean((u - v) ** 2 for u, v in zip(flow(s_1, s_2), flow(t_1, t_2), strict=True)))
    return {"fsp": 50 * total(terms)}


def as_taught(f: Tensor, adapter: Any) -> Tensor:
    """The student's map with the teacher's number of channels."""
    return f if isinstance(adapter, nn.Identity) else mapped(as_map(f), adapter.weight)


def channel_wise(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Shu et al. 2021, eq. 3-4: where each channel of the last stage is active."""
    a, b = of_one_size(s.features[-1], teachers[0].features[-1])
    a = a if isinstance(method.adapter, nn.Identity) else mapped(a, method.adapter.weight[:, :, 0, 0])
    t = method.temperature
    divergences = [
        kl(softmax(v.flatten(), t), softmax(u.flatten(), t))
        for one, other in zip(a, b, strict=True)
        for u, v in zip(one, other, strict=True)
    ]
    return {"channel_wise": 3 * t**2 * total(divergences) / len(divergences)}


FORMULAS = {f.__name__: f for f in (fitnet, attention_transfer, afd, fsp, channel_wise)}
