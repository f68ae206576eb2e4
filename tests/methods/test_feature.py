"""`afd`, `fsp`, `channel_wise` and what lines feature maps up, against values worked out in float64 NumPy."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.methods.base import Method, Outputs
from nas_kd.methods.combine import make_method
from nas_kd.methods.feature.alignment import hint_regressor, paired_stages, pool_to_smaller, sum_of_squares

from .toys import Array, batch_of, kl, outputs, setting_of, softmax

METHODS = ["afd", "fsp", "channel_wise", "fitnet", "attention_transfer"]
Maps = Sequence[tuple[int, ...]]


def pair(s_maps: Maps, t_maps: Maps, b: int = 3) -> tuple[Outputs, Outputs]:
    return outputs(0, b, 4, s_maps), outputs(1, b, 4, t_maps)


def attached(name: str, student: Outputs, teacher: Outputs, temperature: float | None = None) -> Method:
    torch.manual_seed(0)
    method = make_method(name, temperature).double()
    method.attach(setting_of(student, [teacher]))
    return method.double()


def value(method: Method, student: Outputs, teacher: Outputs) -> Tensor:
    terms = method(student, [teacher], batch_of(len(student.logits), 4))
    assert list(terms) == [method.name]
    return terms[method.name]


def weights(method: Method) -> dict[str, Array]:
    return {k: v.detach().numpy() for k, v in method.named_parameters()}


def halved(f: Array) -> Array:
    b, c, h, w = f.shape
    return f.reshape(b, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))


def afd_stage(s: Array, t: Array, w: dict[str, Array], i: int) -> float:
    """Sample by sample, channel by channel."""
    if f"adapters.{i}.weight" in w:
        s = np.einsum("dc,bchw->bdhw", w[f"adapters.{i}.weight"][:, :, 0, 0], s)
    total = 0.0
    for f_s, f_t in zip(s, t, strict=True):
        g = f_t.mean(axis=(1, 2))
        w1, b1, w2, b2 = (w[f"attention.{i}.layers.{k}"] for k in ("0.weight", "0.bias", "2.weight", "2.bias"))
        a = 1 / (1 + np.exp(-(w2 @ np.maximum(w1 @ g + b1, 0) + b2)))
        for share, u, v in zip(a / a.sum(), f_s, f_t, strict=True):
            total += share * ((u / np.linalg.norm(u) - v / np.linalg.norm(v)) ** 2).mean()
    return total / len(s)


@pytest.mark.parametrize("b", [2, 5])
def test_afd_weighs_each_channels_normalised_map_by_the_teachers_attention(b: int) -> None:
    s, t = pair([(2, 8, 8), (3, 4, 4), (4, 2, 2)], [(5, 8, 8), (4, 2, 2)], b)
    method = attached("afd", s, t)
    w = weights(method)
    assert "adapters.1.weight" not in w  # as many channels: nothing to adapt
    (_, s1, s2), (t1, t2) = [f.numpy() for f in s.features], [f.numpy() for f in t.features]
    expected = 500 * (afd_stage(s1, halved(t1), w, 0) + afd_stage(s2, t2, w, 1)) / 2
    assert value(method, s, t).item() == pytest.approx(expected, rel=1e-9)


def test_afd_compares_large_maps_position_by_position() -> None:
    s, t = pair([(2, 32, 16)], [(3, 32, 16)], 2)
    method = attached("afd", s, t)
    whole = [o.features[0].numpy() for o in (s, t)]
    assert value(method, s, t).item() == pytest.approx(500 * afd_stage(*whole, weights(method), 0), rel=1e-9)


def test_afd_of_equal_features_is_nought_and_of_dead_channels_finite() -> None:
    s, t = pair([(3, 4, 4)], [(3, 4, 4)])
    method = attached("afd", s, t)
    assert value(method, t, t).item() == pytest.approx(0, abs=1e-9)
    dead = torch.zeros(3, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    loss = value(method, s._replace(features=(dead,)), t)
    assert loss.item() == pytest.approx(500 / 16)  # what is left is the teacher's map of unit length
    loss.backward()  # type: ignore[no-untyped-call]
    assert dead.grad is not None
    assert torch.isfinite(dead.grad).all()


@pytest.mark.parametrize("b", [2, 5])
def test_fsp_compares_channel_products_of_consecutive_stages(b: int) -> None:
    s, t = pair([(9, 8, 8), (2, 8, 8), (3, 4, 4), (5, 2, 2)], [(6, 4, 4), (3, 2, 2), (7, 2, 2)], b)
    method = attached("fsp", s, t)
    w = weights(method)

    def flow(first: Array, second: Array) -> Array:
        first = halved(first) if first.shape[2] > second.shape[2] else first
        return np.einsum("bchw,bdhw->bcd", first, second) / (first.shape[2] * first.shape[3])

    adapters = [w.get(f"adapters.{i}.weight", np.eye(3)) for i in range(3)]
    adapted = [  # the convolution itself, which the method never runs
        np.einsum("dc,bchw->bdhw", a, f.numpy()) for a, f in zip(adapters, s.features[1:], strict=True)
    ]
    taught = [f.numpy() for f in t.features]
    expected = sum(((flow(adapted[i], adapted[i + 1]) - flow(taught[i], taught[i + 1])) ** 2).mean() for i in range(2))
    assert value(method, s, t).item() == pytest.approx(50 * float(expected), rel=1e-9)


@pytest.mark.parametrize(("b", "temperature"), [(2, 1.0), (4, 4.0)])
def test_channel_wise_is_the_kl_over_positions_mean_over_samples_and_channels(b: int, temperature: float) -> None:
    s, t = pair([(2, 8, 8), (3, 4, 4)], [(5, 8, 8)], b)
    method = attached("channel_wise", s, t, temperature)
    adapted = np.einsum("dc,bchw->bdhw", weights(method)["adapter.weight"][:, :, 0, 0], s.features[1].numpy())
    q, p = (softmax(f.reshape(b * 5, 16), temperature) for f in (adapted, halved(t.features[0].numpy())))
    assert value(method, s, t).item() == pytest.approx(3 * temperature**2 * kl(p, q), rel=1e-9)


def test_channel_wise_adds_nothing_where_channels_are_as_many() -> None:
    s, t = pair([(3, 4, 4)], [(3, 4, 4)])
    method = attached("channel_wise", s, t)
    assert not list(method.parameters())
    assert value(method, t, t).item() == pytest.approx(0, abs=1e-12)


ODD = [(2, 9, 7), (3, 5, 4), (4, 3, 2)]  # sizes that do not divide each other
PAIRS: dict[str, tuple[Maps, Maps]] = {
    "maps": ([(2, 8, 8), (3, 4, 4)], [(5, 8, 8), (6, 4, 4)]),
    "depths": (ODD, [(5, 8, 8), (6, 4, 4)]),
    "teacher shallower": ([(5, 8, 8), (6, 4, 4)], ODD),
    "tokens": ([(16, 5), (4, 6)], [(17, 3), (5, 7)]),
    "map and tokens": ([(2, 8, 8), (3, 4, 4)], [(16, 5), (5, 6)]),
    "tokens and map": ([(18, 5), (6, 6)], [(3, 8, 8), (4, 4, 4)]),
    "map then tokens": ([(2, 8, 8), (16, 5)], [(3, 8, 8), (17, 4)]),
    "one position": ([(2, 1, 2), (2, 1, 1)], [(3, 1, 2), (2, 1, 1)]),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("b", [2, 4])
def test_any_pair_gives_finite_gradients_to_student_and_adapters(name: str, case: str, b: int) -> None:
    s, t = pair(*PAIRS[case], b)
    method = attached(name, s, t).train()
    s = s._replace(features=tuple(f.requires_grad_() for f in s.features))
    value(method, s, t).backward()  # type: ignore[no-untyped-call]
    reached = [f.grad for f in s.features if f.grad is not None]
    assert reached
    assert all(torch.isfinite(g).all() for g in reached)
    for parameter in method.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
    assert not any(f.requires_grad for f in t.features)


@pytest.mark.parametrize("name", METHODS)
def test_equal_samples_and_empty_features_are_finite(name: str) -> None:
    for scale in (0.0, 1.0, 1e-20, 1e8):
        s, t = (
            o._replace(
                features=tuple((scale * f[:1].expand_as(f)).float() for f in o.features), logits=o.logits.float()
            )
            for o in pair([(2, 8, 8), (3, 4, 4)], [(5, 8, 8), (3, 4, 4)], 2)
        )
        method = attached(name, s, t).float()
        s = s._replace(features=tuple(f.requires_grad_() for f in s.features))
        loss = value(method, s, t)
        loss.backward()  # type: ignore[no-untyped-call]
        assert torch.isfinite(loss), scale
        assert all(torch.isfinite(f.grad).all() for f in s.features if f.grad is not None), scale


@pytest.mark.parametrize("name", ["afd", "fsp", "channel_wise", "attention_transfer"])
@pytest.mark.parametrize("t_map", [(3, 2, 2), (2, 2, 2)])
def test_gradients_are_those_of_the_value(name: str, t_map: tuple[int, ...]) -> None:
    s, t = pair([(2, 4, 4), (2, 2, 2)], [(3, 4, 4), t_map], 2)
    method = attached(name, s, t)

    def total(*features: Tensor) -> Tensor:
        return value(method, s._replace(features=features), t)

    assert torch.autograd.gradcheck(total, tuple(f.requires_grad_() for f in s.features))


@pytest.mark.parametrize("name", [m for m in METHODS if m != "fsp"])
def test_one_stage_is_enough(name: str) -> None:
    s, t = pair([(2, 4, 4)], [(3, 8, 8), (5, 4, 4)])
    assert torch.isfinite(value(attached(name, s, t), s, t))


def test_fsp_says_that_it_needs_two_stages() -> None:
    s, t = pair([(2, 4, 4)], [(3, 8, 8), (5, 4, 4)])
    with pytest.raises(InputError) as caught:
        attached("fsp", s, t)
    message = "method 'fsp' needs two stages (resolutions) or more; the student has 1, the teacher 2"
    assert str(caught.value) == message


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("maps", "who"), [(([], [(2, 4, 4)]), "student"), (([(2, 4, 4)], []), "teacher")])
def test_a_network_without_feature_maps_is_refused(name: str, maps: tuple[Maps, Maps], who: str) -> None:
    with pytest.raises(InputError, match=f"compares feature maps, and the {who} has none") as caught:
        attached(name, *pair(*maps))
    assert "\n" not in str(caught.value)


def test_stages_are_paired_from_the_last() -> None:
    s, t = pair([(2, 8, 8), (3, 4, 4), (4, 2, 2)], [(5, 4, 4), (6, 2, 2)])
    assert [(a.shape[1], b.shape[1]) for a, b in paired_stages(s.features, t.features)] == [(3, 5), (4, 6)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("size", "smaller"), [((8, 8), (4, 4)), ((6, 9), (2, 9)), ((7, 5), (3, 2)), ((6, 4), (3, 3))])
def test_pooling_is_that_of_torch(layout: torch.memory_format, size: Sequence[int], smaller: Sequence[int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64).to(memory_format=layout)
    small = torch.zeros(2, 4, *smaller, dtype=torch.float64)
    pooled, same = pool_to_smaller(x, small)
    torch.testing.assert_close(pooled, F.adaptive_avg_pool2d(x, tuple(smaller)))
    assert same is small


def test_tokens_beside_a_map_are_its_patches_row_by_row() -> None:
    image = torch.arange(2 * 3 * 16.0).view(2, 3, 4, 4)
    patches = image.flatten(2).transpose(1, 2)
    with_class = torch.cat([torch.full((2, 1, 3), -99.0), patches], dim=1)
    for tokens in (patches, with_class):
        assert torch.equal(pool_to_smaller(torch.zeros(2, 1, 4, 4), tokens)[1], image)


@pytest.mark.parametrize(("lowest", "behind_relu"), [(-1e-3, False), (0.0, True)])
def test_a_hint_without_negative_values_stands_behind_a_relu(lowest: float, behind_relu: bool) -> None:
    hint = torch.rand(2, 5, 4, 4) + lowest
    hint[0, 0, 0, 0] = lowest
    regressor = hint_regressor(torch.randn(2, 3, 4, 4), hint)
    assert [type(layer) for layer in regressor.children()] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU][: 2 + behind_relu]


@pytest.mark.parametrize("name", ["fitnet", "adaptive_teachers"])
def test_regressors_have_the_hints_own_non_linearity(name: str) -> None:
    s, t = outputs(0, 3, 4, [(2, 4, 4), (3, 2, 2)], 5), outputs(1, 3, 4, [(5, 4, 4), (6, 2, 2)], 5)
    rectified = t._replace(features=tuple(f.relu() for f in t.features))
    for teacher, expected in ((t, False), (rectified, True)):
        method = make_method(name)
        method.attach(setting_of(s, [teacher] * (2 if name == "adaptive_teachers" else 1)))
        assert any(isinstance(m, nn.ReLU) for m in method.modules()) == expected


def test_fsp_compares_the_flow_from_the_stem_too() -> None:
    s, t = pair([(2, 4, 4), (3, 2, 2)], [(2, 4, 4), (3, 2, 2)])
    without = value(attached("fsp", s, t), s, t)
    stems = outputs(7, 3, 4, [(2, 4, 4), (2, 4, 4)]).features
    s, t = s._replace(stem=stems[0]), t._replace(stem=stems[1])

    def flow(o: Outputs) -> Array:
        assert o.stem is not None
        return np.asarray(np.einsum("bchw,bdhw->bcd", o.stem.numpy(), o.features[0].numpy()) / 16)

    added = 50 * ((flow(s) - flow(t)) ** 2).mean()
    assert value(attached("fsp", s, t), s, t).item() == pytest.approx(without.item() + added, rel=1e-9)
    one_alone = value(attached("fsp", s, t._replace(stem=None)), s, t._replace(stem=None))
    assert one_alone.item() == pytest.approx(without.item(), rel=1e-9)


@pytest.mark.parametrize("dim", [1, 2])
def test_square_sums(dim: int) -> None:
    x = outputs(0, 3, 2, [(5, 4)]).features[0].requires_grad_()
    torch.testing.assert_close(sum_of_squares(x, dim), x.square().sum(dim))
    assert torch.autograd.gradcheck(lambda y: sum_of_squares(y, dim), x)
