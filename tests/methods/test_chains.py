"""What chains make of methods: one copy a link with some links dropped, and learning what a sum still gets wrong."""

import numpy as np
import pytest
import torch

from nas_kd.kd.chain_policies.dense import make_dense
from nas_kd.kd.chain_policies.residual import ResidualError
from nas_kd.methods.combine import make_method

from .toys import Array, batch_of, kl, outputs, setting_of, softmax


def cross_entropy(z: Array, y: Array) -> float:
    return float(-np.log(softmax(z, 1.0)[np.arange(len(y)), y]).mean())


def test_dense_terms_are_the_mean_over_the_links_that_are_kept() -> None:
    torch.manual_seed(0)
    student, *links = (outputs(seed, 4, 3) for seed in range(3))
    method = make_dense("soft_targets", 2.0, 1.0, teachers=2)
    drawn = {round(method(student, links, batch_of(4, 3))["soft_targets"].item(), 9) for _ in range(200)}
    plain = make_method("soft_targets", 2.0)
    each = [plain(student, [link], batch_of(4, 3))["soft_targets"].item() for link in links]
    assert drawn == {round(v, 9) for v in (*each, float(np.mean(each)))}


def test_dense_has_adapters_of_its_own_for_every_link_and_leaves_methods_without_teachers_alone() -> None:
    student = outputs(0, 2, 3, [(2, 4, 4)])
    links = [outputs(1, 2, 3, [(5, 4, 4)]), outputs(2, 2, 3, [(7, 4, 4)])]
    method = make_dense("fitnet+none", None, 1.0, teachers=2)
    method.attach(setting_of(student, links))
    assert sorted(p.shape[0] for p in method.parameters() if p.dim() == 4) == [5, 7]
    assert [part.name for part in method.parts()] == ["fitnet", "none"]


@pytest.mark.parametrize("b", [2, 5])
def test_residual_is_soft_targets_on_the_sum(b: int) -> None:
    student, first, second, teacher = (outputs(seed, b, 4) for seed in range(4))
    batch = batch_of(b, 4)
    z = sum(o.logits.numpy() for o in (student, first, second))
    terms = ResidualError(taught=True)(student, [first, second, teacher], batch)
    expected = 0.9 * 16 * kl(softmax(teacher.logits.numpy(), 4.0), softmax(z, 4.0))
    assert terms["residual"].item() == pytest.approx(expected)
    assert terms["residual_ce"].item() == pytest.approx(0.1 * cross_entropy(z, batch.y.numpy()))
    alone = ResidualError(taught=False)(student, [first, second], batch)
    assert {k: v.item() for k, v in alone.items()} == {"residual_ce": pytest.approx(cross_entropy(z, batch.y.numpy()))}
