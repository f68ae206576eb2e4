"""Standardised logits and stages in turn: exact values, which methods they are for, and canonical forms."""

from collections.abc import Callable, Sequence
from itertools import pairwise, product
from math import exp, isfinite, log, sqrt

import pytest
import torch
from torch import Tensor

from nas_kd.engine.method_setup import loss_terms
from nas_kd.kd.chain_policies.dense import make_dense
from nas_kd.kd.chain_policies.residual import ResidualError
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.methods.feature.alignment import paired_stages
from nas_kd.methods.feature.fitnet import FitNet
from nas_kd.methods.losses import MIN_DEVIATION, standardized
from nas_kd.methods.stage_wise import OneStage
from nas_kd.methods.teaching import (
    can_follow_checkpoints,
    can_go_by_stage,
    learns_from_checkpoints,
    standardizable_parts,
    usable_teaching,
    with_teaching,
)
from nas_kd.plugins import available
from nas_kd.results.teaching import PROGRESSIONS, Teaching, share_at

from .toys import batch_of, outputs, setting_of

STANDARDIZED, STAGES = Teaching(standardize=True), Teaching(progression="stages")
MAPS = [(4, 8, 8), (6, 4, 4), (8, 2, 2)]


def z_scores(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Each row's values less their mean, over the root of their mean squared difference from it."""
    found = []
    for row in rows:
        mean = sum(row) / len(row)
        deviation = sqrt(sum((z - mean) ** 2 for z in row) / len(row))
        found.append([(z - mean) / deviation for z in row])
    return found


def softmax(row: Sequence[float], temperature: float) -> list[float]:
    total = sum(exp(z / temperature) for z in row)
    return [exp(z / temperature) / total for z in row]


def kl_of_rows(teacher: Sequence[Sequence[float]], student: Sequence[Sequence[float]], temperature: float) -> float:
    total = 0.0
    for t, s in zip(teacher, student, strict=True):
        p, q = softmax(t, temperature), softmax(s, temperature)
        total += sum(a * log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(teacher)


def test_logits_have_mean_0_and_deviation_1_in_each_sample() -> None:
    logits = outputs(0, 6, 5).logits
    expected = torch.tensor(z_scores(logits.tolist()), dtype=torch.float64)
    torch.testing.assert_close(standardized(logits), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(standardized(3 * logits + 7), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "logits", [[[2.0, 2.0, 2.0]], [[0.0, 0.0, 0.0]], [[1.0, 1.0]], [[1.0, -1.0]], [[1e-9, 0.0, 0.0]]]
)
def test_equal_logits_and_two_classes_give_no_nan(logits: list[list[float]]) -> None:
    z = torch.tensor(logits, requires_grad=True)
    scaled = standardized(z)
    (scaled * torch.arange(1.0, 1 + z.shape[1])).sum().backward()
    assert torch.isfinite(scaled).all()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert float(z.grad.abs().max()) <= z.shape[1] / MIN_DEVIATION
    if len(set(logits[0])) == 1:
        assert torch.equal(scaled, torch.zeros_like(z))
    if logits == [[1.0, -1.0]]:
        assert scaled.tolist() == logits


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_method_sees_standardised_logits_at_its_own_temperature(temperature: float) -> None:
    student, teacher = outputs(1, 6, 5), outputs(2, 6, 5)
    method = with_teaching(make_method("soft_targets", temperature), STANDARDIZED)
    terms = loss_terms(method, student, [teacher], batch_of(6, 5))
    expected = 0.9 * kl_of_rows(z_scores(teacher.logits.tolist()), z_scores(student.logits.tolist()), temperature)
    assert float(terms["soft_targets"]) == pytest.approx(expected, rel=1e-9)
    usual = loss_terms(make_method("soft_targets", temperature), student, [teacher], batch_of(6, 5))
    assert float(usual["soft_targets"]) == pytest.approx(
        0.9 * kl_of_rows(teacher.logits.tolist(), student.logits.tolist(), temperature), rel=1e-9
    )


def test_all_teachers_are_standardised_and_parts_without_logits_see_them_as_they_are() -> None:
    dense = with_teaching(make_dense("soft_targets", 4.0, 1.0, 2), STANDARDIZED)
    assert dense.sees_standardized
    several = with_teaching(make_method("average_teachers"), STANDARDIZED)
    student, teachers = outputs(1, 6, 5), [outputs(2, 6, 5), outputs(3, 6, 5)]
    scaled = [t._replace(logits=standardized(t.logits)) for t in (student, *teachers)]
    plain = loss_terms(make_method("average_teachers"), scaled[0], scaled[1:], batch_of(6, 5))
    assert loss_terms(several, student, teachers, batch_of(6, 5)) == plain
    first, second = with_teaching(make_method("dkd+similarity"), STANDARDIZED).parts()
    assert (first.sees_standardized, second.sees_standardized) == (True, False)


def names_of(usable: Callable[[Method], bool]) -> set[str]:
    return {name for name in available("method") if usable(make_method(name))}


def test_which_methods_can_use_what() -> None:
    compared = {"soft_targets", "dkd", "dist", "logits", "irg", "cross_modal", "born_again", "adaptive_teachers"}
    compared |= {"average_teachers", "random_teacher"}
    assert names_of(lambda method: bool(standardizable_parts(method))) == compared
    assert names_of(can_go_by_stage) == {"fitnet", "attention_transfer", "afd", "channel_wise", "similarity"}
    no_teacher = {"none", "label_smoothing", "dml", "one", "okddip", "byot", "bake", "adversarial_online"}
    several = {"adaptive_teachers", "average_teachers", "random_teacher"}
    with_one = set(available("method")) - no_teacher - several - {"born_again"}
    assert names_of(learns_from_checkpoints) == with_one
    assert names_of(can_follow_checkpoints) == with_one - {"dafl", "deep_inversion"}
    assert not standardizable_parts(ResidualError(taught=True))
    assert not standardizable_parts(make_method("dafl+soft_targets"))  # without cross-entropy, as `dafl` alone


ALL = [Teaching(s, c, p) for s, c, p in product([False, True], [None, 2], PROGRESSIONS)]


@pytest.mark.parametrize(
    ("method", "assistants", "forms"),
    [
        ("none", 0, 1),  # nothing to learn from but labels
        ("dml", 0, 1),
        ("born_again", 0, 2),  # standardised or not: its teacher is no checkpoint
        ("soft_targets", 0, 6),  # standardised x (final, checkpoint, following)
        ("soft_targets", 1, 2),  # behind an assistant: the final teacher taught that
        ("similarity", 0, 5),  # (final, checkpoint) x (at once, by stage), and following
        ("similarity", 2, 2),  # by stage or not
        ("fsp", 0, 3),  # needs stages together
        ("rkd", 0, 3),
        ("average_teachers", 0, 2),
        ("dafl", 0, 2),  # makes samples up: the final teacher or a checkpoint
        ("soft_targets+similarity", 0, 10),
        ("soft_targets+similarity", 1, 4),
    ],
)
def test_what_makes_no_difference_is_left_out(method: str, assistants: int, forms: int) -> None:
    made = make_method(method)
    found = {usable_teaching(t, made, n_assistants=assistants) for t in ALL}
    assert len(found) == forms
    assert all(usable_teaching(t, made, n_assistants=assistants) == t for t in found)
    assert usable_teaching(Teaching(), made, n_assistants=assistants) == Teaching()


@pytest.mark.parametrize(("steps", "shares"), [(10, 2), (30, 3), (30, 10), (7, 7), (12, 5)])
def test_shares_of_a_schedule_begin_where_they_should(steps: int, shares: int) -> None:
    found = [share_at(step / steps, shares) for step in range(steps)]
    assert found == [step * shares // steps for step in range(steps)]
    assert all(b - a in (0, 1) for a, b in pairwise(found))
    assert share_at(1.0, shares) == shares - 1


@pytest.mark.parametrize("name", ["fitnet", "attention_transfer", "afd", "channel_wise", "similarity"])
def test_in_each_share_the_terms_are_those_of_the_method_on_that_stage_alone(name: str) -> None:
    """The teacher has a stage more, in front: stages are paired from the last."""
    student, teacher = outputs(1, 6, 5, MAPS), outputs(2, 6, 5, [(3, 16, 16), *MAPS])
    torch.manual_seed(0)
    method = with_teaching(make_method(name), STAGES).double()
    method.attach(setting_of(student, [teacher]))
    method.double()
    parts = method.parts()
    assert [part.name for part in parts] == [f"{name}_stage{n}" for n in (1, 2, 3)]
    for stage, part in enumerate(parts):
        assert isinstance(part, OneStage)
        alone = [o._replace(features=(o.features[stage - 3],)) for o in (student, teacher)]
        expected = part.method(alone[0], [alone[1]], batch_of(6, 5))
        for progress in (stage / 4, stage / 4 + 0.249):
            shown = {
                n: t for p in parts for n, t in loss_terms(p, student, [teacher], batch_of(6, 5, progress)).items()
            }
            assert list(shown) == [f"{n}_stage{stage + 1}" for n in expected]
            assert all(torch.equal(a, b) for a, b in zip(shown.values(), expected.values(), strict=True))
            assert all(isfinite(t.item()) and t.item() > 0 for t in shown.values())
    assert method(student, [teacher], batch_of(6, 5, 0.75)) == {}
    assert method(student, [teacher], batch_of(6, 5, 0.999)) == {}
    past: dict[str, Tensor] = method(student, [teacher], batch_of(6, 5, 1.0))
    assert len(past) == 3  # what calibration sees


def test_stages_have_adapters_of_their_own_and_copies_leave_the_other_terms_alone() -> None:
    student, teacher = outputs(1, 6, 5, MAPS), outputs(2, 6, 5, [(8, 8, 8), (12, 4, 4), (16, 2, 2)])
    method = with_teaching(make_method("soft_targets+fitnet", strength=2.0), STAGES)
    assert method.ce_weight == 0.1
    method.attach(setting_of(student, [teacher]))
    first, *stages = method.parts()
    assert first.name == "soft_targets"
    assert [part.strength for part in stages] == [2.0] * 3
    widths = [next(p for p in part.parameters() if p.dim() == 4).shape[:2] for part in stages]
    assert widths == [(8, 4), (12, 6), (16, 8)]
    assert len(method.trained()) == sum(len(list(part.parameters())) for part in stages)


def test_dense_chains_go_by_stage_too() -> None:
    student, teachers = outputs(1, 6, 5, MAPS), [outputs(2, 6, 5, MAPS), outputs(3, 6, 5, MAPS[1:])]
    method = with_teaching(make_dense("similarity", None, 1.0, 2), STAGES)
    method.attach(setting_of(student, teachers))
    assert len(method.parts()) == 2  # as many stages as all of them have
    torch.manual_seed(0)
    assert list(method(student, teachers, batch_of(6, 5, 0.0))) == ["similarity_stage1"]


def test_stages_of_maps_and_tokens_are_paired_by_depth_one_by_one_too() -> None:
    """As in a method that sees them all: of six blocks beside three maps, those after each third."""
    student, teacher = outputs(1, 6, 5, MAPS), outputs(2, 6, 5, [(16, 16)] * 6)
    method = with_teaching(make_method("fitnet"), STAGES)
    method.attach(setting_of(student, [teacher]))
    shown = [part._indices for part in method.parts() if isinstance(part, OneStage)]
    assert shown == [(0, (1,)), (1, (3,)), (2, (5,))]
    pairs = paired_stages(student.features, teacher.features)
    for (mine, theirs), (stage, (of_teacher,)) in zip(pairs, shown, strict=True):
        assert mine is student.features[stage]
        assert theirs is teacher.features[of_teacher]


@pytest.mark.parametrize("name", ["dafl+fitnet", "deep_inversion+similarity"])
def test_made_up_samples_do_not_go_by_stage(name: str) -> None:
    """Their batches do not say how much of the schedule is done."""
    assert usable_teaching(STAGES, make_method(name)) == Teaching()
    assert not any(isinstance(part, OneStage) for part in with_teaching(make_method(name), STAGES).parts())


def test_methods_with_optimisers_of_their_own_do_not_go_by_stage() -> None:
    class Own(FitNet):
        def optimizers(self) -> dict[str, torch.optim.Optimizer]:
            return {}

    assert can_go_by_stage(FitNet())
    assert not can_go_by_stage(Own())


def test_the_order_of_another_part_is_kept_in_a_sum_that_goes_by_stage() -> None:
    labels, generator = torch.arange(40) % 4, torch.Generator()
    by_stage, bake = with_teaching(make_method("fitnet+bake"), STAGES), make_method("bake")
    orders = [m.order(labels, generator.manual_seed(0)) for m in (by_stage, bake)]
    assert torch.equal(*orders)
    assert by_stage.has_own_order
    assert not with_teaching(make_method("fitnet"), STAGES).has_own_order


def test_a_method_can_be_used_again_on_logits_as_they_are() -> None:
    method = make_method("soft_targets")
    with_teaching(method, Teaching(standardize=True))
    assert not method.is_calibrated
    with_teaching(method, Teaching())
    assert method.is_calibrated


def test_where_it_means_nothing_the_method_is_left_as_it_is() -> None:
    method = make_method("rkd")
    assert with_teaching(method, Teaching(standardize=True, progression="stages")) is method
    assert not method.sees_standardized
