"""Methods that train networks of their own beside the student: these are run as they are, losses are written out."""

from collections.abc import Sequence
from math import exp
from typing import Any

import torch
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Outputs

from .sums import (
    affine,
    as_map,
    convolved,
    cross_entropy,
    kl,
    length,
    mean,
    normalised,
    pooled,
    positions_mean,
    relu,
    softened_kl,
    softmax,
    total,
)

Terms = dict[str, Tensor]


def _ramp(progress: float) -> float:
    """Of 300 epochs, the first 80."""
    return exp(-5 * (1 - min(1.0, 300 * progress / 80)) ** 2)


def dml(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Zhang et al. 2018, eq. 7-8, for three networks."""
    z = [s.logits, *(peer(batch.x).logits for peer in method.peers())]

    def learnt(k: int) -> Tensor:
        return mean(softened_kl(z[k], z[j].detach(), method.temperature) for j in range(3) if j != k)

    return {
        "dml": learnt(0),
        "dml_peers": learnt(1) + learnt(2),
        "dml_peers_ce": total(cross_entropy(logits, batch.y) for logits in z[1:]),
    }


def one(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Lan et al. 2018, eq. 4-8: the gate reads the pooled trunk, and normalises it over the batch afterwards."""
    trunk = s.features[method.branches.stage]
    z = [s.logits, *(tail(trunk).logits for tail in method.branches.tails)]
    layer, norm = method.gate[0], method.gate[1]
    scores = torch.stack([affine(h, layer.weight) for h in positions_mean(as_map(trunk))])
    scores = relu(normalised(scores[:, :, None, None], norm.weight, norm.bias)[:, :, 0, 0])
    gates = [softmax(row) for row in scores]
    rows = [total(g[i] * z[i][b] for i in range(3)) for b, g in enumerate(gates)]
    ensemble = torch.stack(rows)
    learnt = [_ramp(batch.progress) * softened_kl(own, ensemble.detach(), method.temperature) for own in z]
    return {
        "one": learnt[0],
        "one_branches": learnt[1] + learnt[2],
        "one_ce": total(cross_entropy(logits, batch.y) for logits in (*z[1:], ensemble)),
    }


def okddip(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Chen et al. 2020, eq. 4-8: both levels of distillation are ramped."""
    t, peers = method.temperature, [tail(s.features[method.branches.stage]) for tail in method.branches.tails]
    leader, auxiliary = [], []
    for b in range(len(s.logits)):
        q = [softmax(peer.logits[b].detach(), t) for peer in peers]
        left, right = (
            [affine(peer.embedding[b], side.weight) for peer in peers] for side in (method.left, method.right)
        )
        for a, peer in enumerate(peers):
            w = softmax([total(u * v for u, v in zip(left[a], r, strict=True)) for r in right])
            mixed = [total(w[c] * q[c][k] for c in range(len(peers))) for k in range(len(q[0]))]
            auxiliary.append(kl(mixed, softmax(peer.logits[b], t)))
        shown = [mean(one[k] for one in q) for k in range(len(q[0]))]
        leader.append(kl(shown, softmax(s.logits[b], t)))
    weight = _ramp(batch.progress) * t**2 / len(s.logits)
    return {
        "okddip": weight * total(leader),
        "okddip_peers": weight * total(auxiliary),
        "okddip_ce": total(cross_entropy(peer.logits, batch.y) for peer in peers),
    }


def byot(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Zhang et al. 2019, eq. 5."""
    maps = [as_map(f) for f in s.features]
    labels, soft, hints = [], [], []
    for leave, f in zip(method.exits, maps[:-1], strict=True):
        small = pooled(f, *maps[-1].shape[2:])
        hidden = normalised(convolved(small, leave.convolution.weight), leave.norm.weight, leave.norm.bias)
        own = positions_mean(relu(hidden))
        z = torch.stack([affine(e, leave.classifier.weight, leave.classifier.bias) for e in own])
        labels.append(cross_entropy(z, batch.y))
        soft.append(softened_kl(z, s.logits.detach(), method.temperature))
        wanted = s.embedding.detach()
        hints.append(mean(total((u - v) ** 2 for u, v in zip(*pair, strict=True))
                          for pair in zip(own, wanted, strict=True)))  # fmt: skip
    return {"byot_ce": 0.7 * total(labels), "byot": 0.3 * total(soft), "byot_feature": 0.03 * total(hints)}


def bake(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Ge et al. 2021, eq. 2-6: (1 - w) (I - w A)^-1 P as the series (1 - w) sum_k (w A)^k P."""
    t, b = method.temperature, len(s.logits)
    z, e = s.logits.detach(), s.embedding.detach()
    p = torch.stack([torch.stack(softmax(row, t)) for row in z])
    if b == 1:
        return {"bake": t**2 * kl(list(p[0]), softmax(s.logits[0], t))}
    unit = [[x / length(row) for x in row] for row in e]
    a = torch.zeros(b, b, dtype=torch.float64)
    for i in range(b):
        others = [j for j in range(b) if j != i]
        cosines = [total(u * v for u, v in zip(unit[i], unit[j], strict=True)) for j in others]
        for j, share in zip(others, softmax(cosines), strict=True):
            a[i, j] = share
    q, power = torch.zeros_like(p), p
    for _ in range(100):
        q, power = q + 0.5 * power, 0.5 * torch.stack([total(a[i, j] * power[j] for j in range(b)) for i in range(b)])
    return {"bake": t**2 * mean(kl(list(q[i]), softmax(s.logits[i], t)) for i in range(b))}


def adversarial_logits(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Xu et al. 2018, eq. 3-7: D tells the teacher's logits from the student's, and names the class of both."""
    layers = [m for m in method.discriminator if isinstance(m, nn.Linear)]

    def says(z: Tensor, frozen: bool) -> list[Tensor]:
        h = z
        for i, layer in enumerate(layers):
            weight, bias = (w.detach() if frozen else w for w in (layer.weight, layer.bias))
            h = torch.stack([torch.stack([row @ sample for row in weight]) + bias for sample in h])
            h = h if i == len(layers) - 1 else torch.where(h > 0, h, 0.2 * h)
        return list(h)

    def loss(verdicts: list[Tensor], real: bool) -> Tensor:
        p = [1 / (1 + torch.exp(-v[0])) for v in verdicts]
        origin = mean(-torch.log(v if real else 1 - v) for v in p)
        return origin + cross_entropy(torch.stack([v[1:] for v in verdicts]), batch.y)

    z_s, z_t = s.logits, teachers[0].logits
    return {
        "adversarial_logits_l1": mean(abs(u - v) for u, v in zip(z_s.flatten(), z_t.flatten(), strict=True)),
        "adversarial_logits_fooling": loss(says(z_s, frozen=True), real=True),
        "adversarial_logits_discriminator": loss(says(z_t, frozen=False), real=True)
        + loss(says(z_s.detach(), frozen=False), real=False),
    }


def adversarial_online(method: Any, s: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
    """Chung 2020: CE_k + T^2 KL(q_o || q_k) + w [1 - D_k(f_k)]^2; D_k: [1 - D_k(f_o)]^2 + D_k(f_k)^2, o the other."""
    peer = method.peer(batch.x)
    maps = as_map(s.features[-1]), as_map(peer.features[-1])

    def verdicts(d: Any, f: Tensor, frozen: bool) -> list[Tensor]:
        weights = [w.detach() if frozen else w for w in (d.first.weight, d.first.bias, d.second.weight, d.second.bias)]
        hidden = convolved(f, weights[0]) + weights[1][:, None, None]
        hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
        score, offset = weights[2][0, :, 0, 0], weights[3][0]
        raw = [mean((score @ place) + offset for place in sample.flatten(1).T) for sample in hidden]
        return [1 / (1 + torch.exp(-v)) for v in raw]

    def told(d: Any, own: Tensor, other: Tensor) -> Tensor:
        real, fake = verdicts(d, other.detach(), frozen=False), verdicts(d, own.detach(), frozen=False)
        return mean((1 - v) ** 2 for v in real) + mean(v**2 for v in fake)

    (d_s, d_p), t = method.discriminators, method.temperature
    terms = {
        "kl": softened_kl(s.logits, peer.logits.detach(), t),
        "peer_kl": softened_kl(peer.logits, s.logits.detach(), t),
        "fooling": 0.1 * mean((1 - v) ** 2 for v in verdicts(d_s, maps[0], frozen=True)),
        "peer_fooling": 0.1 * mean((1 - v) ** 2 for v in verdicts(d_p, maps[1], frozen=True)),
        "peer_ce": cross_entropy(peer.logits, batch.y),
        "discriminators": told(d_s, *maps) + told(d_p, *reversed(maps)),
    }
    return {f"adversarial_online_{name}": term for name, term in terms.items()}


FORMULAS = {f.__name__: f for f in (dml, one, okddip, byot, bake, adversarial_logits, adversarial_online)}
