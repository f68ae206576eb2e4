"""Finalists, their controls and baselines once their files are made, before the test split is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from nas_kd.kd.artifacts import ExportedFile
from nas_kd.kd.baselines.base import Baseline, CompressedNetwork
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.controls import Control
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.nas.gate import Gate
from nas_kd.results.trial_record import Costs, TrialRecord
from nas_kd.scores.base import Evidence


@dataclass(frozen=True)
class TrainedFile:
    """One full training of one network, exported and verified; its test accuracy is not known yet.

    Attributes:
        seed: of the training.
        epochs: of its schedule.
        file: the verified ONNX file.
    """

    seed: int
    epochs: int
    file: ExportedFile


@dataclass(frozen=True)
class TrainedFinalist:
    """A finalist before the test split is read.

    Attributes:
        trial: that proposed it.
        files: one a seed.
        controls: each with its files, one a seed.
    """

    trial: TrialRecord
    files: tuple[TrainedFile, ...]
    controls: tuple[tuple[Control, tuple[TrainedFile, ...]], ...]

    def mean_val_score(self) -> float:
        """Mean score of its files on validation, 0..1."""
        return mean_val_score(self.files)


@dataclass(frozen=True)
class MeasuredBaseline:
    """The teacher, compressed in another way, before the test split is read.

    Attributes:
        baseline: that made it.
        network: what it made.
        files: one a seed.
        val: decisions of each file on validation.
        costs: of the file that is the best on validation.
    """

    baseline: Baseline
    network: CompressedNetwork
    files: tuple[TrainedFile, ...]
    val: tuple[Evidence, ...]
    costs: Costs

    @property
    def id(self) -> str:
        """Names it in a run's results: "quantization/int8"."""
        return f"{self.baseline.name}/{self.network.name}"


def mean_val_score(files: Sequence[TrainedFile]) -> float:
    """Mean score of files on validation, 0..1."""
    return fmean(f.file.val_score for f in files)


def best_file(files: Sequence[TrainedFile]) -> TrainedFile:
    """The file that is the best on validation."""
    return max(files, key=lambda f: (f.file.val_score, -f.seed))


def deployed_file(finalist: TrainedFinalist, builder: NetworkBuilder, gate: Gate) -> tuple[TrainedFile, Costs]:
    """The file of a finalist that is the best on validation, and its costs.

    Args:
        finalist: trained.
        builder: counts multiply-adds.
        gate: measures costs.

    Raises:
        TrialError: the file cannot be run.
    """
    best, candidate = best_file(finalist.files), finalist.trial.candidate
    networks = load_policy(candidate.policy).deployed(candidate)
    return best, gate.of_file(best.file.onnx, builder.counted(networks))
