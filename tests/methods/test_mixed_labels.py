"""Labels of mixed samples: the label loss by hand, in every method; label smoothing as torch has it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.engine.method_setup import loss_terms
from nas_kd.methods.base import Batch, Method, MixedLabels, Outputs
from nas_kd.methods.combine import make_method

from .formulas.compare import C
from .test_formulas import AT_REST, CASES, attached
from .toys import outputs

# What they say of a class is not a loss that learns it: the target that is set apart, samples that are no negatives.
OF_THE_LARGER_SHARE = {"dkd", "crd"}
MADE_UP = {"dafl", "deep_inversion"}  # their samples are never mixed
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=torch.float64)
Y, OTHERS = torch.tensor([0, 1, 2, 3, 3]), torch.tensor([3, 1, 0, 2, 1])
SHARE = torch.tensor([0.5, 0.9, 1.0, 0.75, 0.6])


def logits_of(seed: int = 0, b: int = 5) -> Tensor:
    return outputs(seed, b, C).logits.requires_grad_()


def batch_of(mixed: MixedLabels | None, weights: Tensor | None = None) -> Batch:
    return Batch(torch.zeros(5, 1), Y, torch.arange(5), 0.5, weights, mixed=mixed)


MIXED = MixedLabels(OTHERS, SHARE)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_label_loss_by_hand(weights: Tensor | None) -> None:
    logits, batch = logits_of(), batch_of(MIXED, weights)
    w = [1.0] * C if weights is None else weights.tolist()
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    for z, y, other, s in zip(logits, Y.tolist(), OTHERS.tolist(), SHARE.double().tolist(), strict=True):
        surprise = -(z - z.exp().sum().log())
        total = total + s * w[y] * surprise[y] + (1 - s) * w[other] * surprise[other]
        weight += s * w[y] + (1 - s) * w[other]
    found, expected = batch.label_loss(logits), total / weight
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


def test_without_weights_it_is_torchs_cross_entropy_with_soft_targets() -> None:
    logits = logits_of()
    soft = torch.zeros(5, C, dtype=torch.float64)
    for i in range(5):
        soft[i, Y[i]] += SHARE[i].double()
        soft[i, OTHERS[i]] += 1 - SHARE[i].double()
    torch.testing.assert_close(batch_of(MIXED).label_loss(logits), F.cross_entropy(logits, soft), rtol=1e-6, atol=0)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_share_of_one_is_not_mixed(weights: Tensor | None) -> None:
    logits, whole = logits_of(), MixedLabels(OTHERS, torch.ones(5))
    plain, mixed = (batch_of(labels, weights).label_loss(logits) for labels in (None, whole))
    torch.testing.assert_close(mixed, plain, rtol=1e-12, atol=0)
    assert torch.equal(plain, F.cross_entropy(logits, Y, weight=weights))


def test_samples_without_a_label_have_no_part_in_it() -> None:
    logits = logits_of(b=8)
    batch = batch_of(MIXED, WEIGHTS)._replace(x=torch.zeros(8, 1))
    assert batch.has_unlabelled
    assert torch.equal(batch.label_loss(logits), batch_of(MIXED, WEIGHTS).label_loss(logits[:5]))
    assert torch.equal(batch.labelled().label_loss(logits[:5]), batch.label_loss(logits))
    smoothing = make_method("label_smoothing")
    all_rows = loss_terms(smoothing, Outputs(logits, (), logits), [], batch)
    labelled = smoothing(Outputs(logits[:5], (), logits[:5]), [], batch.labelled())
    assert torch.equal(all_rows["label_smoothing"], labelled["label_smoothing"])


def total_of(method: Method, logits: Tensor, batch: Batch) -> Tensor:
    """The loss that a training has, as `Training.loss` sums it."""
    terms = method(Outputs(logits, (), logits[:, :0]), [], batch).values()
    return method.ce_weight * batch.label_loss(logits) + method.strength * torch.stack(list(terms)).sum()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_label_smoothing_is_torchs(weights: Tensor | None) -> None:
    logits, method = logits_of(), make_method("label_smoothing")
    found = total_of(method, logits, batch_of(None, weights))
    expected = F.cross_entropy(logits, Y, weight=weights, label_smoothing=0.1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


def test_label_smoothing_of_mixed_samples_smooths_both_labels() -> None:
    logits = logits_of()
    both = [F.cross_entropy(logits, y, label_smoothing=0.1, reduction="none") for y in (Y, OTHERS)]
    expected = (SHARE * both[0] + (1 - SHARE) * both[1]).mean()
    found = total_of(make_method("label_smoothing"), logits, batch_of(MIXED))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    weighted = batch_of(MIXED, WEIGHTS)
    each = [
        (-F.log_softmax(logits, dim=1) * WEIGHTS / C).sum(dim=1),
        F.cross_entropy(logits, Y, weight=WEIGHTS, reduction="none"),
        F.cross_entropy(logits, OTHERS, weight=WEIGHTS, reduction="none"),
    ]
    of_labels = SHARE * each[1] + (1 - SHARE) * each[2]
    divisor = (SHARE * WEIGHTS[Y] + (1 - SHARE) * WEIGHTS[OTHERS]).sum()
    expected = (0.9 * of_labels.sum() + 0.1 * each[0].sum()) / divisor
    torch.testing.assert_close(total_of(make_method("label_smoothing"), logits, weighted), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_strength_is_smoothing_by_another_share(strength: float) -> None:
    logits, batch = logits_of(), batch_of(None)
    smoothing = 0.1 * strength / (0.9 + 0.1 * strength)
    expected = (0.9 + 0.1 * strength) * F.cross_entropy(logits, Y, label_smoothing=smoothing)
    found = total_of(make_method("label_smoothing", strength=strength), logits, batch)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [name for name in CASES if name not in MADE_UP])
def test_every_term_that_learns_labels_learns_both(name: str) -> None:
    """All label losses are linear in the labels: with one share for all samples, terms are shares of two of them."""
    case = replace(CASES[name][-1], b=4)

    def terms(mixed: MixedLabels | None, y: Tensor) -> dict[str, Tensor]:
        method, s, teachers, batch = attached(name, case)
        method.train(name not in AT_REST)
        torch.manual_seed(3)
        return {k: v.detach() for k, v in method(s, teachers, batch._replace(y=y, mixed=mixed)).items()}

    y, others = torch.arange(4) % C, (torch.arange(4) + 1) % C
    found = terms(MixedLabels(others, torch.full((4,), 0.75)), y)
    first, second = terms(None, y), terms(None, y if name in OF_THE_LARGER_SHARE else others)
    for term in first:
        torch.testing.assert_close(found[term], 0.75 * first[term] + 0.25 * second[term], rtol=1e-6, atol=1e-9)


def test_the_check_before_notices_a_method_that_reads_the_larger_share_alone() -> None:
    method, s, teachers, batch = attached("adversarial_logits", CASES["adversarial_logits"][-1])
    mixed = batch._replace(mixed=MixedLabels((batch.y + 1) % C, torch.full((len(batch.y),), 0.75)))
    own, both = (method(s, teachers, b)["adversarial_logits_fooling"] for b in (batch, mixed))
    assert not torch.allclose(own, both)
