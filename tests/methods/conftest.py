"""Every method found, and real networks of the search spaces to try them on."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn

from nas_kd.config.options import Augmentation, DataOptions
from nas_kd.data.augment import Augmenter
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.engine.method_setup import DatasetInfo
from nas_kd.engine.numerics import Numerics, seeded
from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher, TeacherOutputs
from nas_kd.engine.training import Training, TrainingSetup
from nas_kd.kd.chain_policies.dense import make_dense
from nas_kd.kd.chain_policies.residual import ResidualError
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.models.normalised import Normalized
from nas_kd.plugins import available
from nas_kd.results.candidate import Architecture

FP32, BF16 = (Numerics(bf16=bf16, channels_last=True) for bf16 in (False, True))
COMBINED = ("soft_targets+similarity", "dkd+rkd", "attention_transfer+crd", "dml+soft_targets")
STILL = Augmentation(crop=0, flip=False, cutout=0)
SEVERAL = 3  # teachers, for methods that learn from several
# Fewer steps to the same places: deep_inversion makes the first pictures in the first epoch, more in the second.
HASTE = {"deep_inversion": {"iterations": 3, "piece": 32, "draws_a_piece": 2}}
SMALL = {
    "resnet": {
        **{"stem_stride": 1, "width_1": 4, "depth_1": 1, "kernel_1": 1, "width_2": 8, "depth_2": 1, "kernel_2": 3},
        **{"width_3": 8, "depth_3": 1, "kernel_3": 1},
    },
    "mobilenet": {
        **{"stem_stride": 1, "stem_width": 4, "width_1": 4, "depth_1": 1, "expansion_1": 2, "kernel_1": 3},
        **{"squeeze_1": 0, "width_2": 8, "depth_2": 1, "expansion_2": 2, "kernel_2": 3, "squeeze_2": 1},
    },
}
LARGER = {
    "resnet": SMALL["resnet"] | {"width_1": 8, "depth_2": 2, "width_3": 16, "kernel_3": 3},
    "mobilenet": SMALL["mobilenet"] | {"stem_width": 8, "width_1": 8, "depth_2": 2, "width_2": 12},
}


class Tokens(nn.Module):
    """A user's own network that works on tokens: each row of the image is one, (B, 8, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.blocks = nn.ModuleList(TokenBlock(width) for _ in range(3))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.squeeze(1))
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(tokens.mean(dim=1))
        return logits


class TokenBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.mix_seeds, self.widen = nn.LayerNorm(width), nn.Linear(8, 8), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix_seeds(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + torch.relu(self.widen(y))


@cache
def digits() -> Dataset:
    """The built-in handwritten digits."""
    return load_dataset(DataOptions(), seed=0)


def build(kind: str, choices: Mapping[str, Mapping[str, int]], seed: int) -> nn.Module:
    """A network of a search space, or of tokens: (B, 1, 8, 8) in stored units -> (B, 10)."""
    data = digits()
    with seeded(seed, 0):
        if kind == "tokens":
            body: nn.Module = Tokens(6 if choices is SMALL else 10)
        else:
            body = available("space")[kind].build(Architecture(kind, choices[kind]), data.input_shape, data.n_classes)
    return Normalized(body, data.mean, data.std)


def decided(network: nn.Module) -> nn.Module:
    """The network with opinions: at the start its logits are all but equal."""
    classifier = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    with seeded(6), torch.no_grad():
        nn.init.normal_(classifier.weight)
    return network.eval()


def hasty(name: str, temperature: float | None = None, strength: float = 1.0) -> Method:
    """The method, in less time."""
    method = make_method(name, temperature, strength)
    for attribute, value in HASTE.get(name, {}).items():
        assert isinstance(getattr(method, attribute), int)
        setattr(method, attribute, value)
    return method


def methods() -> dict[str, Callable[[], Method]]:
    """All that a contract is made with: every method found, some sums, and those that learn from a whole chain."""
    known = available("method")
    sums = [name for name in COMBINED if set(name.split("+")) <= set(known)]
    makers: dict[str, Callable[[], Method]] = {name: partial(hasty, name) for name in (*known, *sums)}
    makers["dense fitnet"] = partial(make_dense, "fitnet", None, 1.0, SEVERAL)
    makers["residual"] = partial(ResidualError, taught=True)
    return makers


def setup_of(n: int = 64, batch_size: int = 32, epochs: int = 2, seed: int = 5) -> TrainingSetup:
    """The first `n` digits, shifted by up to a pixel."""
    data = digits()
    x, y = data.train.x[:n], data.train.y[:n]
    return TrainingSetup(
        augmenter=Augmenter(x, data.mean, Augmentation(crop=1, flip=False, cutout=0), seed=0),
        labels=y,
        facts=DatasetInfo(n, data.n_classes, data.mean, data.std),
        schedule=Schedule(epochs, batch_size, 0.05, 0.9, 5e-4, 0.1, 0.2, 5.0),
        numerics=FP32,
        seed=seed,
    )


def other_view(x: Tensor) -> Tensor:
    """Another recording of the same samples: a negative, at half the resolution."""
    coarse = torch.nn.functional.avg_pool2d(255 - x.float(), 2)
    return torch.nn.functional.interpolate(coarse, scale_factor=2).to(x.dtype)


def teachers_of(method: Method, kind: str, setup: TrainingSetup) -> list[TeacherOutputs]:
    """None, one or three, as the method says; of paired data they are shown the other view."""
    count = {"none": 0, "one": 1, "several": SEVERAL}[method.teachers]
    augmenter = setup.augmenter
    if "pairs" in method.needs:
        augmenter = Augmenter(other_view(augmenter.x), digits().mean, STILL, 0)
    return [
        TeacherOutputs(
            Teacher(decided(build(kind, LARGER, 100 + i)), f"{i:064d}", "teacher", 1, 1),
            augmenter,
            setup.schedule.batch_size,
            setup.numerics,
            None,
        )
        for i in range(count)
    ]


def training_of(method: Method, student: str, teacher: str, setup: TrainingSetup) -> Training:
    """A training of a small student under larger teachers that has not begun."""
    rebuild = partial(build, student, SMALL)
    return Training(rebuild(1), teachers_of(method, teacher, setup), method, setup, rebuild)


CASES = methods()
PAIRS = (("mobilenet", "resnet"), ("resnet", "mobilenet"))  # student, teacher
each_method = pytest.mark.parametrize("name", CASES)
each_pair = pytest.mark.parametrize("pair", PAIRS, ids="<-".join)
Pair = tuple[str, str]


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in module.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def started(name: str, pair: Pair, setup: TrainingSetup, make: Callable[[], Method] | None = None) -> Training:
    return training_of((make or CASES[name])(), *pair, setup)


def finished(name: str, pair: Pair, setup: TrainingSetup, make: Callable[[], Method] | None = None) -> Training:
    training = started(name, pair, setup, make)
    training.run()
    return training


@cache
def uninterrupted(name: str, pair: Pair) -> Training:
    """Two epochs, for those tests that only look at the result."""
    return finished(name, pair, setup_of())


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Sums on several threads are slower on networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
