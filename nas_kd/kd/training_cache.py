"""Which trained weights the store has, and under which key: the fingerprint of all that a training depends on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nas_kd.engine.schedule import Schedule
from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.kd.training_job import TrainedModel, TrainingJob
from nas_kd.kd.warm_start import WeightSource
from nas_kd.methods.base import Method
from nas_kd.methods.combine import method_facts
from nas_kd.quantization.weight_range import weight_facts
from nas_kd.serialization import fingerprint
from nas_kd.store.store import Store


class TrainingCache:
    """Trained networks by key; two equal jobs with equal teachers share one entry."""

    def __init__(self, store: Store, conditions: Mapping[str, Any], qat_start: float) -> None:
        """Use `store` for trainings under these conditions.

        Args:
            store: of the run.
            conditions: what all trainings of the run depend on (data, number format), JSON-able.
            qat_start: share of a learning-rate cycle after which quantization-aware training rounds.
        """
        self.store = store
        self._conditions = {**conditions, "torch": torch.__version__}
        self._qat_start = qat_start

    def key_of(
        self, facts: Mapping[str, Any], schedule: Schedule, augmentation: str, teachers: Sequence[Teacher]
    ) -> str:
        """Fingerprint a training.

        Args:
            facts: what tells it apart from the run's other trainings, JSON-able.
            schedule: of the training.
            augmentation: content key of the augmented samples.
            teachers: in the order in which the method gets them.
        """
        return fingerprint(
            {
                **self._conditions,
                "augmentation": augmentation,
                "teachers": [[t.key, t.features] for t in teachers],
                "schedule": schedule.to_json(),
                **facts,
            }
        )

    def key(
        self,
        job: TrainingJob,
        augmentation: str,
        teachers: Sequence[Teacher],
        method: Method,
        source: WeightSource | None,
    ) -> str:
        """Fingerprint a job.

        Args:
            job: what to train.
            augmentation: content key of the augmented samples.
            teachers: in the order in which the method gets them.
            method: the loss that the job's recipe names.
            source: what the student's initial weights are cut from, if anything.
        """
        facts = job.facts() | method_facts(method, calibrated=bool(self._conditions.get("calibrated")))
        if source is not None:
            facts["inherits"] = source.key
        if job.precision != "fp32":
            facts |= {"precision": job.precision, "qat_start": self._qat_start, **weight_facts()}
        return self.key_of(facts, job.schedule, augmentation, teachers)

    def load(self, key: str, build: Callable[[], nn.Module]) -> TrainedModel | None:
        """Find the trained network under `key`; None if the store does not have it.

        Args:
            key: from the method of that name.
            build: creates the untrained network, which receives the weights.
        """
        entry = self.store.load("weights", key)
        if entry is None:
            return None
        model = build()
        model.load_state_dict(entry.tensors)
        facts = entry.meta["facts"]
        return TrainedModel(model.eval(), key, **({"val_score": facts["val_accuracy"]} | facts))

    def save(self, trained: TrainedModel, job: TrainingJob) -> None:
        """Keep a trained network under its key.

        Args:
            trained: the network.
            job: that it was trained for.
        """
        weights = {k: v.contiguous() for k, v in trained.model.state_dict().items()}
        facts = {
            "val_accuracy": trained.val_accuracy,
            "val_score": trained.val_score,
            "seconds": trained.seconds,
            "losses": trained.losses,
            "calibration": trained.calibration,
            "grad_ratios": trained.grad_ratios,
        }
        self.store.save("weights", trained.key, weights, {"facts": facts, "student": job.student.to_json()})
