"""Synthetic runs to test the report with: shaped like real ones, with random numbers and no networks."""

import math
from functools import cache
from typing import Any

import numpy as np

from nas_kd.results.candidate import Architecture, Candidate, Recipe
from nas_kd.results.finalist_record import Accuracy, ControlRecord, FinalistRecord, SeedRecord
from nas_kd.results.latency import Latency
from nas_kd.results.run_record import DatasetRecord, DeviceRecord, RunRecord, RunState, TeacherRecord
from nas_kd.results.trial_record import Costs, RungRecord, TrialRecord, TrialStatus

METHODS = ("soft_targets", "dkd", "similarity", "soft_targets+similarity")
HOSTILE = "</script><img src=x onerror=alert(1)> `|` _x_ \n# no"
LIMIT_MS, LIMIT_KB = 0.12, 40.0


@cache
def synthetic_run(
    trials: int = 60,
    *,
    state: RunState = "finished",
    budget: bool = True,
    teacher: bool = True,
    measured_teacher: bool = True,
    finalists: int = 5,
    controls: bool = True,
    hostile: bool = False,
    seed: int = 0,
) -> RunRecord:
    """Build a run of random trials; in the state "unreachable", every one of them misses the budget."""
    rng = np.random.default_rng(seed)
    limits = (LIMIT_MS, LIMIT_KB) if state != "unreachable" else (0.001, 2.0)
    proposals: list[TrialRecord] = []
    for number in range(trials):
        proposals.append(_trial(rng, number, proposals, limits if budget else None, hostile))
    chosen = _chosen(proposals, finalists) if state in ("finished", "finalists") else []
    members = tuple(_finalist(rng, t, controls, limits if budget else None) for t in chosen)
    return RunRecord(
        name="digits" if not hostile else HOSTILE,
        run_dir="runs/digits",
        state=state,
        message="no candidate can meet the budget; the closest are listed" if state == "unreachable" else None,
        config=_config(trials, limits if budget else None, hostile),
        dataset=_dataset(hostile),
        device=DeviceRecord(
            name="cpu-1t",
            description="one thread of the CPU, ONNX Runtime, all graph optimisations",
            batch_size=1,
            environment={"cpu": "Example CPU @ 2.0 GHz", "pinned": True, "load": 0.4, "governor": None},
        ),
        teacher=_teacher(state, measured_teacher) if teacher else None,
        trials=tuple(proposals),
        finalists=members,
        environment={"python": "3.11.9", "torch": "2.13.0", "onnxruntime": "1.31.0", "cores": 2},
        seconds={"data": 0.3, "teacher": 31.0, "gate": 0.4 * trials, "distill": 1.4 * trials, "finalists": 61.0},
        warnings=("the load average was above 1 during 2 measurements", *([HOSTILE] if hostile else [])),
        command="nas-kd search digits.toml --run-dir runs/digits",
    )


def _costs(parameters: int, rng: np.random.Generator, latency: bool = True) -> Costs:
    size = parameters * 4 + 6_000
    p50 = 0.02 + (size / 1e6) ** 0.8 * 0.9 * float(rng.uniform(0.75, 1.3))
    timing = Latency(p50=p50, p90=p50 * 1.06, low=p50 * 0.99, high=p50 * 1.012, unstable=bool(rng.random() < 0.06))
    return Costs(size_bytes=size, latency_ms=timing if latency else None, parameters=parameters, macs=parameters * 23)


def _accuracy_of(parameters: int, rng: np.random.Generator, noise: float = 0.006) -> float:
    return float(np.clip(0.987 - 0.2 * math.exp(-parameters / 1_100) - abs(rng.normal(0, noise)), 0.1, 1))


def _trial(
    rng: np.random.Generator,
    number: int,
    before: list[TrialRecord],
    limits: tuple[float, float] | None,
    hostile: bool,
) -> TrialRecord:
    twin = before[int(rng.integers(number))] if number and rng.random() < 0.12 else None
    if twin is not None:
        elapsed = before[-1].elapsed_s + 0.1
        return twin.model_copy(
            update={"number": number, "status": "duplicate", "duplicate_of": twin.number, "elapsed_s": elapsed}
        )
    width, depth, kernel = int(rng.choice([8, 12, 16, 24])), int(rng.integers(1, 4)), int(rng.choice([3, 5]))
    chain = tuple(Architecture("resnet", {"width1": 32 - 8 * i}) for i in range(int(rng.integers(0, 3))))
    candidate = Candidate(
        Architecture("resnet", {"width1": width, "depth1": depth, "kernel1": kernel, "depth2": 1 + number % 3}),
        chain,
        Recipe(str(rng.choice(METHODS)), {"temperature": float(rng.uniform(1, 8)), "strength": 1.0}),
    )
    parameters = width * width * kernel * kernel * (depth + number % 3) // 3 + 900
    costs = _costs(parameters, rng)
    timing = costs.latency_ms
    assert timing is not None
    within = limits is None or (timing.p50 <= limits[0] and costs.require_size() <= limits[1] * 1000)
    status, value = _draw_status(rng, within), _accuracy_of(parameters, rng)
    early = value - abs(float(rng.normal(0.03, 0.01)))
    rungs: tuple[RungRecord, ...] = (
        RungRecord(epochs=4, val_accuracy=early, val_score=early, seconds=0.6),
        RungRecord(epochs=12, val_accuracy=value, val_score=value, seconds=1),
    )
    rungs = rungs if status == "finished" else rungs[:1] if status == "pruned" else ()
    return TrialRecord(
        number=number,
        id=candidate.id,
        candidate=candidate,
        description=HOSTILE
        if hostile
        else f"2 stages, {width}-{2 * width} wide, {depth + 1 + number % 3} blocks, {parameters:,} weights",
        chain_description=" → ".join(
            ["teacher", *(f"resnet, {32 - 8 * i} wide" for i in range(len(chain))), "student"]
        ),
        status=status,
        reason=_reason(status, hostile),
        within_budget=within,
        costs=costs,
        rungs=rungs,
        val_accuracy=rungs[-1].val_accuracy if rungs else None,
        seconds={"propose": 0.02, "gate": 0.4, "assistants": 0.8 if chain else 0.0, "distill": 1.6 if rungs else 0.0},
        elapsed_s=(before[-1].elapsed_s if before else 35.0) + 2.4,
    )


def _draw_status(rng: np.random.Generator, within: bool) -> TrialStatus:
    if not within:
        return "infeasible"
    draw = rng.random()
    return "failed" if draw < 0.04 else "pruned" if draw < 0.35 else "finished"


def _reason(status: TrialStatus, hostile: bool) -> str | None:
    if status == "infeasible":
        return "over the budget"
    if status == "failed":
        return HOSTILE if hostile else "the loss became NaN in epoch 2"
    return None


def _chosen(trials: list[TrialRecord], most: int) -> list[TrialRecord]:
    """Choose the largest members of the accuracy-size front, by validation accuracy."""
    done = [(t.costs.size_bytes, t) for t in trials if t.status == "finished" and isinstance(t.costs, Costs)]
    front: list[TrialRecord] = []
    for _, trial in sorted(done, key=lambda pair: (pair[0], -(pair[1].val_accuracy or 0))):
        if not front or (trial.val_accuracy or 0) > (front[-1].val_accuracy or 0):
            front.append(trial)
    return front[-most:] if most else []


def _around(mean: float, half: float, samples: int = 360, seeds: int = 3) -> Accuracy:
    return Accuracy(mean=mean, low=max(-1.0, mean - half), high=min(1.0, mean + half), samples=samples, seeds=seeds)


def _seeds(mean: float, epochs: int, rng: np.random.Generator) -> tuple[SeedRecord, ...]:
    return tuple(
        SeedRecord(
            seed=s,
            epochs=epochs,
            val_accuracy=(val := min(1.0, mean + 0.002 + float(rng.normal(0, 0.003)))),
            val_score=val,
            test_accuracy=(test := min(1.0, mean + float(rng.normal(0, 0.003)))),
            test_score=test,
            seconds=4.0,
            parity=float(rng.uniform(1e-6, 9e-6)),
            agreement=1.0,
            sha256=f"{s}{'ab12' * 16}"[:64],
        )
        for s in range(3)
    )


def _finalist(
    rng: np.random.Generator, trial: TrialRecord, controls: bool, limits: tuple[float, float] | None
) -> FinalistRecord:
    assert trial.costs is not None
    assert trial.val_accuracy is not None
    mean = min(0.993, trial.val_accuracy + 0.003)
    kinds: list[tuple[Any, float]] = [("no_distillation", float(rng.normal(0.012, 0.004)))]
    if trial.candidate.assistants:
        kinds.append(("no_assistants", float(rng.normal(0.002, 0.003))))
    return FinalistRecord(
        id=trial.id,
        trial=trial.number,
        candidate=trial.candidate,
        description=trial.description,
        chain_description=trial.chain_description,
        costs=trial.costs,
        val=_around(mean + 0.002, 0.006),
        val_score=_around(mean + 0.002, 0.006),
        test=_around(mean, 0.007),
        test_score=_around(mean, 0.007),
        seeds=_seeds(mean, 30, rng),
        deployed_seed=1,
        controls=tuple(
            ControlRecord(
                kind=kind,
                seeds=_seeds(mean - gain, 41, rng),
                accuracy=_around(mean - gain, 0.008),
                score=_around(mean - gain, 0.008),
                gain=(found := _around(gain, 0.007 if kind == "no_distillation" else 0.005)),
                score_gain=found,
                cost_ratio=0.98,
            )
            for kind, gain in kinds
            if controls
        ),
        training_s=27.5,
        within_budget=trial.within_budget,
    )


def _teacher(state: RunState, measured: bool) -> TeacherRecord:
    costs = Costs(
        size_bytes=1_940_000 if measured else None,
        latency_ms=Latency(p50=0.81, p90=0.86, low=0.802, high=0.818) if measured else None,
        parameters=480_000,
        macs=9_000_000,
    )
    test = _around(0.991, 0.005) if state == "finished" else None
    val = _around(0.993, 0.005, 215)
    return TeacherRecord(
        description="3 stages, 32-64-128 wide", origin="space", costs=costs, val=val, val_score=val, test=test
    )


def _dataset(hostile: bool) -> DatasetRecord:
    return DatasetRecord(
        name=HOSTILE if hostile else "digits",
        source="digits",
        key="5f" * 32,
        classes=tuple("0123456789"),
        input_shape=(1, 8, 8),
        n_train=1222,
        n_val=215,
        n_test=360,
        notes=("val: 15 % carved from train, stratified, seed 0", *([HOSTILE] if hostile else [])),
    )


def _config(trials: int, limits: tuple[float, float] | None, hostile: bool) -> dict[str, Any]:
    return {
        "name": HOSTILE if hostile else "digits",
        "data": {"source": "digits", "val_fraction": 0.15, "augment": {"crop": 1, "flip": None}},
        "teacher": [{"space": "resnet"}],
        "distill": {"methods": list(METHODS), "epochs": 30, "batch_size": 128, "learning_rate": 0.1},
        "budget": {"max_latency_ms": limits[0], "max_size_kb": limits[1]} if limits else {},
        "device": {"name": "cpu-1t", "batch_size": 1},
        "search": {"trials": trials, "sampler": "tpe", "seed": 0, "epochs": 12},
        "finalists": {"max": 6, "seeds": 3, "controls": True},
    }
