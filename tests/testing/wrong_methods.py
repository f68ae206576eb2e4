"""Distillation methods with one fault each, and the fault's name in the message that refuses them."""

import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from nas_kd.methods.base import Batch, Method, MethodContext, Outputs
from nas_kd.methods.losses import kl_divergence

Terms = dict[str, Tensor]


class Right(Method):
    """Soft targets: what all the others are but for their fault."""

    name = "mine"
    source = "Hinton 2015, arXiv:1503.02531"
    summary = "KL divergence between softened class probabilities"
    tunable = ("temperature", "strength")

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
        return {"mine": self.term(student, teachers, batch)}

    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        return kl_divergence(student.logits, teachers[0].logits, self.temperature)


class NotAMethod:
    """Nothing that the engine could train with."""

    def __init__(self, temperature: float | None = None, strength: float = 1.0) -> None:
        self.name = "mine"


class NoArguments(Right):
    def __init__(self) -> None:
        super().__init__()


class NoSummary(Right):
    summary = "first line\nsecond line"


class UnknownNeed(Right):
    needs = frozenset({"logits", "gradients"})  # type: ignore[arg-type]


class IgnoresGivenStrength(Right):
    def __init__(self, temperature: float | None = None, strength: float = 1.0) -> None:
        super().__init__(temperature)


class OwnDefault(Right):
    def __init__(self, temperature: float | None = None, strength: float = 1.0) -> None:
        super().__init__(2.5 if temperature is None else temperature, strength)


class LeavesSamplesOut(Right):
    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        return torch.randperm(len(labels), generator=generator) // 2


class FixedOrder(Right):
    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        return torch.arange(len(labels))


class ChangesTheBatch(Right):
    def draw(self, real: Callable[[], Batch]) -> Batch:
        batch = real()
        return batch._replace(x=batch.x * 2)


class ChangesTheStudent(Right):
    def attach(self, context: MethodContext) -> None:
        with torch.no_grad():
            next(context.student.parameters()).mul_(2)


class ExtendsTheStudent(Right):
    def attach(self, context: MethodContext) -> None:
        context.student.adapter = nn.Linear(2, 2)


class OwnsTheTeacher(Right):
    def attach(self, context: MethodContext) -> None:
        self.teacher = context.teachers[0]


class OneLossASample(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        return (student.logits - teachers[0].logits).square().mean(dim=1)


class ReturnsATensor(Right):
    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Any:
        return self.term(student, teachers, batch)


class TakesTheEnginesName(Right):
    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
        return {"ce": self.term(student, teachers, batch)}


class Infinite(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        return super().term(student, teachers, batch) / 0


class ChangesStudentOutputs(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        student.logits.data.mul_(0.5)
        return super().term(student, teachers, batch)


class ChangesTeacherOutputs(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        teachers[0].logits.sub_(teachers[0].logits.mean())
        return super().term(student, teachers, batch)


class ChangesLabels(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        batch.y.copy_(teachers[0].logits.argmax(dim=1))
        return super().term(student, teachers, batch)


class ChangesImages(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        batch.x.div_(255)
        return super().term(student, teachers, batch)


class Fails(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        return student.features[0].mean()  # "features" are not among its needs


class NoTerms(Right):
    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Terms:
        return {}


class UnknownUnscaled(Right):
    unscaled_terms = frozenset({"other"})


class Detached(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        return super().term(Outputs(student.logits.detach(), (), student.embedding), teachers, batch)


class MovesTheTeacher(Right):
    needs = frozenset({"logits", "network"})

    def attach(self, context: MethodContext) -> None:
        self._teacher = (context.teachers[0],)

    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        with torch.no_grad():
            next(self._teacher[0].parameters()).mul_(1.01)
        return super().term(student, teachers, batch)


class TrainsTheTeacher(MovesTheTeacher):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        self._teacher[0].train()
        return Right.term(self, student, teachers, batch)


class DrawsFromNumPy(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        return super().term(student, teachers, batch) * float(np.random.rand())


class DrawsFromPython(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        return super().term(student, teachers, batch) * random.random()


class GrowingBank(Right):
    target_grad_ratio = None

    def attach(self, context: MethodContext) -> None:
        self.register_buffer("bank", torch.zeros(0, context.n_classes))

    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        self.bank = torch.cat([self.bank, student.logits.detach()])
        return super().term(student, teachers, batch)


class NotDeterministic(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        generator = Generator()
        generator.seed()
        return super().term(student, teachers, batch) * torch.rand((), generator=generator)


class SeedsInAttach(Right):
    def attach(self, context: MethodContext) -> None:
        torch.manual_seed(0)


class SeedsInForward(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        torch.manual_seed(0)
        return super().term(student, teachers, batch) * torch.rand(())


class ForgetsItsState(Right):
    """Its running mean is no buffer, so no checkpoint carries it."""

    def attach(self, context: MethodContext) -> None:
        self.mean = torch.zeros(context.n_classes)

    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        self.mean = 0.5 * self.mean + 0.5 * teachers[0].logits.mean(dim=0)
        return F.mse_loss(student.logits.mean(dim=0), self.mean) * self.temperature


class UnusedAdapter(Right):
    def attach(self, context: MethodContext) -> None:
        self.adapter = nn.Linear(4, 4)


class IgnoresStrength(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        return super().term(student, teachers, batch) / self.strength


class IgnoresTemperature(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        return F.mse_loss(student.logits, teachers[0].logits)


class HidesTemperature(Right):
    tunable = ("strength",)


class NanForTwoSamples(Right):
    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        return super().term(student, teachers, batch) + 0 * student.logits.sum() / (len(batch.y) - 2)


class NanForEqualEmbeddings(Right):
    """Distances over their mean, as in relational distillation, without a thought for a mean of 0."""

    needs = frozenset({"logits", "embedding"})

    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        s, t = (F.pdist(o.embedding) for o in (student, teachers[0]))
        return super().term(student, teachers, batch) + F.mse_loss(s / s.mean(), t / t.mean())


class NanGradientForEqualLogits(Right):
    """The loss is 0 there, but the gradient of a root at 0 is infinite."""

    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        centred = student.logits - student.logits.mean(dim=1, keepdim=True)
        return super().term(student, teachers, batch) + centred.square().sum(dim=1).sqrt().mean()


class FailsInBF16(Right):
    """A network of its own, run as the student is, that copies bfloat16 numbers into a float32 tensor."""

    def attach(self, context: MethodContext) -> None:
        self.judge = Judge(context.n_classes)
        self._run = context.observe(self.judge, context.student_outputs.logits)

    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        return super().term(student, teachers, batch) + self._run(student.logits).logits.square().mean()


class Judge(nn.Module):
    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_classes, 1)

    def forward(self, logits: Tensor) -> Tensor:
        judged = self.layer(logits)
        return torch.zeros(judged.shape).scatter(1, torch.zeros(judged.shape, dtype=torch.int64), judged)


class NeedsMaps(Right):
    needs = frozenset({"logits", "features"})

    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        _, _, height, width = student.features[0].shape
        return super().term(student, teachers, batch) + student.features[0].var() / (height * width)


class NeedsThreeStages(Right):
    needs = frozenset({"logits", "features"})

    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        return super().term(student, teachers, batch) + student.features[2].var()


class ReadsSamples(Right):
    """Says that it makes up its samples, and shows real ones."""

    needs = frozenset({"logits", "network"})


class KeepsIndices(Right):
    needs = frozenset({"logits", "network"})

    def draw(self, real: Callable[[], Batch]) -> Batch:
        x = 255 * torch.rand(16, 1, 8, 8)
        return Batch(x, torch.arange(16) % 4, torch.arange(16), 0.0)


class EqualPeer(Right):
    train_cost_factor = 2.0

    def attach(self, context: MethodContext) -> None:
        self.peer = deepcopy(context.student)
        self._run = context.observe(self.peer, context.example)

    def term(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> Tensor:
        peer = self._run(batch.x).logits
        return super().term(student, teachers, batch) + F.cross_entropy(peer, batch.y) * self.temperature

    def peers(self) -> Sequence[nn.Module]:
        return (self.peer,)


class UncountedPeer(EqualPeer):
    train_cost_factor = 1.0

    def attach(self, context: MethodContext) -> None:
        self.peer = context.rebuild(1)
        self._run = context.observe(self.peer, context.example)


class GrowsTheFile(Right):
    """A hook scales the student's logits, in the exported file too."""

    def attach(self, context: MethodContext) -> None:
        context.student.register_forward_hook(lambda _module, _inputs, logits: logits * 1.5)


class LeavesAHook(Right):
    def attach(self, context: MethodContext) -> None:
        context.student.register_forward_hook(lambda _module, _inputs, _logits: None)


# The method, the rule that it breaks (its first words) and what is seen.
WRONG: list[tuple[Callable[..., Any], str, str]] = [
    (NotAMethod, "The class declares", "NotAMethod is no nas_kd.methods.base.Method"),
    (NoArguments, "The class declares", "TypeError: NoArguments.__init__() takes 1 positional argument"),
    (NoSummary, "The class declares", "summary must be one line of text, got 'first line"),
    (UnknownNeed, "The class declares", "needs is frozenset({"),
    (
        IgnoresGivenStrength,
        "The search's temperature and strength",
        "given temperature 3.0 and strength 0.5, it has 3.0 and 1.0",
    ),
    (OwnDefault, "The search's temperature and strength", "given None, its temperature is 2.5, not 4.0"),
    (LeavesSamplesOut, "An epoch shows every sample once", "order gives ["),
    (FixedOrder, "An epoch shows every sample once", "one order for two seeds of its generator"),
    (ChangesTheBatch, "Only a method that needs the teacher's network", "draw returns another batch"),
    (ChangesTheStudent, "Attaching leaves the student", "student's body.stem.conv.weight has changed"),
    (ExtendsTheStudent, "Attaching leaves the student", "student's adapter.weight has changed, is gone or is new"),
    (OwnsTheTeacher, "Attaching leaves the student", "parameters of the student or a teacher"),
    (OneLossASample, "Every term is a named finite scalar", "term 'mine' has shape (16,)"),
    (ReturnsATensor, "Every term is a named finite scalar", "forward returned Tensor"),
    (TakesTheEnginesName, "Every term is a named finite scalar", "a term is called 'ce'"),
    (Infinite, "Every term is a named finite scalar", "term 'mine' is inf"),
    (ChangesStudentOutputs, "The outputs and batches given", "forward changed student.logits"),
    (ChangesTeacherOutputs, "The outputs and batches given", "forward changed teachers[0].logits"),
    (ChangesLabels, "The outputs and batches given", "forward changed batch.y"),
    (ChangesImages, "The outputs and batches given", "forward changed batch.x"),
    (Fails, "A training of two epochs runs to its end", "IndexError: tuple index out of range"),
    (NoTerms, "There are terms", "no terms, though it needs logits"),
    (UnknownUnscaled, "There are terms", "unscaled_terms names 'other'; terms are mine"),
    (Detached, "Some term has a gradient", "mine: no gradient, or zero in every step"),
    (MovesTheTeacher, "Attaching and training leave the teachers", "teacher 0: body.stem.conv.weight has changed"),
    (
        TrainsTheTeacher,
        "Attaching and training leave the teachers",
        "teacher 0: body.stem.norm.running_mean has changed",
    ),
    (DrawsFromNumPy, "Attaching and training leave the global random", "generator of NumPy has moved"),
    (DrawsFromPython, "Attaching and training leave the global random", "generator of Python has moved"),
    (GrowingBank, "The names and shapes of the method's state", "bank was (0, 4) of torch.float32, is"),
    (NotDeterministic, "One seed gives one training", "two trainings with one seed differ in student/"),
    (SeedsInAttach, "Another seed gives another training", "once attached, torch's generator is in one state"),
    (SeedsInForward, "Another seed gives another training", "once stepped, torch's generator is in one state"),
    (ForgetsItsState, "A training restored from a checkpoint", "restored, it ends with another student/"),
    (UnusedAdapter, "Every trained parameter", "method adapter.bias: no gradient"),
    (IgnoresStrength, "Temperature and strength change", "strength is listed as tunable and ignored"),
    (IgnoresTemperature, "Temperature and strength change", "temperature is listed as tunable and ignored"),
    (HidesTemperature, "Temperature and strength change", "temperature is not listed as tunable"),
    (NanForTwoSamples, "Batches of two samples", "TrialError: the loss became nan"),
    (NanForEqualEmbeddings, "Batches of one image twice", "TrialError: the loss became nan"),
    (NanGradientForEqualLogits, "Outputs that are equal", "TrialError: the loss became nan"),
    (FailsInBF16, "Under bfloat16 autocast", "Expected self.dtype to be equal to src.dtype"),
    (NeedsMaps, "Networks without feature maps", "ValueError: not enough values to unpack"),
    (NeedsThreeStages, "So are a convolutional student of a transformer", "IndexError: tuple index out of range"),
    (ReadsSamples, "A method that makes up its samples", "a training sample was read"),
    (KeepsIndices, "A method that makes up its samples", "(16,) labels and 16 indices for 16 samples"),
    (EqualPeer, "Peers have the student's architecture", "peer 0 starts with the weights of another network"),
    (
        UncountedPeer,
        "Peers have the student's architecture",
        "train_cost_factor is 1.0, with 1 peers beside the student",
    ),
    (GrowsTheFile, "The exported file has the graph and the size", "bytes, without the method"),
    (LeavesAHook, "No hook is left", "a hook is left on the student's outermost module"),
]
