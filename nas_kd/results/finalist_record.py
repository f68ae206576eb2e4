"""The records of finalists and of the controls that they are compared with. Imports no torch."""

from typing import Literal

from nas_kd.results.calibration import CalibrationRecord
from nas_kd.results.trial_record import CandidateField, Costs, Record


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
    """A share in 0..1 with its 95 % interval, and how many samples and seeds it rests on."""

    mean: float
    low: float
    high: float
    samples: int
    seeds: int = 1


class SeedRecord(Record):
    """One full training of a finalist or a control; accuracies are the exported file's, through ONNX Runtime.

    Attributes:
        seed: of the training.
        epochs: of its schedule.
        val_accuracy: on the validation split, 0..1.
        test_accuracy: on the test split, 0..1.
        seconds: of training.
        parity: largest absolute difference of logits from the network that the file was made from.
        agreement: share of equal top-1 decisions, 0..1.
        sha256: of the ONNX file without metadata.
        weights_key: of the network's weights in the store, under the kind "deployed".
    """

    seed: int
    epochs: int
    val_accuracy: float
    test_accuracy: float
    seconds: float
    parity: float
    agreement: float
    sha256: str
    weights_key: str | None = None


class ControlRecord(Record):
    """The same student trained another way, at the same training cost (multiply-adds) as its finalist.

    Attributes:
        kind: which way.
        seeds: one training each.
        accuracy: on the test split, over seeds.
        gain: test accuracy of the finalist minus the control's, paired by seed.
        cost_ratio: training cost of the control / of the finalist; below 1 where its epochs are capped.
    """

    kind: Literal["no_distillation", "no_assistants"]
    seeds: tuple[SeedRecord, ...]
    accuracy: Accuracy
    gain: Accuracy
    cost_ratio: float


class FinalistRecord(Record):
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
        seeds: one training each.
        deployed_seed: the best on validation, whose file is exported.
        controls: the same student trained other ways.
        training_s: seconds of all seeds, assistants included.
        within_budget: whether the exported file's costs are within the budget.
        calibration: of the exported file; None in older runs.
    """

    id: str
    trial: int
    candidate: CandidateField
    description: str
    chain_description: str = ""
    costs: Costs
    notes: tuple[str, ...] = ()
    val: Accuracy
    test: Accuracy
    seeds: tuple[SeedRecord, ...]
    deployed_seed: int
    controls: tuple[ControlRecord, ...] = ()
    training_s: float
    within_budget: bool
    calibration: CalibrationRecord | None = None
