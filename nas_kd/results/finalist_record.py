"""The records of finalists and of the controls that they are compared with. Imports no torch."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from nas_kd.results.calibration import CalibrationRecord
from nas_kd.results.confusion import Confusion
from nas_kd.results.trial_record import CandidateField, Costs, Record, ScoredRecord

ControlKind = Literal["no_distillation", "label_smoothing", "no_assistants"]


class FinalistPlan(Record):
    """How many trainings of finalists and controls a run does, as planned when its search is over.

    Attributes:
        finalists: how many of those chosen, from the first.
        seeds: trainings of each finalist and each control.
        controlled: how many finalists, from the first, have controls.
        control_epochs: most epochs of a control.
        share: of the run's training (multiply-adds) that all of this takes, 0..1.
        max_share: what the config allows.
        reductions: what is less than the config asks for, to keep the share: "2 of 6 finalists".
    """

    finalists: int
    seeds: int
    controlled: int
    control_epochs: int
    share: float = 0.0
    max_share: float = 1.0
    reductions: tuple[str, ...] = ()


class Accuracy(Record):
    """An accuracy or another score, in 0..1, with its 95 % interval, and how many samples and seeds it rests on."""

    mean: float
    low: float
    high: float
    samples: int
    seeds: int = 1


class ClassScores(Record):
    """A score of each class that is not a share of samples, such as IoU.

    Attributes:
        title: of the score, in sentences.
        values: in the order of the class numbers; None: the split does not have the class.
    """

    title: str
    values: tuple[Accuracy | None, ...]


class PictureRecord(Record):
    """A picture for the report.

    Attributes:
        caption: what it shows, a sentence.
        png: the file, as Base64.
    """

    caption: str
    png: str


class SeedRecord(ScoredRecord):
    """One full training of a finalist or a control; accuracies are the exported file's, through ONNX Runtime.

    Attributes:
        seed: of the training.
        epochs: of its schedule.
        val_accuracy: on the validation split, 0..1.
        test_accuracy: on the test split, 0..1.
        val_score: what decides, on validation, 0..1.
        test_score: the same on test, 0..1.
        seconds: of training.
        parity: largest absolute difference of logits from the network that the file was made from.
        agreement: share of equal top-1 decisions, 0..1.
        sha256: of the ONNX file without metadata.
        weights_key: of the network's weights in the store, under the kind "deployed".
        grad_ratios: norm of the gradient that each part of the method has on the student at its strength, over that of
            cross-entropy, when the part was last calibrated; by the part's name.
    """

    scored: ClassVar = {"val_score": "val_accuracy", "test_score": "test_accuracy"}

    seed: int
    epochs: int
    val_accuracy: float
    test_accuracy: float
    val_score: float
    test_score: float
    seconds: float
    parity: float
    agreement: float
    sha256: str
    weights_key: str | None = None
    grad_ratios: dict[str, float] = Field(default_factory=dict)


class ControlRecord(ScoredRecord):
    """The same student trained another way, at the same training cost (multiply-adds) as its finalist.

    Attributes:
        kind: which way.
        seeds: one training each.
        accuracy: on the test split, over seeds.
        gain: test accuracy of the finalist minus the control's, paired by seed.
        cost_ratio: training cost of the control / of the finalist; below 1 where its epochs are capped.
    """

    scored: ClassVar = {"score": "accuracy", "score_gain": "gain"}

    kind: ControlKind
    seeds: tuple[SeedRecord, ...]
    accuracy: Accuracy
    gain: Accuracy
    score: Accuracy
    score_gain: Accuracy
    cost_ratio: float


class FinalistRecord(ScoredRecord):
    """A member of the search's front, trained in full over several seeds.

    Attributes:
        id: of the candidate.
        trial: number of the trial that proposed it.
        candidate: what was proposed.
        description: of the student, for people.
        chain_description: of the chain, for people.
        costs: measured again, on the trained file.
        notes: on the file, such as layers kept in fp32.
        val: validation accuracy over seeds.
        test: test accuracy over seeds.
        val_score: what decides, on validation, over seeds.
        test_score: the same on test.
        balanced: balanced accuracy on test over seeds.
        further: scores on test that the task adds, by name.
        confusion: what the exported file does with the test samples; None where samples have no single class.
        by_class: a score of each class on test, where confusion is not a matter of counting samples.
        decoding_ms: milliseconds a sample of what `predict.py` does after the graph, such as suppressing boxes; None:
            nothing that takes time.
        pictures: of what the exported file says of a few test samples.
        deployed_val: the task's own score of the exported file on validation; None in older runs.
        deployed_test: the same on test.
        seeds: one training each.
        deployed_seed: the best on validation, whose file is exported.
        controls: the same student trained other ways.
        training_s: seconds of all seeds, assistants included.
        within_budget: whether the exported file's costs are within the budget.
        calibration: of the exported file; None in older runs.
        decision: how to decide by its outputs, as the task says, such as a threshold.
    """

    scored: ClassVar = {"val_score": "val", "test_score": "test"}

    id: str
    trial: int
    candidate: CandidateField
    description: str
    chain_description: str = ""
    costs: Costs
    notes: tuple[str, ...] = ()
    val: Accuracy
    test: Accuracy
    val_score: Accuracy
    test_score: Accuracy
    balanced: Accuracy | None = None
    further: Mapping[str, Accuracy] = {}
    confusion: Confusion | None = None
    by_class: ClassScores | None = None
    decoding_ms: float | None = None
    pictures: tuple[PictureRecord, ...] = ()
    deployed_val: Accuracy | None = None
    deployed_test: Accuracy | None = None
    seeds: tuple[SeedRecord, ...]
    deployed_seed: int
    controls: tuple[ControlRecord, ...] = ()
    training_s: float
    within_budget: bool
    calibration: CalibrationRecord | None = None
    decision: Mapping[str, Any] = {}
