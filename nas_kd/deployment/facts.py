"""Everything that is known of an exported student when its files are written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nas_kd.config.card_options import CardOptions
from nas_kd.results.calibration import CalibrationRecord
from nas_kd.results.candidate import Candidate
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.run_record import DatasetRecord, DeviceRecord, TeacherRecord
from nas_kd.results.trial_record import Costs


@dataclass(frozen=True)
class StudentFacts:
    """An exported student: what it is, how it was made, and what was measured on its file.

    Attributes:
        candidate: student architecture, chain, recipe and precision.
        description: of the student, for people.
        chain_description: of its assistants, for people.
        data: that it was trained and judged on.
        val: validation accuracy of this file.
        test: test accuracy of this file.
        val_over_seeds: mean validation accuracy over all trainings of the candidate.
        test_over_seeds: mean test accuracy, likewise.
        scores_over_seeds: other scores on test by title, such as balanced accuracy; likewise.
        seed: of the training whose file this is.
        parity: largest difference of logits from the network in PyTorch.
        agreement: share of equal top-1 decisions, 0..1.
        calibration: of this file; None: not fitted, as in older runs.
        decision: how to decide by its outputs, such as a threshold, for the card.
        costs: of this file.
        notes: on the file, such as layers kept in fp32.
        device: where latency was measured; None in older runs.
        teacher: that it learned from.
        recipe: how it was trained: epochs, batch size, optimiser and so on.
        versions: of nas-kd and of the libraries.
        card: what the user says of it.
        decoding_ms: milliseconds a sample of what `predict.py` does after the graph; None: nothing that takes time.
        details: more facts for the card, by name.
    """

    candidate: Candidate
    description: str
    data: DatasetRecord
    val: Accuracy
    test: Accuracy
    val_over_seeds: Accuracy
    test_over_seeds: Accuracy
    seed: int
    parity: float
    agreement: float
    costs: Costs
    scores_over_seeds: Mapping[str, Accuracy] = field(default_factory=dict)
    calibration: CalibrationRecord | None = None
    decision: Mapping[str, Any] = field(default_factory=dict)
    chain_description: str = ""
    notes: tuple[str, ...] = ()
    device: DeviceRecord | None = None
    teacher: TeacherRecord | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    card: CardOptions = field(default_factory=CardOptions)
    decoding_ms: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def temperature(self) -> float:
        """That logits are divided by for calibrated probabilities."""
        return 1.0 if self.calibration is None else self.calibration.temperature
