"""The layers behind a module, as a network: what they compute, whose weights they are, and what cannot be cut."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.engine.feature_extractor import find_feature_points
from nas_kd.engine.subgraph import subgraph_after
from nas_kd.errors import InputError
from nas_kd.models.wrappers import Normalized
from nas_kd.plugins import available

from .conftest import net


def output_at(model: nn.Module, path: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """(what the module at `path` returns, what the model returns)."""
    kept: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_hook(lambda _m, _x, out: kept.append(out.clone()))
    logits = model(x)
    handle.remove()
    return kept[0], logits


class Shortcut(nn.Module):
    """`a`, then `b` beside a shortcut around both or around `b` alone, then `head`."""

    def __init__(self, around_both: bool) -> None:
        super().__init__()
        self.a, self.b, self.head = (nn.Conv2d(3, 3, 3, 1, 1) for _ in range(3))
        self.around_both = around_both

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        z: Tensor = self.head(F.relu(self.b(y) + (x if self.around_both else y)))
        return z.mean(dim=(2, 3))


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.outer = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)), nn.ModuleDict({"c": nn.Conv2d(4, 5, 3)})["c"]
        )
        self.last = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(5, 2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.outer(x))
        return out


@pytest.mark.parametrize("cut", ["0", "1", "2"])
def test_a_sequence(cut: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    features, logits = output_at(model, cut, x := torch.randn(2, 3, 8, 8))
    assert torch.equal(subgraph_after(model, cut)(features), logits)
    assert x.shape == (2, 3, 8, 8)


@pytest.mark.parametrize("cut", ["outer", "outer.0", "outer.0.0", "outer.1", "last.0", "last.3"])
def test_inside_sequences_and_at_the_end(cut: str) -> None:
    model = Nested().eval()
    features, logits = output_at(model, cut, torch.randn(2, 3, 8, 8))
    assert torch.equal(subgraph_after(model, cut)(features), logits)


@pytest.mark.parametrize("space", ["resnet", "mobilenet"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_at_every_stage_of_the_built_in_spaces(space: str, shape: tuple[int, int, int]) -> None:
    plugin = available("space")[space]
    for architecture in plugin.size_ladder(4):
        body = plugin.build(architecture, shape, 10)
        model = Normalized(body, torch.zeros(shape[0]), torch.ones(shape[0])).eval()
        x = torch.randn(2, *shape)
        for path in find_feature_points(model, x).features:
            features, logits = output_at(model, path, x)
            rest = subgraph_after(model, path)
            assert torch.equal(rest(features), logits), (architecture, path)
            own = dict(model.named_parameters())
            assert {k for k, _ in rest.named_parameters()} < set(own)
            assert all(p is own[k] for k, p in rest.named_parameters())


def test_the_model_itself_is_left_as_it_was() -> None:
    model = net(4)
    before = copy.deepcopy(model)
    x = torch.randn(3, 1, 8, 8)
    subgraph_after(model, "stages.0").train()
    assert [k for k, _ in model.named_modules()] == [k for k, _ in before.named_modules()]
    assert torch.equal(model.eval()(x), before.eval()(x))


def test_nothing_before_the_cut_is_kept() -> None:
    names = {k.split(".")[0] + "." + k.split(".")[1] for k, _ in subgraph_after(net(4), "stages.0").named_parameters()}
    assert names == {"stages.1", "head.weight", "head.bias"}


def test_gradients_pass_through_and_reach_the_layers() -> None:
    rest = subgraph_after(net(4), "stages.0").train()
    features = torch.randn(3, 4, 8, 8, requires_grad=True)
    rest(features).sum().backward()
    assert features.grad is not None
    assert all(p.grad is not None for p in rest.parameters())


def test_a_shortcut_behind_the_cut_is_followed_and_one_around_it_refused() -> None:
    model = Shortcut(around_both=False).eval()
    features, logits = output_at(model, "a", torch.randn(2, 3, 4, 4))
    assert torch.allclose(subgraph_after(model, "a")(features), logits)
    for around_both, cut in [(True, "a"), (True, "b"), (False, "b")]:
        with pytest.raises(InputError, match=f"cannot cut Shortcut at '{cut}': something goes around it"):
            subgraph_after(Shortcut(around_both), cut)


class Branching(nn.Module):
    """Its way depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if y.sum() > 0:
            y = -y
        out: Tensor = self.b(y)
        return out


class Twice(nn.Module):
    """Calls the same layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.a(torch.relu(self.a(x))))
        return out


class Sized(nn.Module):
    """Uses the batch's size, taken before or behind the cut."""

    def __init__(self, of_input: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Linear(144, 2)
        self.of_input = of_input

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        out: Tensor = self.b(y.reshape((x if self.of_input else y).shape[0], -1))
        return out


def test_what_cannot_be_traced_is_one_clear_line() -> None:
    with pytest.raises(InputError, match="cannot cut Branching at 'a': ") as caught:
        subgraph_after(Branching(), "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", ["b.weight", "c", ""])
def test_what_is_not_called_there(cut: str) -> None:
    with pytest.raises(InputError, match="cannot cut Twice at "):
        subgraph_after(Twice(), cut)


def test_a_layer_called_twice_is_cut_behind_its_last_call() -> None:
    model = Twice().eval()
    x = torch.randn(3, 4)
    seen: list[Tensor] = []
    handle = model.a.register_forward_hook(lambda _m, _x, out: seen.append(out))
    logits = model(x)
    handle.remove()
    rest = subgraph_after(model, "a")
    assert torch.equal(rest(seen[-1]), logits)  # what a hook sees last is what features are


class Silent(nn.Module):
    """Works in place, and drops what the operation returns."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.relu, self.how = nn.ReLU(inplace=True), how

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x))
        match self.how:
            case "module":
                self.relu(y)
            case "method":
                y.relu_()
            case "function":
                F.relu_(y)
            case _:
                F.relu(y, inplace=True)
        out: Tensor = self.c(y)
        return out


@pytest.mark.parametrize("how", ["module", "method", "function", "argument"])
def test_what_is_done_in_place_counts_even_if_its_result_is_unused(how: str) -> None:
    model = Silent(how).eval()
    features, logits = output_at(model, "a", torch.randn(5, 4))
    assert torch.equal(subgraph_after(model, "a")(features), logits)


def test_sizes_taken_behind_the_cut_work_and_those_of_the_input_are_refused() -> None:
    model = Sized(of_input=False).eval()
    features, logits = output_at(model, "a", torch.randn(5, 3, 8, 8))
    assert torch.equal(subgraph_after(model, "a")(features), logits)
    with pytest.raises(InputError, match="something goes around it"):
        subgraph_after(Sized(of_input=True), "a")
