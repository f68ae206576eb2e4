"""Relation-based methods."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from nas_kd.methods.base import Batch, Outputs

from .sums import affine, from_the_last, length, mean, mean_square, of_one_size, scalars, total

Terms = dict[str, Tensor]
ZERO = torch.zeros((), dtype=torch.float64)


def _huber(x: Tensor) -> Tensor:
    return x**2 / 2 if abs(float(x.detach())) <= 1 else abs(x) - 0.5


def rkd(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Park et al. 2019, eq. 5-9."""
    b = len(s.logits)

    def distances(e: Tensor) -> dict[tuple[int, int], Tensor]:
        d = {(i, j): length(e[i] - e[j]) if i != j else ZERO for i, j in product(range(b), repeat=2)}
        unit = mean(v for v in d.values() if v > 0)
        return {pair: v / unit for pair, v in d.items()}

    def cosine(e: Tensor, i: int, j: int, k: int) -> Tensor:
        if j in (i, k):
            return ZERO
        u, v = e[i] - e[j], e[k] - e[j]
        return total(x * y for x, y in zip(u, v, strict=True)) / (length(u) * length(v))

    e_s, e_t = s.embedding, teachers[0].embedding
    d_s, d_t = distances(e_s), distances(e_t)
    angles = [_huber(cosine(e_s, *at) - cosine(e_t, *at)) for at in product(range(b), repeat=3)]
    return {"rkd_distance": 25 * mean(_huber(d_s[at] - d_t[at]) for at in d_s), "rkd_angle": 50 * mean(angles)}


def irg(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Liu et al. 2019: vertices, edges (the mean of the graphs' losses), transformations between two stages."""
    t, b = teachers[0], len(s.logits)

    def over_maximum(values: list[Tensor]) -> Tensor:
        largest = values[0]
        for value in values:
            largest = value if value > largest else largest
        return torch.stack([value / largest for value in values])

    def edges(f: Tensor) -> Tensor:
        pairs = product(scalars(f.flatten(1)), repeat=2)
        return over_maximum([total((u - v) ** 2 for u, v in zip(*pair, strict=True)) for pair in pairs])

    def fewer_channels(f: Tensor, n: int) -> Tensor:
        c = f.shape[1]
        windows = [f[:, k * c // n : -(-(k + 1) * c // n)] for k in range(n)]
        return torch.stack([torch.stack([mean(w[i]) for w in windows]) for i in range(b)])

    def moved(earlier: Tensor, later: Tensor) -> Tensor:
        x, y = of_one_size(earlier, later)
        few = min(x.shape[1], y.shape[1])
        x, y = fewer_channels(x, few), fewer_channels(y, few)
        return over_maximum([total((u - v) ** 2 for u, v in zip(x[i].flatten(), y[i].flatten(), strict=True))
                             for i in range(b)])  # fmt: skip

    stages = from_the_last(s.features, t.features)[-2:]
    graphs = [*stages, (s.embedding, t.embedding)]
    terms = {
        "irg_vertices": 0.1 * mean_square(s.logits, t.logits),
        "irg_edges": 5 * mean(mean_square(edges(f), edges(g)) for f, g in graphs),
    }
    if len(stages) == 2:
        (s_1, t_1), (s_2, t_2) = stages
        terms["irg_transformations"] = 5 * mean_square(moved(s_1, s_2), moved(t_1, t_2))
    return terms


def similarity(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Tung & Mori 2019, eq. 3-4."""
    b = len(s.logits)

    def rows(f: Tensor) -> list[list[Tensor]]:
        samples = scalars(f.flatten(1))
        g = [[total(u * v for u, v in zip(one, other, strict=True)) for other in samples] for one in samples]
        return [[v / whole for v in row] for row, whole in zip(g, map(length, g), strict=True)]

    g_s, g_t = rows(s.features[-1]), rows(teachers[0].features[-1])
    squares = [(g_s[i][j] - g_t[i][j]) ** 2 for i in range(b) for j in range(b)]
    return {"similarity": 3000 * total(squares) / b**2}


def crd(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Tian et al. 2020, eq. 17-19: noise-contrastive estimation against both banks, for negatives that are drawn."""
    negatives = method._draw(batch).tolist()
    n, k = len(method.student_bank), len(negatives[0])

    def projected(layer: Any, e: Tensor) -> Tensor:
        v = affine(e, layer.weight, layer.bias)
        return v / length(v)

    def nce(vectors: list[Tensor], bank: Tensor) -> Tensor:
        drawn = [[own, *others] for own, others in zip(batch.indices.tolist(), negatives, strict=True)]
        scores = [[torch.exp(v @ bank[at] / 0.07) for at in places] for v, places in zip(vectors, drawn, strict=True)]
        z = n * float(mean(x.detach() for row in scores for x in row))  # of the first batch, a constant
        losses = []
        for row in scores:
            h = [x / z / (x / z + k / n) for x in row]
            losses.append(-torch.log(h[0]) - total(torch.log(1 - v) for v in h[1:]))
        return mean(losses)

    v_s = [projected(method.student_projection, e) for e in s.embedding]
    v_t = [projected(method.teacher_projection, e) for e in teachers[0].embedding]
    return {"crd": 0.8 * nce(v_s, method.teacher_bank), "crd_teacher": 0.8 * nce(v_t, method.student_bank)}


FORMULAS = {f.__name__: f for f in (rkd, irg, similarity, crd)}
