"""The record of a run: all that a report is made from, as the study holds it. Imports no torch."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, Literal

from nas_kd.results.finalist_record import Accuracy, FinalistPlan, FinalistRecord
from nas_kd.results.recipe_record import RecipeRecord
from nas_kd.results.trial_record import Costs, Record, TrialRecord

RunState = Literal["searching", "finalists", "finished", "unreachable"]


class TeacherRecord(Record):
    """A teacher, trained by the tool or the user's own.

    Attributes:
        description: for people.
        origin: a space (trained by the tool), a user's factory or module, or an ONNX file.
        costs: of its exported file.
        val: validation accuracy.
        test: test accuracy, read at the end only.
        training_s: seconds of its training; 0 for a user's own.
        recipe: how it was trained, where the tool did that.
        late_gain: accuracy on validation that it gained in the last fifth of its training, 0..1.
        advice: which preprocessing fits a user's own better, where that is clear.
    """

    description: str
    origin: Literal["space", "factory", "onnx"]
    costs: Costs
    val: Accuracy
    test: Accuracy | None = None
    training_s: float = 0.0
    recipe: RecipeRecord | None = None
    late_gain: float | None = None
    advice: str | None = None


UNDER_TRAINED = 0.02  # rise of accuracy in the last fifth of a training that a longer one would have used


def is_under_trained(late_gain: float, n_val: int) -> bool:
    """Whether a network was clearly still improving at the end of its training, chance apart.

    Args:
        late_gain: accuracy on validation that it gained in the last fifth, 0..1.
        n_val: samples of the validation split.
    """
    return late_gain > max(UNDER_TRAINED, 2 * sqrt(0.25 / n_val))


class DatasetRecord(Record):
    """The data as they were used.

    Attributes:
        name: for people.
        source: as the config names it.
        key: sha256 of all samples and labels.
        classes: names, in the order of the logits.
        input_shape: of one sample.
        scale: 255 where stored values are pixels 0..255, else 1.
        value_range: smallest and largest stored value of the training samples; None in older runs.
        mean: of the training samples, per channel of images, in stored units; it is in the exported graph.
        std: standard deviation, likewise.
        n_train: training samples.
        n_val: validation samples.
        n_test: test samples.
        notes: everything that was said about the data, one sentence each.
        skipped: how many files or samples were left out, by reason.
        duplicates: how many samples of val and test are in an earlier split, too.
        layout: order of the axes of stored samples, such as "hwc"; None: does not apply.
        label_encoding: how labels became class numbers, where that needed to be said.
        picture_steps: what turned picture files into samples (`nas_kd.data.picture_steps.PictureSteps`); None: samples
            were not picture files.
        augmentation: what each strength does with students' samples: crop, flip and cutout, in pixels.
        teacher_view: whether teachers see other samples than students, in pairs.
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
    notes: tuple[str, ...] = ()
    skipped: Mapping[str, int] = {}
    duplicates: Mapping[str, int] = {}
    layout: str | None = None
    label_encoding: str | None = None
    picture_steps: Mapping[str, Any] | None = None
    augmentation: Mapping[str, Mapping[str, int | bool | None]] = {}
    teacher_view: bool = False


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
        teacher: the first one, which students are compared with.
        other_teachers: those after it.
        recipe: how students are trained.
        once_for_all: the elastic network, where the strategy uses one.
        prefilter: what it did, where it was on.
        trials: all proposals, by number.
        finalist_plan: how many of them, and of their controls, are trained; None while the search is under way.
        finalists: trained in full, in the order of the front.
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
    teacher: TeacherRecord | None = None
    other_teachers: tuple[TeacherRecord, ...] = ()
    recipe: RecipeRecord | None = None
    once_for_all: OnceForAllRecord | None = None
    prefilter: PrefilterRecord | None = None
    trials: tuple[TrialRecord, ...] = ()
    finalist_plan: FinalistPlan | None = None
    finalists: tuple[FinalistRecord, ...] = ()
    cache: Mapping[str, CacheRecord] = {}
    environment: Mapping[str, Any] = {}
    seconds: Mapping[str, float] = {}
    warnings: tuple[str, ...] = ()
    command: str = ""
