"""All built-in methods, sums of some, and those of whole chains hold the contract of `nas_kd.testing`."""

import re

import pytest
import torch
from torch import Tensor

from nas_kd.errors import InputError
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.plugins import available
from nas_kd.testing import check_method
from nas_kd.testing.toy_training import TOKENS, ToySettings, other_view, start, toy_samples

from .conftest import MAKERS, each_method, trained

pytestmark = pytest.mark.usefixtures("one_thread")

# Without batch normalisation there are no statistics to invert.
NO_TOKENS = {"deep_inversion"}


@each_method
def test_contract(name: str) -> None:
    check_method(MAKERS[name])


@pytest.mark.parametrize(("name", "method"), available("method").items())
def test_a_plugin_is_named_after_its_file_and_says_where_it_comes_from(name: str, method: type[Method]) -> None:
    assert name == method.name == method.__module__.rpartition(".")[2]
    assert re.search(r"\b(19|20)\d\d\b", method.source) or name == "none"
    assert len(method.summary) >= 10
    assert make_method(name).temperature == method.default_temperature


@each_method
def test_tokens_are_refused_by_those_alone_that_need_more(name: str) -> None:
    """A user's own network without any feature map."""
    if name in NO_TOKENS:
        with pytest.raises(InputError, match=f"^method '{name}' [^\n]+$"):
            start(MAKERS[name](None, 1.0), ToySettings(pair=TOKENS))
    else:
        start(MAKERS[name](None, 1.0), ToySettings(pair=TOKENS))


@each_method
def test_cross_entropy_is_left_out_by_those_alone_that_do_not_weigh_it(name: str) -> None:
    losses = trained(name).training.losses
    assert ("ce" in losses) == (trained(name).method.ce_weight > 0)
    assert set(losses) - {"ce"} or name == "none"


@pytest.mark.parametrize("name", [name for name, make in MAKERS.items() if "pairs" in make(None, 1.0).needs])
def test_the_teacher_sees_its_own_view_of_the_same_samples(name: str) -> None:
    toy = start(MAKERS[name](None, 1.0))
    shown: list[tuple[Tensor, Tensor]] = []
    toy.method.register_forward_pre_hook(lambda _, given: shown.append((given[1][0].logits, given[2].indices)))
    toy.run(until=1)
    x = other_view(toy_samples(32).x).float()
    assert shown
    for logits, indices in shown:
        assert torch.allclose(logits, toy.teachers[0](x[indices]), atol=1e-4)
