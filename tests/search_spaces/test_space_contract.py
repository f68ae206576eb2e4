"""What every search space must hold, whichever they are: run over all that the plug-in folder shows."""

import io
import json
import math
from collections import Counter
from itertools import pairwise
from typing import Any

import onnx
import optuna
import pytest
import torch
from optuna.trial import FixedTrial
from torch import Tensor, nn

from nas_kd.errors import InputError
from nas_kd.models.search_space import SearchSpace
from nas_kd.plugins import available
from nas_kd.results.candidate import Architecture

SPACES = available("space")
SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (2, 11, 17))
N_CLASSES = 5
PREFIX = "student."

pytestmark = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


def draws(space: SearchSpace, n: int, prefix: str = PREFIX) -> list[tuple[Architecture, optuna.Trial]]:
    """`n` random architectures with the trials that they were drawn in."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(n)]
    return [(space.suggest(trial, prefix), trial) for trial in trials]


def weights(space: SearchSpace, architecture: Architecture) -> int:
    return sum(p.numel() for p in space.build(architecture, (1, 8, 8), N_CLASSES).parameters())


def test_the_parameters_of_a_draw_are_always_the_same(space: SearchSpace) -> None:
    distributions = [trial.distributions for _, trial in draws(space, 40)]
    assert all(d == distributions[0] for d in distributions)
    assert 6 <= len(distributions[0]) <= 12
    assert all(name.startswith(PREFIX) for name in distributions[0])


def test_an_architecture_enqueued_again_comes_back_equal(space: SearchSpace) -> None:
    for architecture, trial in draws(space, 40):
        assert set(architecture.choices) == {name.removeprefix(PREFIX) for name in trial.params}
        assert space.suggest(FixedTrial(dict(architecture.choices)), "") == architecture


def test_different_draws_differ(space: SearchSpace) -> None:
    assert len({architecture for architecture, _ in draws(space, 40)}) > 30


def test_json_round_trip(space: SearchSpace) -> None:
    for architecture, _ in draws(space, 10):
        again = Architecture.from_json(json.loads(json.dumps(architecture.to_json())))
        assert again == architecture
        assert again.space == space.name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_trains_on_any_image(space: SearchSpace, shape: tuple[int, ...]) -> None:
    x = torch.randn(4, *shape).contiguous(memory_format=torch.channels_last)
    for architecture in (*space.size_ladder(3), *(a for a, _ in draws(space, 2))):
        network = space.build(architecture, shape, N_CLASSES)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x)
        assert logits.shape == (4, N_CLASSES)
        nn.functional.cross_entropy(logits.float(), torch.arange(4)).backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in network.parameters()]
        assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)


def test_every_layer_learns(space: SearchSpace) -> None:
    network = space.build(space.size_ladder(2)[1], (1, 8, 8), N_CLASSES)
    before = {name: p.detach().clone() for name, p in network.named_parameters() if p.ndim > 1}
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    x, y = torch.randn(16, 1, 8, 8), torch.arange(16) % N_CLASSES
    for _ in range(3):
        nn.functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()
    assert [name for name, weight in before.items() if torch.equal(weight, network.get_parameter(name))] == []


def test_one_seed_gives_one_network(space: SearchSpace) -> None:
    architecture = space.size_ladder(3)[1]
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(space.build(architecture, (1, 8, 8), N_CLASSES).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_resolution_changes_and_the_classifier_is_last(space: SearchSpace) -> None:
    for architecture in space.size_ladder(4):
        network = space.build(architecture, (1, 8, 8), N_CLASSES)
        sides: list[tuple[int, ...]] = []

        def note(_: nn.Module, __: Any, output: Tensor, sides: list[tuple[int, ...]] = sides) -> None:
            sides.append(tuple(output.shape[2:]))

        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(note)
        network.eval()(torch.randn(1, 1, 8, 8))
        assert len(set(sides)) >= 2
        assert all(min(side) >= 1 for side in sides)
        assert isinstance(list(network.modules())[-1], nn.Linear)


@pytest.mark.parametrize("n", [2, 4, 12])
def test_the_ladder_climbs_evenly(space: SearchSpace, n: int) -> None:
    ladder = space.size_ladder(n)
    assert len(ladder) == n
    assert ladder == space.size_ladder(n)
    logs = [math.log(weights(space, a)) for a in ladder]
    step = (logs[-1] - logs[0]) / (n - 1)
    for below, above in pairwise(logs):
        assert 0 < above - below < 2 * step


def test_the_ladder_spans_the_space(space: SearchSpace) -> None:
    smallest, largest = space.size_ladder(2)
    low, high = weights(space, smallest), weights(space, largest)
    sizes = [weights(space, a) for a, _ in draws(space, 60)]
    assert low <= min(sizes)
    assert max(sizes) <= high
    assert 500 <= low <= 1_000
    assert 125_000 <= high <= 400_000


def test_the_ladder_leaves_the_random_generator_alone(space: SearchSpace) -> None:
    before = torch.get_rng_state()
    type(space)().size_ladder(5)
    assert torch.equal(before, torch.get_rng_state())


def test_there_are_enough_students(space: SearchSpace) -> None:
    assert space.cardinality() >= 100_000


def test_described_in_a_few_words(space: SearchSpace) -> None:
    for architecture, _ in draws(space, 30):
        description = space.describe(architecture)
        assert "stages" in description
        assert "\n" not in description
        assert len(description) <= 110


def test_only_images_are_taken(space: SearchSpace) -> None:
    for shape in ((64,), (1, 8), (3, 0, 8), (1, 2, 3, 4)):
        with pytest.raises(InputError, match=rf"space '{space.name}' needs images \(C, H, W\); the data has shape"):
            space.build(space.size_ladder(2)[0], shape, N_CLASSES)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exports_as_convolutions_and_little_else(space: SearchSpace) -> None:
    for architecture in space.size_ladder(3):
        network = space.build(architecture, (1, 8, 8), N_CLASSES)
        for tensor in network.state_dict().values():  # all different, as trained ones are: equal ones would be shared
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1)
        kinds = Counter(node.op_type for node in exported(network).graph.node)
        convolutions = sum(isinstance(m, nn.Conv2d) for m in network.modules())
        assert kinds.pop("Conv") == convolutions
        assert kinds.pop("Gemm") == kinds.pop("Flatten") == 1
        assert set(kinds) <= {"Relu", "Add", "GlobalAveragePool", "HardSigmoid", "Mul"}
        assert sum(kinds.values()) <= 1 + 1.5 * convolutions


def exported(network: nn.Module) -> onnx.ModelProto:
    """The network as ONNX."""
    file: Any = io.BytesIO()
    torch.onnx.export(network.eval(), (torch.randn(2, 1, 8, 8),), file, dynamo=False, dynamic_axes={"x": {0: "b"}},
                      input_names=["x"])  # fmt: skip
    return onnx.load_from_string(file.getvalue())
