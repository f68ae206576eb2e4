"""Distances, angles and graphs: closed forms in float64 NumPy, and what samples that coincide do."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from nas_kd.methods.base import Outputs
from nas_kd.methods.combine import make_method
from nas_kd.methods.relation import rkd

from .test_crd import saved_bytes
from .toys import Array, batch_of, outputs

MAPS = [(2, 8, 8), (3, 4, 4), (5, 2, 2)]


def huber(x: Array) -> Array:
    return np.where(np.abs(x) <= 1, 0.5 * x**2, np.abs(x) - 0.5)


def embedded(e: Tensor) -> Outputs:
    return Outputs(torch.zeros(len(e), 3, dtype=e.dtype), (), e)


def total(name: str, student: Outputs, teacher: Outputs) -> Tensor:
    b = len(student.logits)
    return torch.stack(list(make_method(name)(student, [teacher], batch_of(b, 3)).values())).sum()


@pytest.mark.parametrize(("b", "d_s", "d_t"), [(2, 3, 4), (5, 4, 7), (6, 1, 2), (9, 2, 1)])
def test_rkd(b: int, d_s: int, d_t: int) -> None:
    """One-dimensional embeddings have cosines of 1 and -1 only: differences beyond huber's bend."""
    s, t = outputs(0, b, 3, embedding=d_s), outputs(1, b, 3, embedding=d_t)

    def distances(e: Array) -> Array:
        d = np.array([[np.sqrt(sum((x - y) ** 2)) for x in e] for y in e])
        return np.asarray(d / d[d > 0].mean())

    def angles(e: Array) -> Array:
        a = np.zeros((b, b, b))
        for i, j, k in product(range(b), repeat=3):
            if j not in (i, k):
                u, v = e[i] - e[j], e[k] - e[j]
                a[i, j, k] = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
        return a

    e_s, e_t = s.embedding.numpy(), t.embedding.numpy()
    terms = make_method("rkd")(s, [t], batch_of(b, 3))
    assert terms["rkd_distance"].item() == pytest.approx(25 * huber(distances(e_s) - distances(e_t)).mean())
    assert terms["rkd_angle"].item() == pytest.approx(50 * huber(angles(e_s) - angles(e_t)).mean(), abs=1e-12)


def test_rkd_in_small_groups_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    t = outputs(1, 7, 3, embedding=5).embedding
    results = []
    for size in (2**18, 2 * 7**2, 1):
        monkeypatch.setattr(rkd, "TRIPLETS_AT_ONCE", size)
        s = outputs(0, 7, 3, embedding=4).embedding.requires_grad_()
        loss = rkd.angle_loss(s, t)
        results.append((loss.item(), *torch.autograd.grad(loss, s)[0].flatten().tolist()))
    assert results[1] == pytest.approx(results[0], rel=1e-9)
    assert results[2] == pytest.approx(results[0], rel=1e-9)


def test_rkd_knows_no_scale_no_shift_and_no_rotation() -> None:
    t = outputs(1, 6, 3, embedding=4)
    rotation = torch.linalg.qr(outputs(2, 4, 4).logits)[0]
    assert total("rkd", embedded(7 * t.embedding @ rotation + 3), t).item() == pytest.approx(0, abs=1e-12)
    assert total("rkd", outputs(3, 6, 3, embedding=4), t).item() > 0.1


@pytest.mark.parametrize("name", ["rkd", "irg"])
@pytest.mark.parametrize("b", [2, 4])
def test_gradients(name: str, b: int) -> None:
    s, t = outputs(0, b, 3, MAPS, 4), outputs(1, b, 3, [(4, 4, 4), (2, 2, 2)], 5)
    s = Outputs(s.logits, s.features[1:], s.embedding)

    def loss(logits: Tensor, earlier: Tensor, later: Tensor, embedding: Tensor) -> Tensor:
        return total(name, Outputs(logits, (earlier, later), embedding), t)

    inputs = [x.requires_grad_() for x in (s.logits, *s.features, s.embedding)]
    assert torch.autograd.gradcheck(loss, inputs)


def coinciding() -> dict[str, Tensor]:
    """Batches in which samples coincide, exactly or up to rounding."""
    e = outputs(0, 6, 3, embedding=4).embedding.float()
    pair = e.clone()
    pair[1] = pair[0]
    rounding = (100 * e[:1]).expand(6, -1) * (1 + 1e-7 * e.sign())
    assert (rounding[0] != rounding[1]).any()
    return {"pair": pair, "all": e[:1].repeat(6, 1), "zero": torch.zeros(6, 4), "two": e[:1].repeat(2, 1),
            "rounding": rounding}  # fmt: skip


@pytest.mark.parametrize("name", ["rkd", "irg"])
@pytest.mark.parametrize("case", coinciding())
@pytest.mark.parametrize("whose", ["student", "teacher", "both"])
def test_samples_that_coincide(name: str, case: str, whose: str) -> None:
    """Finite and of a reasonable size; nothing tells samples apart that are all the same."""
    e = coinciding()[case]
    other = outputs(3, len(e), 3, embedding=4).embedding.float()
    e_s, e_t = (e if whose in (who, "both") else other for who in ("student", "teacher"))
    e_s = e_s.clone().requires_grad_()
    maps_s, maps_t = (tuple(x[:, :, None, None].expand(-1, -1, n, n) for n in (4, 2)) for x in (e_s, e_t))
    student, teacher = Outputs(e_s, maps_s, e_s), Outputs(e_t, maps_t, e_t)
    loss = total(name, student, teacher)
    assert torch.isfinite(loss)
    (gradient,) = torch.autograd.grad(loss, e_s)
    assert torch.isfinite(gradient).all()
    assert gradient.norm() < 1e3
    if name == "rkd" and case != "pair" and whose != "teacher":
        assert not gradient.any()


@pytest.mark.parametrize("name", ["rkd", "irg"])
def test_equal_student_and_teacher(name: str) -> None:
    t = outputs(1, 5, 3, MAPS, 4)
    s = t._replace(embedding=t.embedding.clone().requires_grad_())
    loss = total(name, s, t)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(loss, s.embedding)[0].abs().max() < 1e-6


def numpy_edges(f: Array) -> Array:
    flat = f.reshape(len(f), -1)
    d = ((flat[:, None] - flat) ** 2).sum(axis=2)
    return np.asarray(d / d.max())


def numpy_transformations(a: Array, b: Array) -> Array:
    """Maps with whole factors between their sizes, any channels."""
    factor = a.shape[2] // b.shape[2]
    a = np.asarray(a.reshape(*a.shape[:2], b.shape[2], factor, b.shape[3], factor).mean(axis=(3, 5)))
    few = min(a.shape[1], b.shape[1])

    def fewer(x: Array) -> Array:
        c = x.shape[1]
        windows = [(k * c // few, -(-(k + 1) * c // few)) for k in range(few)]
        return np.stack([x[:, start:end].mean(axis=1) for start, end in windows], axis=1)

    d = ((fewer(a) - fewer(b)) ** 2).sum(axis=(1, 2, 3))
    return np.asarray(d / d.max())


@pytest.mark.parametrize("b", [2, 5])
@pytest.mark.parametrize("teacher", [[(4, 4, 4), (9, 2, 2)], [(6, 8, 8), (4, 4, 4), (3, 1, 1)]])
def test_irg(b: int, teacher: list[tuple[int, ...]]) -> None:
    s, t = outputs(0, b, 4, MAPS, 6), outputs(1, b, 4, teacher, 3)
    terms = make_method("irg")(s, [t], batch_of(b, 4))
    s_maps, t_maps = ([f.numpy() for f in o.features[-2:]] for o in (s, t))
    pairs = [*zip(s_maps, t_maps, strict=True), (s.embedding.numpy(), t.embedding.numpy())]
    edges = np.mean([((numpy_edges(x) - numpy_edges(y)) ** 2).mean() for x, y in pairs])
    moved = numpy_transformations(*s_maps) - numpy_transformations(*t_maps)
    assert terms["irg_vertices"].item() == pytest.approx(0.1 * ((s.logits - t.logits) ** 2).mean().item())
    assert terms["irg_edges"].item() == pytest.approx(5 * edges)
    assert terms["irg_transformations"].item() == pytest.approx(5 * (moved**2).mean())


def test_irg_does_not_depend_on_how_maps_lie_in_memory() -> None:
    s, t = outputs(0, 4, 3, MAPS, 4), outputs(1, 4, 3, MAPS, 4)
    laid_out = s._replace(features=tuple(f.contiguous(memory_format=torch.channels_last) for f in s.features))
    assert total("irg", laid_out, t).item() == pytest.approx(total("irg", s, t).item(), rel=1e-12)


@pytest.mark.parametrize(("maps", "terms"), [([], 2), ([(4, 2, 2)], 2), ([(6, 5), (3, 5)], 3)])
def test_irg_does_with_what_networks_show(maps: list[tuple[int, ...]], terms: int) -> None:
    """No maps at all, one stage, tokens."""
    s, t = outputs(0, 3, 4, maps, 6), outputs(1, 3, 4, MAPS, 3)
    found = make_method("irg")(s, [t], batch_of(3, 4))
    assert len(found) == terms
    assert all(torch.isfinite(v) for v in found.values())


def test_rkd_keeps_nothing_of_the_size_of_the_batch_cubed() -> None:
    s, t = (embedded(torch.randn(128, 32)) for _ in range(2))
    s.embedding.requires_grad_()
    assert saved_bytes(lambda: total("rkd", s, t)) < 2**20
