"""Whatever a user's module returns and does, logits come out, and nothing else changes; or it is refused clearly."""

import pytest
import torch
from torch import Tensor

from nas_kd.engine.feature_extractor import FeatureExtractor, FeaturePoints, find_feature_points
from nas_kd.engine.numerics import Numerics
from nas_kd.errors import InputError
from nas_kd.kd.user_module import UserNetwork, as_network, prepared, uncompiled

from .odd_modules import CLASSES, REFUSED, SHAPE, WORKING, Plain, Returns, on_meta, seeded

pytestmark = pytest.mark.filterwarnings("ignore:.*(torch.jit|[Ll]azy|shape might cause)")
NOTES = {
    "probabilities": "returns probabilities: their logarithms are used as logits",
    "dropout left on": "gives other outputs for the same samples each time",
    "batch statistics": "its outputs for a sample depend on the other samples of the batch",
    "one by one": "takes batches of 1 only, so it is run batch by batch",
    "traced": "takes batches of 1 only, so it is run batch by batch",
}


def samples(n: int = 64) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))


def network_of(name: str) -> UserNetwork:
    return as_network(prepared(seeded(WORKING[name]), "teacher:"), samples(), (CLASSES,), "teacher:")


@pytest.mark.parametrize("name", WORKING)
def test_logits_come_out(name: str) -> None:
    x, before = samples(), torch.get_rng_state()
    found = network_of(name)
    assert [NOTES[name]] == [note[: len(NOTES[name])] for note in found.notes] if name in NOTES else not found.notes
    with torch.no_grad():
        logits, again = found.model(x.clone()), found.model(given := x.clone())
    assert logits.shape == (64, CLASSES)
    assert torch.allclose(logits.float(), again.float(), atol=1e-4)
    assert torch.equal(given, x)
    assert torch.equal(before, torch.get_rng_state())
    # the order of classes, and what the wrapped network computes, are the plain one's
    if type(seeded(WORKING[name])) is Returns:
        with torch.no_grad():
            plain = seeded(WORKING[name]).logits(x)  # type: ignore[operator]
        assert torch.allclose(logits.softmax(1), plain.softmax(1), atol=1e-5)


@pytest.mark.parametrize("name", WORKING)
def test_they_teach(name: str) -> None:
    """The outputs can be used in a loss, in training's memory layout, and gradients stay on."""
    model = Numerics(bf16=False, channels_last=True).place(network_of(name).model)
    points = FeaturePoints((), None)
    with FeatureExtractor(model, points, frozenset({"logits"})) as extractor, torch.no_grad():
        outputs = extractor(samples(8))
    student = torch.zeros(8, CLASSES, requires_grad=True)
    torch.nn.functional.mse_loss(student, outputs.logits).backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(InputError, match=rf"\A{message}\Z"):
        as_network(prepared(seeded(make), "teacher:"), samples(), (CLASSES,), "teacher:")


def test_values_that_are_not_there() -> None:
    with pytest.raises(InputError, match="teacher: 'table' is on the meta device: it has no values; create the module"):
        prepared(on_meta(), "teacher:")


def test_a_plain_network_is_taken_as_it_is() -> None:
    network = Plain().eval()
    assert as_network(network, samples(), (CLASSES,), "teacher:").model is network


def test_features_are_read_behind_the_wrapper() -> None:
    model = network_of("tuple").model
    assert find_feature_points(model, samples(2)) == FeaturePoints(("body.conv",), "body.head")


def test_compiled_parts_are_taken_out() -> None:
    for name in ("compiled", "with a compiled part"):
        assert not any(hasattr(part, "_orig_mod") for part in uncompiled(WORKING[name]()).modules())


def test_probabilities_in_logits_disguise() -> None:
    """Logits that happen to lie between 0 and 1 are logits."""
    found = as_network(Returns(lambda z: z.sigmoid()).eval(), samples(), (CLASSES,), "teacher:")
    assert isinstance(found.model, Returns)
