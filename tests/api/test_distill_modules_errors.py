"""What cannot work is refused in one clear line, before anything is trained where that can be known."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nas_kd.commands.distill_modules import distill
from nas_kd.errors import InputError
from nas_kd.methods.base import Batch, Method, Outputs
from nas_kd.methods.response.soft_targets import SoftTargets

from .refusals import X, Y, assert_refused
from .toys import CLASSES, Net, net, same, state


class Answers(nn.Module):
    """Gives whatever a function makes of the logits."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.change = net(), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.net(x))


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.LazyLinear(3)


def frozen() -> nn.Module:
    return net().requires_grad_(False)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Net, " is the class Net; pass an instance of it"),
        ("resnet18", " is of type str; want a torch.nn.Module"),
        (
            nn.utils.skip_init(nn.Linear, 4, 3, device="meta"),
            r": 'weight' is on meta; training runs on the CPU, so move it there",
        ),
        (Lazy(), ": 'head.weight' has no shape yet; run the network on a batch before"),
        (
            Answers(lambda z: {"one": z, "two": 2 * z}),
            r":? returns a dict with \['one'\] \(2, 3\), \['two'\] \(2, 3\): which of them the logits .* are .*",
        ),
        (
            Answers(lambda z: torch.stack([z, z], 2)),
            r" gives \(2, 3, 2\) for 2 samples; want logits \(2, C\), one for each class",
        ),
        (Answers(lambda z: z[:, :1]), r" gives \(2, 1\) for 2 samples; want logits \(2, C\), one for each class"),
        (Answers(lambda z: z.mean(dim=0)), r" gives \(3,\) for 2 samples; want logits \(2, C\), one for each class"),
        (
            Answers(lambda z: z.argmax(dim=1, keepdim=True).expand(-1, 3)),
            r" gives \(2, 3\) of torch.int64 for 2 samples; want logits \(2, C\), one for each class",
        ),
        (
            nn.Linear(5, 3),
            r" cannot take samples of train, float32 of shape \(1, 8, 8\): RuntimeError: .*",
        ),
    ],
)
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_networks(network: Any, message: str, role: str) -> None:
    assert_refused(f"{role}{message}", **{role: network})


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_networks() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    message = "student is a ScriptModule, whose layers cannot be read; pass the module that it was made from"
    assert_refused(message, student=scripted)
    closed = (
        "the teacher is scripted or traced, so that its features cannot be read: give the module that it was made "
        r"from, or use a method that learns from logits \(.*soft_targets\)"
    )
    assert_refused(closed, teacher=scripted, method="similarity")


def test_students_of_another_precision() -> None:
    for student, kind in ((net().double(), "float64"), (net().half(), "float16")):
        assert_refused(
            rf"student: 'body.0.weight' is torch.{kind}; networks must be float32: call .float\(\)", student=student
        )


def test_networks_that_do_not_belong_together() -> None:
    assert_refused("student gives 3 logits, teacher 100: both must have one per class", teacher=net(8, classes=100))
    assert_refused(
        "student gives 3 logits, teacher 2 4: both must have one per class",
        teacher=[net(8), net(8, classes=4)],
        method="average_teachers",
    )
    assert_refused("student: no parameter requires a gradient, so there is nothing to train", student=frozen())
    student, teacher = net(), net(8)
    teacher.drop = student
    silent = "student: its output carries no gradient; is its forward within torch.no_grad\\(\\)\\?"
    assert_refused(silent, student=Answers(lambda z: z.detach()))
    shared = "student and teacher share 'body.0.weight'; training would change the teacher: pass a copy"
    assert_refused(shared, student, teacher)
    assert_refused(shared, student, student)


@pytest.mark.parametrize(
    ("method", "teacher", "message"),
    [
        ("soft_target", None, "unknown method 'soft_target'; did you mean 'soft_targets'?"),
        ("soft_targets", "none", "method 'soft_targets' learns from a teacher; pass teacher="),
        ("soft_targets+dml", "none", r"method 'soft_targets\+dml' learns from a teacher; pass teacher="),
        ("dml", None, "method 'dml' learns without a teacher; leave teacher out"),
        ("born_again", None, "method 'born_again' learns without a teacher; leave teacher out"),
        ("soft_targets", [net(8), net(9)], "method 'soft_targets' learns from one teacher, got 2"),
        ("average_teachers", None, "method 'average_teachers' learns from several teachers, and has 1: give it at .*"),
        ("cross_modal", None, "method 'cross_modal' needs the teacher's own view of each sample: use a config"),
        (int, None, "method is of type type; want a name, a Method class or an instance of one"),
        (3, None, "method is of type int; want a name, a Method class or an instance of one"),
    ],
)
def test_methods(method: Any, teacher: Any, message: str) -> None:
    assert_refused(message.replace("?", r"\?"), teacher=teacher, method=method)


def test_parameters_of_methods() -> None:
    class Odd(Method):
        def __init__(self, width: int) -> None:
            super().__init__()

    instance = "method is an instance: set its temperature and strength where it is created"
    assert_refused(instance, method=SoftTargets(), temperature=2.0)
    assert_refused(instance, method=SoftTargets(), strength=2.0)
    assert_refused("method 'Odd' cannot be created from temperature and strength: .*; pass an instance", method=Odd)
    assert_refused("temperature must be a number > 0, got 0", temperature=0)
    assert_refused("temperature must be a number > 0, got nan", temperature=float("nan"))
    assert_refused("strength must be a number >= 0, got -1", strength=-1)
    assert_refused("strength must be a number >= 0, got '1'", strength="1")
    needs_more = "nas_kd.methods.sandwich:Sandwich"
    assert_refused(f"method '{needs_more}' cannot be created from temperature and strength: .*", method=needs_more)


class Declared(Method):
    name, source, summary = "declared", "none", "none"

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        return {"declared": student.logits.square().mean()}


class Misspelt(Declared):
    needs = frozenset({"feature"})  # type: ignore[arg-type]


class Listed(Declared):
    needs = ("features",)  # type: ignore[assignment]


class TensorTerms(Declared):
    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        return student.logits.square().mean()  # type: ignore[return-value]


def test_methods_that_declare_what_does_not_exist() -> None:
    kinds = "embedding, features, indices, labels, logits, network, pairs, stem"
    assert_refused(f"method 'declared': needs has 'feature'; allowed: {kinds}", method=Misspelt)
    listed = rf"method 'declared': needs must be a frozenset of {kinds}, got \('features',\)"
    assert_refused(listed, method=Listed)


def test_a_method_that_returns_no_terms_by_name() -> None:
    with pytest.raises(InputError, match="method 'declared': forward must return a dict of loss terms, got Tensor"):
        distill(net(), net(8), train=(X, Y), epochs=1, method=TensorTerms)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be >= 1, got 0"),
        ({"epochs": "many"}, 'epochs must be a whole number or "auto", got .many.'),
        ({"batch_size": 1}, "batch_size must be >= 2, got 1"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0, got 0.0"),
        ({"learning_rate": float("nan")}, 'learning_rate must be a finite number or "auto", got nan'),
        ({"optimizer": "adam"}, "optimizer must be 'sgd', 'adamw' or 'auto', got 'adam'; did you mean 'adamw'.?"),
        ({"weight_decay": -1}, "weight_decay must be >= 0, got -1"),
        (
            {"augment": {"strength": "heavy"}},
            "augment.strength must be 'none', 'standard', 'strong' or 'auto', got 'heavy'",
        ),
        (
            {"augment": {"strength": "strong"}, "train": (X.flatten(1), Y)},
            r"augment needs images \(C, H, W\), samples have shape \(64,\); leave it out",
        ),
        ({"threads": 0}, "threads must be >= 1, got 0"),
        ({"precision": "fp16"}, "precision must be 'auto', 'fp32' or 'bf16', got 'fp16'.*"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ({"seed": 1.5}, "seed must be a whole number >= 0, got 1.5"),
        ({"augment": True}, "augment is of type bool; want e.g. {'crop': 4, 'flip': True}"),
        ({"augment": {"crop": 8}}, "augment.crop must be below the image's side of 8 pixels, got 8"),
        (
            {"augment": {"rotate": 8}},
            "augment.rotate: unknown key; allowed: colour, crop, cutout, erase, flip, operations, resized_crop, stre.*",
        ),
        ({"augment": {"crp": 2}}, "augment.crp: unknown key; did you mean 'crop'.?"),
        (
            {"augment": {"crop": 1}, "train": (X.flatten(1), Y)},
            r"augment needs images \(C, H, W\), samples have shape \(64,\); leave it out",
        ),
        (
            {"augment": {"crop": 1}, "train": DataLoader(TensorDataset(X, Y), 8)},
            "augment changes arrays; train is a DataLoader: let it augment by itself",
        ),
        ({"callbacks": [print]}, "callbacks: want instances of nas_kd.Callback, .*"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    assert_refused(message, **options)


def test_numbers_of_numpy_are_numbers() -> None:
    options = {"epochs": np.int64(1), "batch_size": np.int32(32), "learning_rate": np.float32(0.1), "seed": np.int64(3)}
    a, b = net(), net()
    distill(a, net(8), train=(X, Y), **options)
    distill(b, net(8), train=(X, Y), epochs=1, batch_size=32, learning_rate=float(np.float32(0.1)), seed=3)
    assert same(state(a), state(b))


def test_peers_need_layers_that_can_be_initialized_again() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(64, CLASSES))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.weight

    assert_refused(
        r"cannot draw other initial weights for Bare: none of its layers has reset_parameters\(\); this method .*",
        student=Bare(),
        teacher="none",
        method="dml",
    )
