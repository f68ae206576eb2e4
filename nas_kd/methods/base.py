"""The interface of distillation methods: named loss terms on outputs of student and teachers, and trained modules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor, nn

from nas_kd.tasks.base import DecisionKind, MixedLabels, Task
from nas_kd.tasks.classification import CLASSIFICATION

# What a method reads. Of student and teachers: "logits", "features", "embedding", "stem". "indices": positions of the
# samples in the training split; "network": the teacher itself, for gradients through it; "pairs": the teacher's own
# view of each sample (cross-modal data); "labels": `batch.y` of every sample, beyond the label loss.
Need = Literal["logits", "features", "embedding", "stem", "indices", "network", "pairs", "labels"]
# Of these, unlabelled samples have none: a method that needs one is given the labelled samples of a batch alone.
OF_LABELLED_SAMPLES: frozenset[Need] = frozenset({"labels", "indices"})


class Outputs(NamedTuple):
    """Outputs of one forward pass; parts that the method does not need are empty.

    Attributes:
        logits: (B, C): a row for each decision, which is a sample unless the task says otherwise (then (P, C)); of a
            task that asks for numbers, these, (B, k), in standard deviations of the training targets; of one that asks
            for vectors, these, (B, d), of length 1.
        features: one tensor per stage, (B, c, h, w) or tokens (B, t, d).
        embedding: (B, d), the input of the classifier; of a task that asks for vectors, these.
        stem: what the first stage computes its feature from, of the same resolution: (B, c, h, w) or (B, t, d). None if
            the network has no layers in front of its first stage, or none at that resolution.
    """

    logits: Tensor
    features: tuple[Tensor, ...]
    embedding: Tensor
    stem: Tensor | None = None


class Shown(NamedTuple):
    """Consecutive samples of a batch, as they are augmented in one pass over the samples of their kind.

    Attributes:
        unlabelled: their kind: unlabelled samples, or the training split.
        number: of the pass, from 0.
        indices: (b,) int64 positions among the samples of their kind.
    """

    unlabelled: bool
    number: int
    indices: Tensor


class CountedRows(NamedTuple):
    """Which rows of decisions a method sees, where not all count alike.

    Attributes:
        rows: (P,) int64 their positions among all.
        weights: (P,) how much each counts, 0..1; None: all of them alike.
        total: number of all rows.
    """

    rows: Tensor
    weights: Tensor | None
    total: int


class Batch(NamedTuple):
    """One training batch, as the student sees it: L labelled samples, then unlabelled ones where the data have any.

    If samples are mixed in pairs (mixup, cutmix), `y` is the label of the larger share, and `label_loss` learns both.

    Attributes:
        x: (B, ...) float32, augmented, in stored units.
        y: (L, ...) targets of the first L samples, of classification int64 class numbers (L,); L = B in a run without
            unlabelled data.
        indices: (L,) int64 positions of these in the training split; empty if the samples are synthetic.
        progress: completed share of the training schedule, 0..1.
        class_weights: (C,) weights of the classes in the label loss; None: all count alike.
        shown: where all B samples come from, in their order; empty where an epoch is one pass over the training split.
        mixed: labels of what the first L samples are mixed with; None: they are not mixed.
        task: what the targets are.
        counts: which rows of decisions the outputs show; None: all, and they count alike.
    """

    x: Tensor
    y: Tensor
    indices: Tensor
    progress: float
    class_weights: Tensor | None = None
    shown: tuple[Shown, ...] = ()
    mixed: MixedLabels | None = None
    task: Task = CLASSIFICATION
    counts: CountedRows | None = None

    @property
    def has_unlabelled(self) -> bool:
        """Whether some of the samples have no label."""
        return len(self.y) < len(self.x)

    def labelled(self) -> "Batch":
        """Return the batch without its unlabelled samples."""
        return self._replace(x=self.x[: len(self.y)], shown=tuple(s for s in self.shown if not s.unlabelled))

    @property
    def targets(self) -> Tensor:
        """What is to be decided about the first L samples, in the order of rows of logits: class numbers, or values."""
        targets = self.task.targets(self.y)
        if self.counts is None:
            return targets
        rows = self.counts.rows
        return targets[rows[rows < len(targets)]]

    @property
    def weights(self) -> Tensor | None:
        """How much each row of logits counts, (P,) 0..1; None: all alike."""
        return None if self.counts is None else self.counts.weights

    def counted(self, logits: Tensor) -> Tensor:
        """Those of all rows (P, C) that count, as in the outputs; for networks that a method runs itself."""
        return logits if self.counts is None else logits[self.counts.rows]

    def divergence(self, logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
        """How far rows that count (P, C) are from a teacher's; see `Task.divergence`."""
        weights = self.weights
        if weights is None:
            return self.task.divergence(logits, wanted, temperature)
        return self.task.divergence(logits, wanted, temperature, weights)

    def label_loss(self, logits: Tensor) -> Tensor:
        """The loss on the labels, of classes the weighted cross-entropy; see `Task.label_loss`.

        Samples without a label have weight 0.

        Args:
            logits: (P, C) rows of B samples, all or those that count, of the student or of a network that is trained
                beside it.

        Returns:
            A scalar.
        """
        weights = None if self.class_weights is None else self.class_weights.to(logits)
        if self.counts is not None and len(logits) == len(self.counts.rows):
            nothing = logits.new_zeros(self.counts.total, logits.shape[1])
            logits = nothing.index_copy(0, self.counts.rows, logits)
        labelled = logits[: len(self.task.targets(self.y))] if self.has_unlabelled else logits
        return self.task.label_loss(labelled, self.y, weights, self.mixed)

    def label_weights(self) -> Tensor:
        """What each labelled row counts in the label loss, (P,): the weight of its class, or of its mixture."""
        weights = self.task.row_weights(self.y, self.class_weights, self.mixed)
        if self.counts is None:
            return weights
        rows = self.counts.rows[self.counts.rows < len(weights)]
        own = weights[rows]
        return own if self.counts.weights is None else own * self.counts.weights[: len(rows)]


Network = Callable[[Tensor], Outputs]


@dataclass(frozen=True)
class MethodContext:
    """Networks and data facts that a method can build on; passed to `Method.attach` once, before training.

    Attributes:
        student: the network to be trained.
        student_outputs: the student's outputs for `example`.
        teachers: the teacher networks, in eval mode; empty for methods without a teacher.
        teacher_outputs: each teacher's outputs for its view of the same two samples.
        rebuild: seed number -> a new network of the student's architecture with its own initial weights.
        observe: (network, example input) -> a callable that runs the network under the student's number format and
            memory layout and returns the outputs that the method needs.
        branch: seed number -> the student's layers after stage `branch_stage`, with their own initial weights: features
            of that stage -> logits.
        branch_stage: index into the student's `features` of the last stage but one.
        example: (2, ...) synthetic network inputs, in stored units; not taken from the training split.
        n_samples: number of samples in the training split.
        n_classes: number of classes C.
        mean: (C,) mean of the training split per channel, in stored units; (1,) where samples are not images.
        std: standard deviation, of the same shape and unit as `mean`.
    """

    student: nn.Module
    student_outputs: Outputs
    teachers: tuple[nn.Module, ...]
    teacher_outputs: tuple[Outputs, ...]
    rebuild: Callable[[int], nn.Module]
    observe: Callable[[nn.Module, Tensor], Network]
    branch: Callable[[int], nn.Module]
    branch_stage: int
    example: Tensor
    n_samples: int
    n_classes: int
    mean: Tensor
    std: Tensor


class Method(nn.Module):
    """Base class of distillation methods; its parameters train with the student and never reach the exported file.

    total loss = `ce_weight` * CE + `strength` * `scale` * sum of `forward`'s terms (each at its published weight).

    `scale` is 1, or the result of calibration: then the terms' gradient norm on the student, at strength 1, is
    `target_grad_ratio` times that of CE when the warm-up of the learning rate is over, see `nas_kd.engine.calibration`.
    The built-in methods' ratios are those of published training at that time (ResNet-20 -> ResNet-8, CIFAR-10, batches
    of 128, steps 70 to 156; `benchmarks/gradient_ratios.py`); of `fitnet` and `fsp`, which are 17 and 26, 3 is kept.

    Attributes:
        name: the name in configs; `a+b` sums two methods.
        source: first author, year and arXiv id (or venue) of the paper.
        summary: one line for `nas-kd list methods`.
        needs: what `forward` reads (see `Need`); nothing else is computed.
        teachers: number of teachers that the method takes.
        optional: which of `needs` some of several teachers may lack; these parts of their outputs are then empty.
        any_classes: whether the terms compare logits of student and teacher alone, so that they hold for classes other
            than the data's: with a teacher of such classes, the student's logits are those of a head of its own.
        decisions: kinds of decisions that its terms make sense for, see `Task.decisions`; None: of a method that reads
            logits, labels or the teacher itself, one class a sample, of any other, all.
        tunable: which of "temperature" and "strength" change the method's loss.
        ce_weight: weight of the cross-entropy on the labels.
        target_grad_ratio: ratio of the terms' gradient norm to cross-entropy's that calibration aims at; None: not
            calibrated, the published weights are kept.
        unscaled_terms: names of terms that `strength` and `scale` do not multiply, such as the labels' loss of peers.
        train_cost_factor: cost of one training step relative to the student alone: 3.0 with two peers of its size.
        generations: number of times the student's architecture is trained before, each time from the one before.
        default_temperature: softmax temperature of the paper.
        clipped: whether the engine clips gradients when it trains with this method's terms at calibrated weights; at
            published weights (`calibrate = false`) it never does.
        standardizes: whether its terms keep their sense where the engine shows it standardised logits (see
            `nas_kd.methods.teaching`); False where one of them is a loss on labels.
        by_stage: whether its terms can be computed from the features of a single stage, so that one stage after another
            can be taught.
        version: of the method's loss, a part of the key of trained weights; raise it when the loss, `ce_weight` or
            `clipped` changes, so that weights trained by the earlier one are not taken for new ones.
        scale: () the calibrated factor of the terms, a buffer.
        sees_standardized: whether the engine shows this instance standardised logits.

    Examples:
        >>> import nas_kd, torch
        >>> class LogitMatching(nas_kd.Method):
        ...     name, source, summary = "logit_matching", "Ba 2014, arXiv:1312.6184", "squared difference of the logits"
        ...     def forward(self, student, teachers, batch):
        ...         return {"logit_matching": torch.nn.functional.mse_loss(student.logits, teachers[0].logits)}
        >>> train = torch.randn(32, 8), torch.arange(32) % 2
        >>> student, teacher = torch.nn.Linear(8, 2), torch.nn.Linear(8, 2)
        >>> nas_kd.distill(student, teacher, train=train, method=LogitMatching, epochs=2)
        Linear(in_features=8, out_features=2, bias=True)
    """

    name: ClassVar[str]
    source: ClassVar[str]
    summary: ClassVar[str]
    needs: frozenset[Need] = frozenset({"logits"})
    teachers: Literal["none", "one", "several"] = "one"
    optional: frozenset[Need] = frozenset()
    any_classes: bool = False
    decisions: frozenset[DecisionKind] | None = None
    tunable: tuple[str, ...] = ("strength",)
    ce_weight: float = 1.0
    target_grad_ratio: float | None = 1.0
    unscaled_terms: frozenset[str] = frozenset()
    train_cost_factor: float = 1.0
    generations: int = 0
    default_temperature: ClassVar[float] = 4.0
    clipped: bool = True
    standardizes: bool = True
    by_stage: bool = False
    version: int = 1
    scale: Tensor
    sees_standardized: bool = False

    def __init__(self, temperature: float | None = None, strength: float = 1.0) -> None:
        """Set the two parameters that the search can tune.

        Args:
            temperature: softmax temperature T > 0; None: the paper's.
            strength: factor >= 0 on all terms but `unscaled_terms`.
        """
        super().__init__()
        self.temperature = self.default_temperature if temperature is None else temperature
        self.strength = strength
        self.register_buffer("scale", torch.ones(()))

    def attach(self, context: MethodContext) -> None:
        """Create adapters, peers, discriminators and memory banks; called once, before training.

        Args:
            context: the networks, their outputs for an example, and facts about the data.

        Raises:
            InputError: the method cannot work with these networks.
        """

    def forward(self, student: Outputs, teachers: Sequence[Outputs], batch: Batch) -> dict[str, Tensor]:
        """Compute the named loss terms of one batch, each at its published weight.

        Args:
            student: the student's outputs.
            teachers: each teacher's outputs, without gradient.
            batch: the batch that they were computed from.

        Returns:
            Scalar terms by name.
        """
        raise TypeError(f"{type(self).__name__} defines no forward")

    def order(self, labels: Tensor, generator: Generator) -> Tensor:
        """Choose the order of the samples in an epoch; random unless a method overrides it.

        Args:
            labels: (N,) int64 class numbers of the training split.
            generator: the source of randomness, seeded per epoch.

        Returns:
            (N,) int64, a permutation of 0..N-1.
        """
        return torch.randperm(len(labels), generator=generator)

    def draw(self, real: Callable[[], Batch]) -> Batch:
        """Return the batch to train on: the next real one, unless a method synthesises its own.

        Args:
            real: returns the next batch of the training split; a data-free method never calls it.
        """
        return real()

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Optimizers that the method steps itself, by name, so that checkpoints store their state."""
        return {}

    def trained(self) -> list[nn.Parameter]:
        """Parameters that the student's optimizer trains: all that none of `optimizers()` holds."""
        own = {id(p) for o in self.optimizers().values() for group in o.param_groups for p in group["params"]}
        return [p for p in self.parameters() if id(p) not in own]

    def peers(self) -> Sequence[nn.Module]:
        """Networks of the student's architecture that are deployed instead of it if better on validation."""
        return ()

    def suits(self, decisions: DecisionKind) -> bool:
        """Whether all of its parts make sense for a kind of decisions."""
        return all(decisions in _suitable(part) for part in self.parts())

    @property
    def has_own_order(self) -> bool:
        """Whether it orders samples itself."""
        return type(self).order is not Method.order

    @property
    def has_own_optimizers(self) -> bool:
        """Whether it may have optimizers that it steps itself, once attached."""
        return type(self).optimizers is not Method.optimizers

    @property
    def is_calibrated(self) -> bool:
        """Whether calibration scales its terms: not those on standardised logits, which keep their published weight."""
        return self.target_grad_ratio is not None and not self.sees_standardized

    @property
    def chainable(self) -> bool:
        """Whether a teacher assistant can take the teacher's place."""
        return self.teachers == "one" and not self.generations and "network" not in self.needs

    def parts(self) -> Sequence["Method"]:
        """The methods whose terms are calibrated separately: this one, or the summands of `a+b`."""
        return (self,)


def _suitable(method: Method) -> frozenset[DecisionKind]:
    if method.decisions is not None:
        return method.decisions
    reads_classes = {"logits", "labels", "network"} & set(method.needs)  # which nothing has checked yet
    return frozenset({"sample"}) if reads_classes else frozenset(get_args(DecisionKind))
