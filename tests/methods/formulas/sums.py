"""What several formulas are made of, on scalars: softmax, divergences, pooling, convolutions, batch normalisation."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


def scalars(x: Tensor) -> Any:
    """Nested lists of all values, each a tensor of no dimension."""
    return [scalars(part) for part in x] if x.dim() > 1 else list(x)


def mean(values: Iterable[Tensor]) -> Tensor:
    listed = list(values)
    return total(listed) / len(listed)


def total(values: Iterable[Tensor]) -> Tensor:
    result = torch.zeros((), dtype=torch.float64)
    for value in values:
        result = result + value
    return result


def softmax(z: Tensor | Sequence[Tensor], temperature: float = 1.0) -> list[Tensor]:
    """Of the logits (C,) of one sample."""
    exponentials = [torch.exp(v / temperature) for v in z]
    return [e / total(exponentials) for e in exponentials]


def kl(p: Sequence[Tensor], q: Sequence[Tensor]) -> Tensor:
    return total(a * torch.log(a / b) for a, b in zip(p, q, strict=True))


def softened_kl(z_student: Tensor, z_teacher: Tensor, t: float) -> Tensor:
    """T^2 KL(p || q) of logits (B, C), mean over the samples."""
    pairs = zip(z_student, z_teacher, strict=True)
    return t**2 * mean(kl(softmax(b, t), softmax(a, t)) for a, b in pairs)


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    return mean(-torch.log(softmax(row)[int(k)]) for row, k in zip(z, y, strict=True))


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    return mean((u - v) ** 2 for u, v in zip(a.flatten(), b.flatten(), strict=True))


def length(values: Sequence[Tensor] | Tensor) -> Tensor:
    return torch.sqrt(total(v**2 for v in values))


def as_map(f: Tensor) -> Tensor:
    """Tokens (B, t, d) as a map (B, d, t, 1); maps as they are."""
    return f if f.dim() == 4 else torch.stack([torch.stack([sample.T]) for sample in f]).permute(0, 2, 3, 1)


def tokens_in_front(f: Tensor) -> int:
    """How many of the tokens (B, t, d) stand in front of a square number of patches, 4 or more; 0 if none do."""
    return next((n for n in range(3) if f.shape[1] - n in (4, 9, 16, 25)), 0)


def as_grid(f: Tensor) -> Tensor:
    """Patches (B, n + k * k, d) behind n tokens, row by row, as a map (B, d, k, k)."""
    n, k = tokens_in_front(f), {4: 2, 9: 3, 16: 4, 25: 5}[f.shape[1] - tokens_in_front(f)]
    rows = [torch.stack([f[:, n + i * k + j] for j in range(k)], dim=2) for i in range(k)]
    return torch.stack(rows, dim=2)


def pooled(f: Tensor, height: int, width: int) -> Tensor:
    """Means of windows from floor(i h / height) to ceil((i + 1) h / height): (B, c, h, w) -> (B, c, height, width)."""
    b, c, h, w = f.shape
    rows = [range(i * h // height, -(-(i + 1) * h // height)) for i in range(height)]
    columns = [range(j * w // width, -(-(j + 1) * w // width)) for j in range(width)]
    values = scalars(f)
    cells = [
        mean(values[n][k][y][x] for y in ys for x in xs)
        for n in range(b)
        for k in range(c)
        for ys in rows
        for xs in columns
    ]
    return torch.stack(cells).reshape(b, c, height, width)


def of_one_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the smaller height and width of the two."""
    if a.dim() == b.dim() == 3 and a.shape[1] != b.shape[1] and tokens_in_front(a) and tokens_in_front(b):
        a, b = as_grid(a), as_grid(b)
    a, b = as_map(a), as_map(b)
    height, width = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    return pooled(a, height, width), pooled(b, height, width)


def from_the_last(a: Sequence[Tensor], b: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pairs of stages, counted from the last, in the order of the forward pass."""
    return list(zip(reversed(a), reversed(b), strict=False))[::-1]


def mapped(f: Tensor, weight: Tensor) -> Tensor:
    """A 1x1 convolution of a map (B, c, h, w) by a matrix (d, c)."""
    b, _, h, w = f.shape
    values, matrix = scalars(f.permute(0, 2, 3, 1)), scalars(weight)
    cells = [
        total(u * v for u, v in zip(row, values[n][y][x], strict=True))
        for n in range(b)
        for row in matrix
        for y in range(h)
        for x in range(w)
    ]
    return torch.stack(cells).reshape(b, len(weight), h, w)


def normalised(f: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """Batch normalisation in training of (B, c, h, w)."""
    channels = []
    for k in range(f.shape[1]):
        values = list(f[:, k].flatten())
        centre = mean(values)
        deviation = torch.sqrt(mean((v - centre) ** 2 for v in values) + 1e-5)
        by, plus = gain[k], offset[k]
        channels.append(torch.stack([(v - centre) / deviation * by + plus for v in values]))
    return torch.stack(channels).reshape(f.shape[1], len(f), *f.shape[2:]).transpose(0, 1)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """W x + b of one vector (d,)."""
    values = [total(u * v for u, v in zip(row, x, strict=True)) for row in weight]
    return torch.stack(values if bias is None else [v + b for v, b in zip(values, bias, strict=True)])


def convolved(f: Tensor, weight: Tensor) -> Tensor:
    """A 3x3 convolution with padding 1, one place of its kernel at a time: (B, c, h, w) -> (B, d, h, w)."""
    h, w = f.shape[2:]
    rim = torch.zeros(*f.shape[:2], h + 2, w + 2, dtype=f.dtype)
    rim[:, :, 1 : h + 1, 1 : w + 1] = f
    places = [(i, j) for i in range(3) for j in range(3)]
    return total(torch.einsum("dc,bchw->bdhw", weight[:, :, i, j], rim[:, :, i : i + h, j : j + w]) for i, j in places)


def relu(x: Tensor) -> Tensor:
    return torch.stack([v if v > 0 else 0 * v for v in x.flatten()]).reshape(x.shape)


def positions_mean(f: Tensor) -> Tensor:
    """Mean over the positions: (B, c, h, w) -> (B, c)."""
    return torch.stack([torch.stack([mean(channel.flatten()) for channel in sample]) for sample in f])
