"""The contract of a task."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_kd.scores.base import Evidence, Score
from nas_kd.tasks.base import MixedLabels, Targets, Task
from nas_kd.tasks.moving import Shifts
from nas_kd.testing.rules import check_rules, fault_of_line

FEW, STEPS, RATE = 8, 200, 0.3  # samples whose outputs are trained, and how
OPEN_SIDE = 4  # of outputs that may have any
LONGEST = 110  # characters of a summary: a line of `nas-kd list tasks`
WORDS = ("name", "title", "summary", "output")


@dataclass(frozen=True)
class TaskCase:
    """A task under test, with targets to try it on."""

    task: Task
    ys: Mapping[str, Any]
    names: tuple[str, ...] | None

    @cached_property
    def read(self) -> Targets:
        """What the task made of the targets."""
        return self.task.read_targets({split: np.asarray(y) for split, y in self.ys.items()}, self.names)

    @property
    def bound(self) -> Task:
        """The task as these targets have it."""
        return self.read.task

    @cached_property
    def y(self) -> Tensor:
        """Targets of a few samples."""
        return torch.from_numpy(self.read.values["train"][:FEW])

    @cached_property
    def raw(self) -> Tensor:
        """(8, ...) made-up outputs of a network for these samples; open sides have a length of 4."""
        generator = torch.Generator().manual_seed(0)
        sides = self.bound.raw_shape(len(self.read.names))
        return torch.randn(len(self.y), *(OPEN_SIDE if side is None else side for side in sides), generator=generator)

    @cached_property
    def losses(self) -> list[float]:
        """The label loss while free outputs are trained on it."""
        return self._trained[0]

    @cached_property
    def learned(self) -> NDArray[np.float32]:
        """What the outputs became by following the gradient of the label loss."""
        return self._trained[1]

    @cached_property
    def _trained(self) -> tuple[list[float], NDArray[np.float32]]:
        raw, scale = self.raw.clone(), self.bound.output_scale
        mean, std = (torch.tensor(part) for part in scale) if scale is not None else (0.0, 1.0)
        raw.requires_grad_()
        optimizer, losses = torch.optim.Adam([raw], lr=RATE), list[float]()
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = self.bound.label_loss(self.bound.decide(raw * std + mean), self.y, None, None)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses, (raw * std + mean).detach().numpy().astype(np.float32)

    def evidence(self, outputs: NDArray[np.float32]) -> Evidence:
        """What these outputs are worth for the few samples."""
        return self.bound.evidence(outputs, self.y.numpy())

    @property
    def scores(self) -> list[Score]:
        """The task's own score, and that which shows knowledge."""
        return [self.task.headline_score, self.task.knowledge_score]


def check_task(task: Task, ys: Mapping[str, Any], names: tuple[str, ...] | None = None) -> None:
    """Check a task against what training, judging and exporting expect of it.

    Args:
        task: the task.
        ys: targets as a source gives them, by split: "train", with 8 samples at least that are not all alike, and
            "test".
        names: of classes or outputs; None: the task finds them.

    Raises:
        BrokenRule: the task breaks a rule; the message names the rule and what was seen.

    Examples:
        >>> from nas_kd.tasks.base import load_task
        >>> check_task(load_task("regression"), {"train": [1.0, 2, 3, 4, 5, 6, 7, 9], "test": [2.5, 4.5]})
    """
    check_rules(f"task {getattr(task, 'name', type(task).__name__)!r}", RULES, TaskCase(task, ys, names))


def names_itself(case: TaskCase) -> str | None:
    """The task has one line each for its name, title, summary and words, and scores that are for it."""
    for attribute in WORDS:
        longest = LONGEST if attribute == "summary" else None
        if fault := fault_of_line(attribute, getattr(case.task, attribute, None), longest):
            return fault
    wrong = [s.name for s in case.scores if s.task not in (case.task.name, case.task.scored_as)]
    return f"score {wrong[0]!r} is for another task" if wrong else None


def reads_targets(case: TaskCase) -> str | None:
    """Targets become arrays with a row for each sample, of one type, beside a name for each output."""
    found = case.read
    if set(found.values) != set(case.ys):
        return f"targets of {', '.join(case.ys)} became those of {', '.join(found.values)}"
    for split, y in found.values.items():
        if not isinstance(y, np.ndarray) or len(y) != len(case.ys[split]):
            return f"y of {split} became {type(y).__name__}, want an array with {len(case.ys[split])} rows"
    kinds = {(y.dtype, y.shape[1:]) for y in found.values.values()}
    if len(kinds) > 1:
        return f"splits differ in type or shape: {sorted(map(str, kinds))}"
    return None if found.names else "there are no names of outputs"


def groups_samples(case: TaskCase) -> str | None:
    """Every training sample belongs to a group, a whole number, for carving splits; and to one that stays together."""
    y = case.read.values["train"]
    kept = case.bound.kept_together(y)
    for what, numbers in (("strata", case.bound.strata(y)), ("what is kept together", kept)):
        groups = np.asarray(numbers)
        if numbers is not None and (groups.shape != (len(y),) or groups.dtype.kind not in "ui"):
            return f"{what} of {len(y)} samples: shape {groups.shape} and type {groups.dtype}"
    return None if kept is None or case.bound.together else "it keeps samples together, and has no word for them"


def orders_samples(case: TaskCase) -> str | None:
    """An epoch has every sample once, in an order that follows from the generator."""
    first, second = (case.bound.order(case.y, torch.Generator().manual_seed(1)).tolist() for _ in range(2))
    if sorted(first) != list(range(len(case.y))):
        return f"{len(case.y)} samples are shown as {first}"
    return None if first == second else "the same generator gives another order"


def finishes_networks(case: TaskCase) -> str | None:
    """What it puts behind a network leaves as many outputs, and changes no decision of a user's own network."""
    n = len(case.read.names)
    given = case.raw.detach()
    raw = case.bound.finished(nn.Identity(), n, own_units=False)(given)
    if raw.shape != given.shape:
        return f"outputs {tuple(given.shape)} become {tuple(raw.shape)}"
    decided, again = (case.bound.decide(z) for z in (raw, case.bound.finished(nn.Identity(), n, own_units=True)(raw)))
    return None if torch.allclose(decided, again, atol=1e-6) else "networks of a user's own decide otherwise behind it"


def decides_as_often_as_there_are_targets(case: TaskCase) -> str | None:
    """There is a target for each row of decisions, and a sample's rows depend on that sample alone."""
    decided, targets = case.bound.decide(case.raw), case.bound.targets(case.y)
    if len(decided) != len(targets):
        return f"{len(case.y)} samples have {len(decided)} rows and {len(targets)} targets"
    half = case.bound.decide(case.raw[: len(case.raw) // 2])
    return None if torch.equal(half, decided[: len(half)]) else "rows change with the other samples of a batch"


def learns_from_labels(case: TaskCase) -> str | None:
    """The label loss is finite and falls when outputs follow its gradient."""
    first, last = case.losses[0], case.losses[-1]
    if not np.isfinite(case.losses).all():
        return f"the loss became {case.losses[-1]}"
    return None if last < first else f"the loss went from {first:.4g} to {last:.4g} in {STEPS} steps"


def leaves_rows_out(case: TaskCase) -> str | None:
    """Rows that count 0 change nothing: neither the label loss nor its gradient."""
    task = case.bound
    decided = task.decide(case.raw).detach()
    counts = task.row_counts(case.y, [decided])
    if counts is None:
        return None
    if counts.shape != (len(decided),) or not bool(((counts >= 0) & (counts <= 1)).all()):
        return f"{len(decided)} rows have counts of shape {tuple(counts.shape)} from {float(counts.min()):.3g} on"
    other = torch.where((counts > 0)[:, None], decided, decided.flip(0) + 3)
    losses, gradients = [], []
    for rows in (decided, other):
        given = rows.clone().requires_grad_()
        losses.append(task.label_loss(given, case.y, None, None))
        gradients.append(torch.autograd.grad(losses[-1], given)[0])
    if not torch.allclose(losses[0], losses[1]):
        return f"the label loss is {float(losses[0]):.6g}, with other rows of count 0 {float(losses[1]):.6g}"
    return "rows of count 0 have a gradient" if bool(gradients[0][counts == 0].any()) else None


def keeps_places(case: TaskCase) -> str | None:
    """Targets that have places stay where they are if nothing moves, and come back if they are mirrored twice."""
    moving, y = case.bound.moving, case.y
    if moving is None:
        return None
    still, no_hole = torch.zeros(len(y), 2, dtype=torch.int64), torch.zeros(len(y), 0, dtype=torch.int64)
    if not torch.equal(moving.shifted(y, Shifts(still, torch.zeros(len(y), dtype=torch.bool), no_hole)), y):
        return "a shift by 0 pixels changes them"
    mirror = Shifts(still, torch.ones(len(y), dtype=torch.bool), no_hole)
    if not torch.equal(moving.shifted(moving.shifted(y, mirror), mirror), y):
        return "mirrored twice, they are others"
    return "a blank of no size changes them" if not torch.equal(moving.blanked(y, torch.zeros(len(y), 4)), y) else None


def mixes_labels(case: TaskCase) -> str | None:
    """Mixed with a share of 1, targets are what they are unmixed; the summed loss is the mean's times the samples."""
    task, decided = case.bound, case.bound.decide(case.raw)
    plain = task.label_loss(decided, case.y, None, None)
    mixed = task.label_loss(decided, case.y, None, MixedLabels(case.y.flip(0), torch.ones(len(case.y))))
    if not torch.allclose(plain, mixed, rtol=1e-4):
        return f"the loss is {float(plain):.6g}, mixed with a share of 1 {float(mixed):.6g}"
    summed = task.summed_loss(decided, case.y)
    same = torch.allclose(plain * len(case.y), summed, rtol=1e-4)
    return None if same else f"{len(case.y)} samples of mean loss {float(plain):.6g} sum up to {float(summed):.6g}"


def judges_what_was_learned(case: TaskCase) -> str | None:
    """Scores are in 0..1 with an interval around them, the same in parts, and higher for what was learned."""
    for score in case.scores:
        values = []
        for outputs in (case.raw.numpy(), case.learned):
            evidence = case.evidence(outputs)
            if evidence.samples != len(case.y):
                return f"evidence of {len(case.y)} samples counts {evidence.samples}"
            found = score.of(evidence)
            parts = ((outputs[i : i + 3], case.y.numpy()[i : i + 3]) for i in range(0, len(case.y), 3))
            if (other := score.value(case.bound.evidence_of_parts(parts))) != score.value(evidence):
                return f"{score.name} is {score.value(evidence)} of all samples at once, and {other} of them in parts"
            if not 0 <= found.low <= found.mean <= found.high <= 1:
                return f"{score.name} is {found.mean} in an interval from {found.low} to {found.high}"
            values.append(found.mean)
        if values[1] < max(values[0], 0.9):
            return f"{score.name} is {values[0]:.3f} of made-up outputs and {values[1]:.3f} of learned ones"
        guess = score.guessing(case.y.numpy(), case.y.numpy(), len(case.read.names))
        if not 0 <= guess <= 1:
            return f"guessing has {score.name} {guess}"
    return None


def compares_networks(case: TaskCase) -> str | None:
    """A network decides as itself; differences are numbers of samples, or of places, with a gap each."""
    raw = case.raw.numpy()
    if len(case.bound.differences(raw, raw).rows):
        return "a network differs from itself"
    found = case.bound.differences(raw, -raw)
    places = len(raw) if found.places is None else found.places
    if len(found.rows) != len(found.gaps) or (len(found.rows) and found.rows.max() >= places):
        return f"differences are {len(found.rows)} rows up to {found.rows.max(initial=0)} and {len(found.gaps)} gaps"
    return None


def describes_its_output(case: TaskCase) -> str | None:
    """The card states the kind of output, and words of one line each."""
    found = case.bound.describe_output(case.read.names)
    fields = (found.kind, found.noun, found.each, found.items, found.example, found.limit, found.hub_metric)
    return next(filter(None, (fault_of_line("a word of the card", text) for text in fields)), None)


RULES = (
    names_itself,
    reads_targets,
    groups_samples,
    orders_samples,
    finishes_networks,
    decides_as_often_as_there_are_targets,
    learns_from_labels,
    leaves_rows_out,
    keeps_places,
    mixes_labels,
    judges_what_was_learned,
    compares_networks,
    describes_its_output,
)
