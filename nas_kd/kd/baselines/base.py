"""The interface of baselines: other ways to compress the teacher, to compare distilled students with.

A file in this folder adds one. What it makes is verified here, then measured and judged like a finalist's file.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from nas_kd.context.run_context import RunContext
from nas_kd.data.samples import Samples
from nas_kd.export.verify import Logits, Parity, outputs_of_file
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.ready_teacher import ReadyTeacher
from nas_kd.plugins import load
from nas_kd.results.trial_record import Costs


@dataclass(frozen=True)
class BaselineInputs:
    """What a baseline works with.

    Attributes:
        context: config with its budget, data, recipe and device; the data are as the teacher sees them.
        teacher: the network to compress, by which students are judged.
        artifacts: makes deployable files for these data.
        seeds: of trainings, where there are any: those of the finalists.
    """

    context: RunContext
    teacher: ReadyTeacher
    artifacts: ArtifactBuilder
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class CompressedFile:
    """One verified file of a compressed network.

    Attributes:
        seed: of its training, or of the samples that its ranges were calibrated on.
        onnx: its bytes.
        parity: comparison with what it was made of.
        seconds: that making it took.
        epochs: that it was trained for.
    """

    seed: int
    onnx: bytes
    parity: Parity
    seconds: float
    epochs: int = 0


@dataclass(frozen=True)
class CompressedNetwork:
    """The teacher, compressed in one way.

    Attributes:
        name: tells the networks of a baseline apart: "int8".
        description: for people.
        precision: of the files.
        files: one a seed, all of the same size and speed.
        counts: parameters and multiply-adds.
        notes: on the files, such as layers kept in fp32.
        run: what a file returns for samples (N, ...) in stored units.
    """

    name: str
    description: str
    precision: str
    files: tuple[CompressedFile, ...]
    counts: Costs
    notes: tuple[str, ...] = ()
    run: Callable[[bytes, Samples], Logits] = outputs_of_file


class Baseline(ABC):
    """A baseline plug-in.

    Attributes:
        name: the name in configs (`finalists.baselines`).
        summary: one line for `nas-kd list baselines`.
        techniques: of compression that it uses, which name its family in the report: ("quantization",).
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    techniques: ClassVar[tuple[str, ...]]

    @abstractmethod
    def variants(self, inputs: BaselineInputs) -> Iterator[Callable[[], CompressedNetwork]]:
        """List the networks that this way of compression gives; each is made when it is called.

        A call raises `TrialError` if there is no such network: it is left out, with a note, and the others go on.

        Args:
            inputs: the teacher, and all that is known of the run.
        """


def load_baseline(name: str) -> Baseline:
    """Find a baseline by name.

    Raises:
        InputError: there is none of this name, or it is no baseline.
    """
    return load("baseline", name, Baseline)  # type: ignore[type-abstract]
