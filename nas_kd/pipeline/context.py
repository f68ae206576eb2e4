"""What every step of a run works with."""

from dataclasses import dataclass

from nas_kd.config import SearchConfig
from nas_kd.data.augment import Augmenter
from nas_kd.data.dataset import Dataset
from nas_kd.data.prepare import load_dataset
from nas_kd.deploy.device import DeviceProfile, load_device
from nas_kd.engine.numerics import Numerics, threads_for
from nas_kd.engine.teachers import can_use_cache
from nas_kd.errors import InputError
from nas_kd.methods.combine import make_method
from nas_kd.models.search_space import SearchSpace
from nas_kd.pipeline.folder import RunFolder
from nas_kd.pipeline.networks import load_space
from nas_kd.pipeline.progress import Progress
from nas_kd.record import DatasetRecord
from nas_kd.store import Store


@dataclass(frozen=True)
class Context:
    """The config and everything that follows from it alone."""

    config: SearchConfig
    folder: RunFolder
    progress: Progress
    store: Store
    data: Dataset
    augmenter: Augmenter
    space: SearchSpace
    device: DeviceProfile
    numerics: Numerics
    threads: int

    @staticmethod
    def prepare(config: SearchConfig, folder: RunFolder, progress: Progress) -> "Context":
        """Load data, space and device.

        Raises:
            InputError: one of them is unknown, missing or broken.
        """
        check_methods(config)
        progress.stage("loading data")
        space = load_space(config.space.name)
        device = load_device(config.device.name)
        data = load_dataset(config.data, config.search.seed)
        for note in data.notes:
            progress.note(note)
        return Context(
            config=config,
            folder=folder,
            progress=progress,
            store=Store(folder.store),
            data=data,
            augmenter=Augmenter.of(data, config.search.seed),
            space=space,
            device=device,
            numerics=Numerics.choose(config.engine, data.input_shape),
            threads=threads_for(config.engine, data.input_shape),
        )

    @property
    def seed(self) -> int:
        """The root seed."""
        return self.config.search.seed


def check_methods(config: SearchConfig) -> None:
    """Refuse methods that do not exist, or that need more than the teacher shows.

    Raises:
        InputError: says which.
    """
    logits_only = config.teacher[0].onnx is not None
    for name in (*config.distill.methods, config.chain.method):
        needs = make_method(name).needs
        if logits_only and not can_use_cache(needs):
            raise InputError(f"method {name!r} needs {' and '.join(sorted(needs))}; an ONNX teacher shows logits only")


def dataset_record(data: Dataset) -> DatasetRecord:
    """What the study keeps of the data."""
    return DatasetRecord(
        name=data.name,
        source=data.source,
        key=data.key,
        classes=data.classes,
        input_shape=data.input_shape,
        scale=data.scale,
        n_train=len(data.train),
        n_val=len(data.val),
        n_test=len(data.test),
        notes=data.notes,
    )
