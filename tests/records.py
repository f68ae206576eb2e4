"""Records of runs, as short to write as a test needs."""

from typing import Any

from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.results.finalist_record import Accuracy, ControlRecord, FinalistRecord, SeedRecord
from nas_kd.results.latency import Latency
from nas_kd.results.run_record import DatasetRecord, OnceForAllRecord, RunRecord, TeacherRecord
from nas_kd.results.trial_record import Costs, RungRecord, TrialRecord

CANDIDATE = Candidate(Architecture("resnet", {"width": 8}), (), Recipe("soft_targets", {"temperature": 4.0}))


def costs(size_bytes: int, latency_ms: float | None) -> Costs:
    """Costs with a latency interval of +-1 %."""
    timed = latency_ms and Latency(p50=latency_ms, p90=latency_ms * 1.1, low=latency_ms * 0.99, high=latency_ms * 1.01)
    return Costs(size_bytes=size_bytes, latency_ms=timed or None, parameters=size_bytes // 4, macs=1000)


def accuracy(mean: float, half: float = 0.01) -> Accuracy:
    """Of three seeds on 1,000 samples."""
    return Accuracy(mean=mean, low=mean - half, high=mean + half, samples=1000, seeds=3)


def finalist(name: str, val: float, size_bytes: int, latency_ms: float | None, **other: Any) -> FinalistRecord:
    """A finalist of one seed, whose test accuracy is 0.01 below validation unless given."""
    seed = SeedRecord(
        seed=0, epochs=3, val_accuracy=val, test_accuracy=val, seconds=1, parity=0, agreement=1, sha256="0" * 64
    )
    fields: dict[str, Any] = {
        "id": name,
        "trial": 7,
        "candidate": CANDIDATE,
        "description": f"the student {name}",
        "costs": costs(size_bytes, latency_ms),
        "val": accuracy(val),
        "test": accuracy(val - 0.01),
        "seeds": (seed,),
        "deployed_seed": 0,
        "training_s": 1.0,
        "within_budget": True,
    }
    return FinalistRecord(**{**fields, **other})


def control(mean: float, gain: float) -> ControlRecord:
    """The same student without distillation."""
    return ControlRecord(
        kind="no_distillation", seeds=(), accuracy=accuracy(mean), gain=accuracy(gain), cost_ratio=0.9876543
    )


def teacher(val: float = 0.9, size_bytes: int = 1_000_000, latency_ms: float | None = 1.0) -> TeacherRecord:
    """A teacher of the tool's own, not tested yet."""
    return TeacherRecord(description="big", origin="space", costs=costs(size_bytes, latency_ms), val=accuracy(val))


def trial(number: int, val: float | None, size_bytes: int, latency_ms: float | None, **other: Any) -> TrialRecord:
    """A finished trial that ended after `number` seconds, two of them training."""
    fields: dict[str, Any] = {
        "number": number,
        "id": f"{number:012x}",
        "candidate": CANDIDATE,
        "description": f"student {number}",
        "status": "finished",
        "costs": costs(size_bytes, latency_ms),
        "val_accuracy": val,
        "seconds": {"gate": 1.0, "distill": 1.5, "assistants": 0.5},
        "elapsed_s": float(number),
    }
    return TrialRecord(**{**fields, **other})


def elastic_network(**other: Any) -> OnceForAllRecord:
    """The elastic network of a once-for-all run and the search in it."""
    fields: dict[str, Any] = {
        "key": "0fa0" * 16,
        "epochs": 60,
        "networks_a_step": 4,
        "training_s": 280.0,
        "search_s": 30.0,
        "evaluated": 4000,
        "measured": 120,
        "latency_error": 0.031,
        "inherited": (),
    }
    return OnceForAllRecord(**{**fields, **other})


def run(**fields: Any) -> RunRecord:
    """A run on ten classes with a teacher, nothing tried yet."""
    data = DatasetRecord(
        name="digits",
        source="digits",
        key="0" * 64,
        classes=tuple("0123456789"),
        input_shape=(1, 8, 8),
        n_train=800,
        n_val=1000,
        n_test=1000,
    )
    default: dict[str, Any] = {
        "name": "test",
        "run_dir": "runs/test",
        "state": "finished",
        "config": {"budget": {"max_latency_ms": 0.5, "max_size_kb": 100}},
        "dataset": data,
        "teacher": teacher(),
    }
    return RunRecord(**{**default, **fields})


def judged(
    number: int, accuracies: list[float], status: str = "paused", size: int = 1000, ms: float = 1.0
) -> TrialRecord:
    """A trial that reached these accuracies after 1, 3, 9, ... epochs."""
    costs = Costs(size_bytes=size, latency_ms=Latency(p50=ms, p90=ms, low=ms, high=ms), parameters=1, macs=1)
    rungs = tuple(RungRecord(epochs=3**i, val_accuracy=a, seconds=0.0) for i, a in enumerate(accuracies))
    return TrialRecord.model_validate(
        {
            "number": number,
            "id": str(number),
            "candidate": CANDIDATE,
            "description": "",
            "status": status,
            "costs": costs,
            "rungs": rungs,
        }
    )
