"""Weights of the classes in the label loss: by hand, in every training, and in the keys of what they trained."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import nas_kd
from nas_kd.config.key_facts import key_facts
from nas_kd.config.options import Budget, DistillOptions, TeacherOptions
from nas_kd.errors import InputError
from nas_kd.kd.class_weights import weights_of_classes
from nas_kd.methods.base import Batch, Outputs
from tests.small_runs import distiller_of, open_context, small_config

CLASSES = ("cat", "dog", "fox")
LABELS = torch.tensor([0] * 6 + [1] * 3 + [2] * 1)


def test_weights_by_hand() -> None:
    assert weights_of_classes("none", LABELS, CLASSES) is None
    assert weights_of_classes("balanced", LABELS, CLASSES) == pytest.approx([10 / (3 * 6), 10 / (3 * 3), 10 / 3])
    assert weights_of_classes("balanced", LABELS[:6], CLASSES) == pytest.approx([1 / 3, 1, 1])
    assert weights_of_classes((1.0, 2.0, 7.5), LABELS, CLASSES) == [1, 2, 7.5]
    with pytest.raises(InputError, match=r"has 2 numbers, the data has 3 classes \(cat, dog, fox\)"):
        weights_of_classes((1.0, 2.0), LABELS, CLASSES)


def test_balanced_weights_have_mean_one_and_every_class_weighs_the_same() -> None:
    weights = torch.tensor(weights_of_classes("balanced", LABELS, CLASSES))
    each = weights[LABELS]
    assert float(each.mean()) == pytest.approx(1)
    assert [float(each[c == LABELS].sum()) for c in range(3)] == pytest.approx([10 / 3] * 3)


def test_label_loss_by_hand() -> None:
    logits, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    plain = Batch(logits, y, y, 0.0)
    assert torch.equal(plain.label_loss(logits), F.cross_entropy(logits, y))
    weights = torch.tensor([1.0, 2.0, 5.0])
    each = -F.log_softmax(logits, dim=1)[torch.arange(4), y]
    expected = (each * weights[y]).sum() / weights[y].sum()
    assert torch.allclose(plain._replace(class_weights=weights).label_loss(logits), expected)
    half = plain._replace(class_weights=weights).label_loss(logits.bfloat16())
    assert float(half) == pytest.approx(float(expected), rel=0.05)


def test_a_run_trains_with_its_weights(tmp_path: Path) -> None:
    given = [1.0] * 9 + [30.0]
    context = open_context(small_config(distill={"class_weights": given}), tmp_path)
    training = distiller_of(context).untrained("none", context.space.size_ladder(6)[0])
    assert training.setup.class_weights is not None
    assert training.setup.class_weights.tolist() == given
    y, logits = torch.tensor([0, 9]), torch.randn(2, 10)
    batch = Batch(training.setup.source.example()[:2], y, y, 0.0, training.setup.class_weights)
    loss, terms = training.loss(Outputs(logits, (), logits), [], batch)
    assert torch.allclose(terms["ce"], F.cross_entropy(logits, y, weight=torch.tensor(given)))
    assert torch.allclose(loss, terms["ce"])


def test_no_method_computes_the_label_loss_past_the_weights() -> None:
    """Peers, branches and sums of networks are weighted like the student: all ask the batch."""
    for folder in ("methods", "kd", "engine"):
        for path in (Path(nas_kd.__file__).parent / folder).rglob("*.py"):
            assert not re.search(r"F\.cross_entropy\([^)]*batch\.y", path.read_text()), path


def test_default_leaves_all_keys_as_they_were(tmp_path: Path) -> None:
    """Keys have nothing of options that came later and are at their default."""
    assert "class_weights" not in key_facts(DistillOptions())
    assert key_facts(DistillOptions(class_weights="balanced"))["class_weights"] == "balanced"
    assert key_facts(DistillOptions(), {"methods"}).keys() == DistillOptions.model_fields.keys() - {
        "methods",
        "class_weights",
        "mix",
        "standardize",
        "checkpoint",
        "progression",
    }
    assert key_facts(Budget(min_accuracy=0.5)) == Budget(min_accuracy=0.5).model_dump(exclude={"min_score"})
    assert key_facts(Budget(min_score=0.5))["min_score"] == 0.5
    later = {"mean", "std", "image_size", "output", "outputs", "checkpoints", "label_set", "fine_tune"}
    later |= {"student_friendly_epochs"}
    assert key_facts(TeacherOptions(space="resnet")).keys() == TeacherOptions.model_fields.keys() - later
    given = key_facts(TeacherOptions(onnx=Path("t.onnx"), mean=0.5, output="y"))
    assert (given["mean"], given["output"]) == ([0.5], "y")
    keys = {
        str(sections): distiller_of(open_context(small_config(**sections), tmp_path)).trainer.cache._conditions
        for sections in ({}, {"distill": {"class_weights": "balanced"}}, {"data": {"score": "macro_f1"}})
    }
    default, weighted, scored = keys.values()
    assert default.keys() == {"data", "calibrated", "numerics", "torch"}
    assert weighted.keys() - default.keys() == {"class_weights"}
    assert {k: v for k, v in scored.items() if k not in default} == {"score": "macro_f1"}
