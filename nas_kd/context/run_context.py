"""The run's context: its config, and what follows from that alone (data, device, store)."""

from dataclasses import dataclass, replace

from nas_kd.config.options import SearchConfig
from nas_kd.context.callbacks import Callback
from nas_kd.context.method_checks import check_methods
from nas_kd.context.mixing_checks import check_mix_options, check_mixes
from nas_kd.context.recipe_rules import recipe_by_rules, schedule_note
from nas_kd.context.run_folder import RunFolder
from nas_kd.data.augment import TrainingViews
from nas_kd.data.dataset import Dataset
from nas_kd.data.loading_events import listening
from nas_kd.data.prepare import load_dataset
from nas_kd.data.unlabelled_files import check_paths
from nas_kd.data.view import View
from nas_kd.engine.numerics import Numerics, threads_for
from nas_kd.errors import InputError
from nas_kd.latency.device import Device, open_device
from nas_kd.methods.combine import make_method, uses_unlabelled
from nas_kd.methods.teaching_choices import check_enough_classes
from nas_kd.models.heads.headed_space import with_head
from nas_kd.models.search_space import SearchSpace, check_image_size, load_space
from nas_kd.plugins import display_name, load
from nas_kd.results.run_record import DatasetRecord, MetricRecord
from nas_kd.results.split_notes import imbalance_note, small_split_notes
from nas_kd.results.training_recipe import STRENGTHS, TrainingRecipe
from nas_kd.scores.base import DEFAULT_SCORE, Score
from nas_kd.store.store import Store
from nas_kd.tasks.base import load_task


@dataclass(frozen=True)
class RunContext:
    """The config and everything that follows from it alone.

    Attributes:
        config: of the run.
        folder: of the run.
        callback: receives what happens.
        store: keeps weights, outputs, exports and measurements.
        data: what students are trained and judged on.
        views: the training split as networks are shown it.
        recipe: how networks are trained: by rules at first, see `with_recipe`.
        space: of students.
        device: where latency is measured.
        numerics: number format and memory layout of training.
        threads: of training.
    """

    config: SearchConfig
    folder: RunFolder
    callback: Callback
    store: Store
    data: Dataset
    views: TrainingViews
    recipe: TrainingRecipe
    space: SearchSpace
    device: Device
    numerics: Numerics
    threads: int

    @staticmethod
    def prepare(
        config: SearchConfig, folder: RunFolder, callback: Callback, *, check_device: bool = True
    ) -> "RunContext":
        """Load space, device and data, in this order: what is wrong in the config alone is found before data are read.

        Args:
            config: of the run.
            folder: of the run.
            callback: receives stages and notes.
            check_device: refuse a device that is not there now, rather than wait for it.

        Raises:
            InputError: one of them is unknown, missing or broken.
        """
        check_names(config)
        check_methods(config)
        check_unlabelled_options(config)
        check_mix_options(config)
        space = with_head(load_space(config.space.name), load_task(config.data.task))
        device = open_device(config.device.name, config.device.wait_s, callback.on_note)
        if check_device:
            device.check()
            check_precisions(config, device)
        callback.on_stage("loading data")
        with listening(callback):
            data = load_dataset(config.data, config.search.seed)
        _check_image_sizes(config, space, data)
        check_pairs(config, data)
        known = any(not teacher.knows_other_classes for teacher in config.teacher)
        if data.task.one_class:
            check_enough_classes(known and True in config.distill.standardize, data.n_classes)
        check_unlabelled(config, data)
        check_mixes(config, data)
        recipe = recipe_by_rules(config.distill, data.epoch_samples, data.augmentation.usual_strength)
        odd = schedule_note(recipe, data.epoch_samples)
        for note in (*data.notes, *filter(None, [odd]), *split_notes(config, data)):
            callback.on_note(note)
        return RunContext(
            config=config,
            folder=folder,
            callback=callback,
            store=Store(folder.store, round(config.store.max_gb * 1e9)),
            data=data,
            views=TrainingViews(data, config.search.seed),
            recipe=recipe,
            space=space,
            device=device,
            numerics=Numerics.choose(config.engine, data.input_shape),
            threads=threads_for(config.engine, data.input_shape),
        )

    def for_teacher(self) -> "RunContext":
        """The context with the teacher's view of the data as its data, and without unlabelled samples.

        A teacher that is trained learns from labels alone, by the recipe that suits as many samples.
        """
        if self.data.unlabelled is not None:
            data = self.data.without_unlabelled()
            recipe = recipe_by_rules(self.config.distill, len(data.train), data.augmentation.usual_strength)
            return replace(self, data=data, views=TrainingViews(data, self.seed), recipe=recipe)
        if (view := self.data.teacher_view) is None:
            return self
        return replace(self, data=view, views=self.views.as_teachers_see())

    def with_recipe(self, recipe: TrainingRecipe) -> "RunContext":
        """The context with another recipe for all trainings."""
        return replace(self, recipe=recipe)

    @property
    def augmenter(self) -> View:
        """The training split as students are shown it."""
        return self.views.student(self.recipe.augment, self.recipe.mix)

    @property
    def teacher_augmenter(self) -> View:
        """The same as teachers are shown it."""
        return self.views.teacher(self.recipe.augment, self.recipe.mix)

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of one epoch of a student."""
        return max(1, self.data.epoch_samples // self.recipe.batch_size)

    @property
    def teacher_epoch(self) -> float:
        """Samples of an epoch of a teacher that is trained here, as a share of those of a student's epoch."""
        return len(self.data.train) / self.data.epoch_samples

    @property
    def teacher_epochs(self) -> int:
        """Epochs of a teacher that is trained here, if its options do not say."""
        return self.for_teacher().recipe.epochs

    @property
    def batch_size(self) -> int:
        """Samples of one call on the device."""
        return self.config.device.batch_size or self.device.batch_size

    @property
    def score(self) -> Score:
        """What networks are judged by on validation."""
        return self.data.task.score(self.config.data.score)

    @property
    def metric(self) -> MetricRecord:
        """The score with what guessing gets on these data."""
        return self.score.metric(self.data.guessing(self.score))

    @property
    def test_chance(self) -> float:
        """What guessing gets on the test split, in the run's score."""
        return self.data.guessing(self.score, "test")

    @property
    def seed(self) -> int:
        """The root seed of the run."""
        return self.config.search.seed


def check_names(config: SearchConfig) -> None:
    """Refuse names that are in no registry.

    Raises:
        InputError: says which, and the nearest that is.
    """
    named = {
        "precision": config.search.precisions,
        "policy": config.chain.policy,
        "baseline": config.finalists.baselines,
    }
    single = {"sampler": [config.search.sampler], "executor": [config.search.executor]}
    for kind, names in (named | single).items():
        for name in names:
            load(kind, name)
    load_task(config.data.task).score(config.data.score)


def check_precisions(config: SearchConfig, device: Device) -> None:
    """Refuse precisions that the device does not allow.

    Raises:
        InputError: says which.
    """
    if refused := [p for p in config.search.precisions if p not in device.precisions]:
        raise InputError(
            f"search.precisions has {', '.join(refused)}, device {device.name} allows {', '.join(device.precisions)}"
        )


def check_pairs(config: SearchConfig, data: Dataset) -> None:
    """Refuse methods that these data are not suitable for.

    Raises:
        InputError: says which.
    """
    for name in (*config.distill.methods, config.chain.method):
        needs = make_method(name).needs
        if "pairs" in needs and data.teacher_view is None:
            raise InputError(
                f"method {name!r} needs paired data: x_teacher_train beside x_train (source npz, or your own function)"
            )
        if "network" in needs and data.teacher_view is not None:
            raise InputError(f"method {name!r} generates samples, but teacher and student take different ones")


def check_unlabelled_options(config: SearchConfig) -> None:
    """Refuse files of unlabelled samples that are not there, or that no method could use; they are not read.

    Raises:
        InputError: says which.
    """
    if config.data.unlabelled is not None:
        _check_use_of_unlabelled(config)
        check_paths(config.data)


def check_unlabelled(config: SearchConfig, data: Dataset) -> None:
    """Refuse unlabelled samples that no method could use, wherever they come from.

    Raises:
        InputError: says why.
    """
    if data.unlabelled is not None:
        _check_use_of_unlabelled(config)


def _check_use_of_unlabelled(config: SearchConfig) -> None:
    methods = config.distill.methods
    if not any(uses_unlabelled(make_method(name)) for name in methods):
        what = "method" if len(methods) == 1 else "methods"
        raise InputError(
            f"data.unlabelled: {what} {', '.join(map(display_name, methods))} would not learn from unlabelled samples; "
            "take one that learns from a teacher's outputs, such as soft_targets, or leave data.unlabelled out"
        )


def split_notes(config: SearchConfig, data: Dataset) -> list[str]:
    """What to know about splits that are small, and about unbalanced classes where accuracy decides."""
    decides_on_accuracy = data.task.score(config.data.score).name == DEFAULT_SCORE
    unbalanced = imbalance_note(class_counts(data), data.classes) if decides_on_accuracy else ""
    sizes = {"val": len(data.val), "test": len(data.test)}
    return [*filter(None, [unbalanced]), *small_split_notes(sizes, data.task.headline_score.title)]


def _check_image_sizes(config: SearchConfig, space: SearchSpace, data: Dataset) -> None:
    check_image_size(space, data.input_shape)
    for teacher in config.teacher:
        if teacher.space is not None:
            check_image_size(load_space(teacher.space), (data.teacher_view or data).input_shape)


def class_counts(data: Dataset) -> dict[str, tuple[int, ...]]:
    """Samples by class of "train", "val" and "test"; empty tuples where samples have no single class."""
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return {name: data.task.class_counts(split.y.numpy(), data.n_classes) for name, split in splits.items()}


def dataset_record(data: Dataset) -> DatasetRecord:
    """Summarise the data for the run's record."""
    strengths = {s: data.augmentation.at(s).model_dump(exclude={"strength"}, exclude_none=True) for s in STRENGTHS}
    return DatasetRecord(
        name=data.name,
        source=data.source,
        key=data.key,
        classes=data.classes,
        input_shape=data.input_shape,
        scale=data.scale,
        value_range=(data.pixels.low, data.pixels.high),
        mean=tuple(data.mean.tolist()),
        std=tuple(data.std.tolist()),
        picture_steps=data.picture_steps.to_json() if data.picture_steps else None,
        n_train=len(data.train),
        n_val=len(data.val),
        n_test=len(data.test),
        task=data.task_name,
        output=data.task.describe_output(data.classes),
        headline=data.task.headline,
        headline_title=data.task.headline_score.title,
        class_counts=class_counts(data),
        notes=data.notes,
        skipped=data.about.skipped,
        duplicates=data.about.duplicates,
        layout=data.about.layout,
        label_encoding=data.about.label_encoding,
        augmentation=strengths,
        teacher_view=data.teacher_view is not None,
        n_unlabelled=0 if data.unlabelled is None else len(data.unlabelled),
        unlabelled_share=0.0 if data.unlabelled is None else data.unlabelled.share,
        unlabelled_duplicates=data.about.unlabelled_duplicates,
    )
