"""Response-based methods, several teachers, and students of methods that make their samples up."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nas_kd.methods.base import Batch, Outputs

from .feature import hint
from .sums import from_the_last, kl, length, mean, mean_square, softened_kl, softmax, total

Terms = dict[str, Tensor]


def none(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    return {}


def label_smoothing(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Szegedy et al. 2016, section 7: a tenth of the label goes to all classes alike."""
    return {"label_smoothing": 0.1 * mean(mean(-q.log() for q in softmax(z, 1.0)) for z in s.logits)}


def soft_targets(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    return {"soft_targets": 0.9 * softened_kl(s.logits, teachers[0].logits, method.temperature)}


def logits(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    return {"logits": 0.1 * mean_square(s.logits, teachers[0].logits)}


def embedding(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Yu et al. 2019, eq. 2, of vectors of length 1."""
    pairs = [(z / length(z), w / length(w)) for z, w in zip(s.logits, teachers[0].logits, strict=True)]
    return {"embedding": mean(total((u - v) ** 2) for u, v in pairs)}


def dkd(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Zhao et al. 2022, eq. 7: target against the rest, and among the rest; ramped over 20 of 240 epochs."""
    t, target, rest = method.temperature, [], []
    for z_s, z_t, y in zip(s.logits, teachers[0].logits, batch.y.tolist(), strict=True):
        q, p = softmax(z_s, t), softmax(z_t, t)
        target.append(kl([p[y], 1 - p[y]], [q[y], 1 - q[y]]))
        p_rest, q_rest = ([v / (1 - r[y]) for k, v in enumerate(r) if k != y] for r in (p, q))
        rest.append(kl(p_rest, q_rest))
    ramp = min(1.0, batch.progress * 240 / 20)
    return {"dkd_target": ramp * t**2 * mean(target), "dkd_rest": ramp * 2 * t**2 * mean(rest)}


def dist(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Huang et al. 2022, eq. 7-9: 1 - Pearson's correlation over the classes, and over the samples of each class."""
    t = method.temperature
    q, p = ([softmax(z, t) for z in o.logits] for o in (s, teachers[0]))
    columns = [([row[c] for row in q], [row[c] for row in p]) for c in range(len(q[0]))]
    return {
        "dist_classes": 2 * t**2 * mean(1 - _pearson(a, b) for a, b in zip(q, p, strict=True)),
        "dist_samples": 2 * t**2 * mean(1 - _pearson(a, b) for a, b in columns),
    }


def _pearson(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Of the student's and the teacher's values; a deviation below 3 % of the student's length is bounded."""
    u, v = ([x - mean(side) for x in side] for side in (a, b))
    bound = 0.03 * length([x.detach() for x in a])
    deviation = length(u)
    deviation = deviation if deviation > bound else bound
    return total(x * y for x, y in zip(u, v, strict=True)) / (deviation * length(v))


def average_teachers(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    t, values = method.temperature, []
    for b, z in enumerate(s.logits):
        shown = [softmax(o.logits[b], t) for o in teachers]
        values.append(kl([mean(p[c] for p in shown) for c in range(len(z))], softmax(z, t)))
    return {"average_teachers": 0.9 * t**2 * mean(values)}


def random_teacher(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """The teacher that torch's generator draws."""
    drawn = teachers[int(torch.randint(len(teachers), ()))]
    return {"random_teacher": 0.9 * softened_kl(s.logits, drawn.logits, method.temperature)}


def adaptive_teachers(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Liu et al. 2020: targets mixed sample by sample; hints as FitNets', of each teacher at another stage."""
    t, values = method.temperature, []
    for b, z in enumerate(s.logits):
        e = s.embedding[b].detach()
        weights = softmax(
            [total(v * (w * x) for v, w, x in zip(method.v[0], th, e, strict=True)) for th in method.theta]
        )
        shown = [softmax(o.logits[b], t) for o in teachers]
        mixed = [total(w * p[c] for w, p in zip(weights, shown, strict=True)) for c in range(len(z))]
        values.append(kl(mixed, softmax(z, t)))
    terms = {"adaptive_teachers": 0.7 * t**2 * mean(values)}
    stages = [from_the_last(s.features, o.features) for o in teachers]
    pairs = [found[-1 - i % len(found)] for i, found in enumerate(stages) if found]
    if pairs:
        hints = [hint(r, f_s, f_t) for r, (f_s, f_t) in zip(method.adapters, pairs, strict=True)]
        terms["adaptive_hints"] = total(hints)
    return terms


def born_again(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    return {"born_again": softened_kl(s.logits, teachers[0].logits, method.temperature)}


def cross_modal(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Gupta et al. 2016: squared distance of embeddings, behind an affine map where their widths differ."""
    e_s, e_t = s.embedding, teachers[0].embedding
    if e_s.shape[1] != e_t.shape[1]:
        weight, bias = method.adapter.weight, method.adapter.bias
        rows = [[total(w * x for w, x in zip(row, e, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
                for e in e_s]  # fmt: skip
        e_s = torch.stack([torch.stack(row) for row in rows])
    return {
        "cross_modal_logits": 0.9 * softened_kl(s.logits, teachers[0].logits, method.temperature),
        "cross_modal_embedding": mean_square(e_s, e_t),
    }


def dafl(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    return {"dafl": softened_kl(s.logits, teachers[0].logits, method.temperature)}


def deep_inversion(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    return {"deep_inversion": softened_kl(s.logits, teachers[0].logits, method.temperature)}


FORMULAS = {
    f.__name__: f
    for f in (none, label_smoothing, soft_targets, logits, embedding, dkd, dist, average_teachers, random_teacher,
              adaptive_teachers, born_again, cross_modal, dafl, deep_inversion)
}  # fmt: skip
