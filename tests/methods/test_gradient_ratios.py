"""How strong each feature and relation method is beside the labels, on one pair of networks."""

import math

import pytest
import torch

from nas_kd.engine.calibration import BATCHES
from nas_kd.engine.feature_extractor import FeatureExtractor
from nas_kd.engine.training import Training
from nas_kd.methods.base import Batch
from nas_kd.methods.combine import make_method
from nas_kd.plugins import available

from .conftest import setup_of, training_of

# Of published weights, before training, on the pair below: a change of a loss's scale shows here.
PUBLISHED = {
    "afd": 152,
    "attention_transfer": 1060,
    "channel_wise": 2.23,
    "crd": 5.34,
    "fitnet": 74.9,
    "fsp": 85.5,
    "irg": 10.3,
    "rkd": 72.0,
    "similarity": 284,
}
METHODS = [n for n, m in available("method").items() if m.__module__.split(".")[2] in ("feature", "relation")]


def untrained(name: str, strength: float = 1.0) -> Training:
    """A small residual network under a larger one, on the digits, in batches of 32."""
    return training_of(make_method(name, strength=strength), "resnet", "resnet", setup_of(n=128, epochs=20))


def plain_ratio(training: Training) -> float:
    """Gradient norm of the terms with all their factors, over that of cross-entropy, on the first batches."""
    method, student, (teacher,) = training.method, training.student, training._teachers
    order = method.order(training.setup.source.labels, torch.Generator().manual_seed(0))  # type: ignore[attr-defined]
    weights, norms = list(student.parameters()), [0.0, 0.0]
    student.train()
    method.train()
    torch.manual_seed(0)
    for i in range(BATCHES):
        indices = order[i * 32 : (i + 1) * 32]
        x = training.setup.numerics.to_layout(teacher.augmenter.batch(0, indices))  # type: ignore[attr-defined]
        y = training.setup.source.labels[indices]  # type: ignore[attr-defined]
        with FeatureExtractor(student, training._points, method.needs) as extractor:
            outputs = extractor(x)
        with teacher.extractor(method.needs) as extractor:
            taught = teacher.live(extractor, x)
        batch = Batch(x, y, indices, 1.0)
        terms = sum(method(outputs, [taught], batch).values(), torch.zeros(()))
        losses = (torch.nn.functional.cross_entropy(outputs.logits, y), method.strength * method.scale * terms)
        for k, loss in enumerate(losses):
            gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
            norms[k] += math.sqrt(sum(float(g.square().sum()) for g in gradients if g is not None))
    return norms[1] / norms[0]


@pytest.mark.parametrize("name", METHODS)
def test_published_weights_have_the_same_ratio_as_ever(name: str) -> None:
    assert plain_ratio(untrained(name)) == pytest.approx(PUBLISHED[name], rel=0.02)


class Begun(Exception):
    """The first step is about to be taken."""


@pytest.mark.parametrize("name", METHODS)
def test_a_calibrated_method_has_the_ratio_that_its_file_states(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first step, at strength 1/2, on batches in another order than calibration's."""
    training = untrained(name, strength=0.5)

    def step(*_: object) -> None:
        raise Begun

    monkeypatch.setattr(training, "_step", step)
    with pytest.raises(Begun):
        training.run(1)
    ratio = type(training.method).target_grad_ratio
    assert ratio is not None
    assert training.grad_ratios == {name: pytest.approx(ratio / 2, rel=1e-4)}
    assert plain_ratio(training) == pytest.approx(ratio / 2, rel=0.3)
