"""Losses beside the usual terms equal their formulas, too: of made-up samples, of sub-networks, and of whole chains."""

import pytest
import torch

from nas_kd.kd.chain_policies.dense import make_dense
from nas_kd.kd.chain_policies.residual import ResidualError
from nas_kd.methods.base import Batch, Outputs
from nas_kd.methods.data_free.dafl import DAFL
from nas_kd.methods.data_free.deep_inversion import DeepInversion, agreement
from nas_kd.methods.data_free.synthetic_images import CriticOutput, bn_distance
from nas_kd.methods.sandwich import Sandwich
from nas_kd.results.candidate import Architecture

from .formulas.compare import C, differences
from .formulas.sums import cross_entropy, kl, length, mean, scalars, softened_kl, softmax, total
from .toys import outputs


def test_dafl_trains_its_generator_by_the_formula() -> None:
    """Chen et al. 2019, eq. 2-6, and the statistics' distance: values, and gradients on all that the teacher shows."""
    z, e = (x.requires_grad_() for x in (outputs(0, 3, C).logits, outputs(1, 3, C, embedding=5).embedding))
    distance = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    fast = DAFL().generator_loss(CriticOutput(Outputs(z, (), e), distance))
    p = [softmax(row) for row in z]
    one_hot = mean(-torch.log(max(row, key=lambda v: v.detach())) for row in p)
    shares = [mean(row[c] for row in p) for c in range(C)]
    entropy = total(m * torch.log10(m) for m in shares)
    slow = one_hot + 5 * entropy - 0.1 * mean(abs(v) for v in e.flatten()) + distance
    assert (
        differences({"L_G": fast}, {"L_G": slow}, {"z": z, "e": e, "D": distance}, rtol=1e-6) == []
    )  # log 10 is a float32 there


def test_inversion_optimises_its_images_by_the_formula() -> None:
    """Yin et al. 2020, eq. 2-3, in means, and 1 - JS of eq. 7-8."""
    z_t, z_s = (outputs(i, 3, C).logits.requires_grad_() for i in range(2))
    x = outputs(2, 3, C, [(2, 4, 3)]).features[0].requires_grad_()
    distance, y = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), torch.tensor([2, 0, 1])
    shown = CriticOutput(Outputs(z_t, (), z_t), distance)
    fast = {"L_x": DeepInversion().image_loss(x, y, shown), "agreement": agreement(z_t, z_s)}
    pixels = scalars(x)
    down = [(b[c][i + 1][j] - b[c][i][j]) ** 2 for b in pixels for c in range(2) for i in range(3) for j in range(3)]
    across = [(b[c][i][j + 1] - b[c][i][j]) ** 2 for b in pixels for c in range(2) for i in range(4) for j in range(2)]
    slow = (
        cross_entropy(z_t, y) + distance + 0.01 * (mean(down) + mean(across)) + 0.01 * mean(v**2 for v in x.flatten())
    )
    divergences = []
    for p, q in ((softmax(a), softmax(b)) for a, b in zip(z_t, z_s, strict=True)):
        middle = [(u + v) / 2 for u, v in zip(p, q, strict=True)]
        divergences.append((kl(p, middle) + kl(q, middle)) / 2)
    by_formula = {"L_x": slow, "agreement": 1 - mean(divergences)}
    assert differences(fast, by_formula, {"x": x, "t": z_t, "s": z_s, "D": distance}, rtol=1e-6) == []


@pytest.mark.parametrize("shape", [(3, 2, 2, 3), (4, 3)])
def test_the_distance_of_statistics_is_that_of_its_formula(shape: tuple[int, ...]) -> None:
    """Yin et al. 2020, eq. 4, over the root of the width."""
    width = shape[1]
    x = outputs(0, shape[0], C, [shape[1:]]).features[0].requires_grad_()
    centre, spread = outputs(1, 1, width).logits[0], outputs(2, 1, width).logits[0].abs()
    channels = [list(c.flatten()) for c in x.transpose(0, 1)]
    means = [mean(c) for c in channels]
    variances = [mean((v - m) ** 2 for v in c) for c, m in zip(channels, means, strict=True)]
    gaps = (
        [a - b for a, b in zip(found, wanted, strict=True)] for found, wanted in ((means, centre), (variances, spread))
    )
    slow = total(length(gap) / width**0.5 for gap in gaps)
    assert differences({"D": bn_distance(x, centre, spread)}, {"D": slow}, {"x": x}, rtol=1e-4) == []  # float32 inside


def test_the_sandwich_rule_is_the_mean_of_soft_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {name: outputs(i, 3, C).logits.requires_grad_() for i, name in enumerate(("smallest", "random"))}
    architectures = [Architecture("toy", {"name": name}) for name in named]
    method = Sandwich(architectures[0], architectures[1:], n_random=1)
    monkeypatch.setattr(method, "_logits", lambda architecture, _: named[architecture.choices["name"]])
    s, t, y = outputs(5, 3, C), outputs(6, 3, C), torch.arange(3) % C
    named["largest"] = s.logits.requires_grad_()
    fast = method(s, [t], Batch(torch.zeros(3, 1), y, torch.arange(3), 0.5))
    slow = {
        "sandwich_ce": 0.1 * mean(cross_entropy(z, y) for z in named.values()),
        "sandwich": 0.9 * mean(softened_kl(z, t.logits, 4.0) for z in named.values()),
    }
    assert differences(fast, slow, named) == []


@pytest.mark.parametrize("taught", [True, False])
def test_a_residual_link_learns_the_error_of_the_sum(taught: bool) -> None:
    """Gao et al. 2021: the sum's own loss; frozen networks are constants."""
    s, frozen, t = outputs(0, 3, C), outputs(1, 3, C), outputs(2, 3, C)
    z, y = s.logits.requires_grad_(), torch.arange(3) % C
    fast = ResidualError(taught)(s, [frozen, t] if taught else [frozen], Batch(z, y, y, 0.5))
    summed = torch.stack([a + b for a, b in zip(z, frozen.logits, strict=True)])
    slow = {"residual_ce": (0.1 if taught else 1) * cross_entropy(summed, y)}
    assert (
        differences(fast, slow | ({"residual": 0.9 * softened_kl(summed, t.logits, 4.0)} if taught else {}), {"z": z})
        == []
    )


def test_dense_links_are_averaged_over_those_that_are_kept() -> None:
    """Son et al. 2021, eq. 6-7, with the survival of 0.75 drawn by torch's generator."""
    s, links = outputs(0, 3, C), [outputs(1 + i, 3, C) for i in range(3)]
    method, z = make_dense("soft_targets", 2.0, 1.0, teachers=3), s.logits.requires_grad_()
    for seed in range(4):
        torch.manual_seed(seed)
        kept = [link for link, drawn in zip(links, torch.rand(3).tolist(), strict=True) if drawn >= 0.25]
        torch.manual_seed(seed)
        fast = method(s, links, Batch(z, torch.zeros(3, dtype=torch.int64), torch.arange(3), 0.5))
        assert kept
        slow = {"soft_targets": 0.9 * mean(softened_kl(z, link.logits, 2.0) for link in kept)}
        assert differences(fast, slow, {"z": z}) == []
