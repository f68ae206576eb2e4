"""The record of a run: all that a report is made from, as the study holds it. Imports no torch."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, ClassVar, Literal

from nas_kd.results.compression_record import BaselineRecord, CompressionRecord
from nas_kd.results.confusion import Confusion, is_unbalanced
from nas_kd.results.finalist_record import Accuracy, ClassScores, FinalistPlan, FinalistRecord
from nas_kd.results.fine_tuning_record import FineTuningRecord
from nas_kd.results.output_record import OutputRecord
from nas_kd.results.recipe_record import RecipeRecord
from nas_kd.results.student_friendly_record import StudentFriendlyRecord
from nas_kd.results.trial_record import Costs, Record, ScoredRecord, TrialRecord

RunState = Literal["searching", "finalists", "finished", "unreachable"]


class MetricRecord(Record):
    """The score that a run decides on (`data.score`).

    Attributes:
        name: as configs have it.
        title: in sentences.
        unit: what its value is a share of.
        higher_is_better: whether more is better.
        chance: what a network gets on validation that learned nothing but how large the classes are.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    chance: float


class CheckpointRecord(ScoredRecord):
    """An earlier state of a teacher.

    Attributes:
        description: the name of its file, or when it was taken.
        val: validation accuracy.
        val_score: what decides, on the same split.
    """

    scored: ClassVar = {"val_score": "val"}

    description: str
    val: Accuracy
    val_score: Accuracy


class TeacherRecord(ScoredRecord):
    """A teacher, trained by the tool or the user's own.

    Attributes:
        description: for people.
        origin: a space (trained by the tool), a user's factory or module, an ONNX file, or stored outputs.
        costs: of its exported file.
        val: validation accuracy; None of a teacher of other classes than the data's, to which no score applies.
        test: test accuracy, read at the end only.
        val_score: what decides, on validation; None likewise.
        test_score: the same on test, read at the end only.
        balanced: balanced accuracy on test.
        further: scores on test that the task adds, by name.
        confusion: what its file does with the test samples.
        by_class: a score of each class on test, where confusion is not a matter of counting samples.
        decoding_ms: milliseconds a sample of what `predict.py` does after the graph, such as suppressing boxes; None:
            nothing that takes time.
        training_s: seconds of its training or fine-tuning; 0 for a user's own that teaches as it is.
        recipe: how it was trained, where the tool did that.
        fine_tuning: how a user's own was trained on the data before it taught; None: it teaches as it is.
        student_friendly: its training together with cuts of itself; None: there was none. Everything else here is about
            the teacher as it was, whichever of the two teaches: it is what students are compared with.
        late_gain: score on validation that it gained in the last fifth of its training, 0..1.
        advice: which preprocessing fits a user's own better, where that is clear.
        checkpoints: earlier states of it that may teach, early to late.
    """

    scored: ClassVar = {"val_score": "val", "test_score": "test"}

    description: str
    origin: Literal["space", "factory", "onnx", "outputs"]
    costs: Costs
    val: Accuracy | None = None
    test: Accuracy | None = None
    val_score: Accuracy | None = None
    test_score: Accuracy | None = None
    balanced: Accuracy | None = None
    further: Mapping[str, Accuracy] = {}
    confusion: Confusion | None = None
    by_class: ClassScores | None = None
    decoding_ms: float | None = None
    training_s: float = 0.0
    recipe: RecipeRecord | None = None
    fine_tuning: FineTuningRecord | None = None
    student_friendly: StudentFriendlyRecord | None = None
    late_gain: float | None = None
    advice: str | None = None
    checkpoints: tuple[CheckpointRecord, ...] = ()

    @property
    def knows_other_classes(self) -> bool:
        """Whether its classes are not the data's, so that it has neither accuracy nor score."""
        return self.val is None


NO_SCORE = "not applicable, other classes"  # where a teacher's accuracy would stand
UNDER_TRAINED = 0.02  # rise of accuracy in the last fifth of a training that a longer one would have used


def is_under_trained(late_gain: float, val_score: Accuracy) -> bool:
    """Whether a network was clearly still improving at the end of its training, chance apart.

    Args:
        late_gain: score on validation that it gained in the last fifth, 0..1.
        val_score: at the end, with its interval: a gain within what the sampled split leaves open is none.
    """
    noise = max(2 * sqrt(0.25 / val_score.samples), (val_score.high - val_score.low) / 2)
    return late_gain > max(UNDER_TRAINED, noise)


class DatasetRecord(Record):
    """The data as they were used.

    Attributes:
        name: for people.
        source: as the config names it.
        key: sha256 of all samples and labels.
        classes: names, in the order of the logits; of other tasks, names of the outputs.
        input_shape: of one sample.
        scale: 255 where stored values are pixels 0..255, else 1.
        value_range: smallest and largest stored value of the training samples; None in older runs.
        mean: of the training samples, per channel of images, in stored units; it is in the exported graph.
        std: standard deviation, likewise.
        n_train: training samples.
        n_val: validation samples.
        n_test: test samples.
        class_counts: samples by class of "train", "val" and "test"; empty in records of older versions, and where
            samples have no single class.
        task: what the targets are.
        output: what networks return; None in records of older versions, in which they are classifiers.
        headline: name of the task's own score, which comes first everywhere.
        headline_title: its name in sentences.
        notes: everything that was said about the data, one sentence each.
        skipped: how many files or samples were left out, by reason.
        duplicates: how many samples of val and test are in an earlier split, too.
        layout: order of the axes of stored samples, such as "hwc"; None: does not apply.
        label_encoding: how targets were read, where that needed to be said.
        augmentation: what each strength does with students' samples: crop, flip and cutout, in pixels; and
            resized_crop, colour, operations and erase where it does them.
        teacher_view: whether teachers see other samples than students, in pairs.
        n_unlabelled: samples without labels; students learn from the teacher's outputs on them.
        unlabelled_share: of a student's training batch that these take, but for rounding.
        unlabelled_duplicates: how many more were left out because a labelled split has them, too, by split.
    """

    name: str
    source: str
    key: str
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    scale: float = 1.0
    value_range: tuple[float, float] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    n_train: int
    n_val: int
    n_test: int
    class_counts: Mapping[str, tuple[int, ...]] = {}
    task: str = "classification"
    output: OutputRecord | None = None
    headline: str = "accuracy"
    headline_title: str = "accuracy"
    notes: tuple[str, ...] = ()
    skipped: Mapping[str, int] = {}
    duplicates: Mapping[str, int] = {}
    layout: str | None = None
    label_encoding: str | None = None
    picture_steps: Mapping[str, Any] | None = None
    augmentation: Mapping[str, Mapping[str, float | int | bool | None]] = {}
    teacher_view: bool = False
    n_unlabelled: int = 0
    unlabelled_share: float = 0.0
    unlabelled_duplicates: Mapping[str, int] = {}

    @property
    def items(self) -> str:
        """What `classes` are: classes, labels, targets."""
        return "classes" if self.output is None else self.output.items

    @property
    def split_sizes(self) -> dict[str, int]:
        """Samples of the splits that networks are judged on."""
        return {"val": self.n_val, "test": self.n_test}

    @property
    def is_unbalanced(self) -> bool:
        """Whether some classes have several times the training samples of others, see `is_unbalanced`."""
        return is_unbalanced(self.class_counts.get("train", ()))


class DeviceRecord(Record):
    """Where latency was measured.

    Attributes:
        name: of the device profile.
        description: for people.
        batch_size: samples of one call.
        environment: settings, processor and versions.
    """

    name: str
    description: str
    batch_size: int
    environment: Mapping[str, str | int | float | bool | None] = {}


class CacheRecord(Record):
    """How often the store had one kind of entry that was looked for, and how often it had to be computed."""

    hits: int = 0
    misses: int = 0


class OnceForAllRecord(Record):
    """The elastic network of a run whose strategy is "once-for-all", and the search among its sub-networks.

    Attributes:
        key: of its weights in the store.
        epochs: that it was trained for.
        networks_a_step: sub-networks trained in every step (sandwich rule).
        training_s: seconds of its training.
        search_s: seconds of the search among its sub-networks.
        evaluated: sub-networks judged with inherited weights.
        measured: networks whose size and latency were measured; the others' were predicted from these.
        latency_error: median relative error of the latency predictor on networks that it was not fitted to.
        inherited: validation accuracies (0..1) with inherited weights of the first trials' students.
    """

    key: str
    epochs: int
    networks_a_step: int
    training_s: float
    search_s: float
    evaluated: int
    measured: int
    latency_error: float
    inherited: tuple[float, ...]


class PrefilterRecord(Record):
    """What the prefilter of latencies did, and how well.

    Attributes:
        forecasts: predictions that it made.
        skipped: trials that were infeasible without a measurement.
        checked: doubted trials that were measured to check it.
        wrong: how many of these were within the limit.
        error: median relative error of predictions that a measurement followed; None: none did.
    """

    forecasts: int
    skipped: int
    checked: int
    wrong: int
    error: float | None


class RunRecord(Record):
    """A whole run, finished or not: all that a report is made from.

    Attributes:
        name: of the run.
        run_dir: its folder.
        state: how far it has come.
        message: the closest candidates, where the budget cannot be met.
        config: the resolved config.
        dataset: that students were trained and judged on.
        device: where latency was measured.
        metric: the score that the run decides on; None in records of older versions, which decide on accuracy.
        teacher: the first one, which students are compared with.
        other_teachers: those after it.
        recipe: how students are trained.
        once_for_all: the elastic network, where the strategy uses one.
        prefilter: what it did, where it was on.
        trials: all proposals, by number.
        finalist_plan: how many of them, and of their controls, are trained; None while the search is under way.
        finalists: trained in full, in the order of the front.
        baselines: the teacher, compressed in other ways.
        compression: how all of these compare; None before the test split is read, and in older runs.
        cache: use of the store by kind (weights, logits, export, latency).
        environment: machine and versions.
        seconds: of each part of the run: teacher, recipe, propose, gate, assistants, distill, finalists, test.
        warnings: that were raised.
        command: how to run it again.
    """

    name: str
    run_dir: str
    state: RunState
    message: str | None = None
    config: Mapping[str, Any]
    dataset: DatasetRecord | None = None
    device: DeviceRecord | None = None
    metric: MetricRecord | None = None
    teacher: TeacherRecord | None = None
    other_teachers: tuple[TeacherRecord, ...] = ()
    recipe: RecipeRecord | None = None
    once_for_all: OnceForAllRecord | None = None
    prefilter: PrefilterRecord | None = None
    trials: tuple[TrialRecord, ...] = ()
    finalist_plan: FinalistPlan | None = None
    finalists: tuple[FinalistRecord, ...] = ()
    baselines: tuple[BaselineRecord, ...] = ()
    compression: CompressionRecord | None = None
    cache: Mapping[str, CacheRecord] = {}
    environment: Mapping[str, Any] = {}
    seconds: Mapping[str, float] = {}
    warnings: tuple[str, ...] = ()
    command: str = ""

    @property
    def chance(self) -> float:
        """What a network gets on validation, in the run's score, that learned nothing; 1 without data."""
        if self.metric is not None:
            return self.metric.chance
        return 1 / len(self.dataset.classes) if self.dataset else 1.0

    @property
    def decides_on_headline(self) -> bool:
        """Whether the score that decides is the task's own."""
        return self.metric is None or self.metric.name == self.headline

    @property
    def decides_on_accuracy(self) -> bool:
        """Whether the score that decides is accuracy."""
        return self.metric is None or self.metric.name == "accuracy"

    @property
    def headline(self) -> str:
        """The name of the task's own score in configs."""
        return self.dataset.headline if self.dataset else "accuracy"

    @property
    def headline_title(self) -> str:
        """The name of the task's own score in sentences."""
        return self.dataset.headline_title if self.dataset else "accuracy"

    @property
    def score_title(self) -> str:
        """The name of the score in sentences."""
        return "accuracy" if self.metric is None else self.metric.title
