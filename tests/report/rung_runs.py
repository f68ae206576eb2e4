"""Synthetic runs whose candidates were trained in rungs, by several workers, or after a once-for-all network."""

from functools import cache
from typing import Any

import numpy as np

from nas_kd.results.run_record import CacheRecord, RunRecord, RunState
from nas_kd.results.trial_record import RungRecord, TrialRecord
from tests.records import elastic_network

from .synthetic import synthetic_run

EPOCHS = (4, 12, 36)
REDUCTION = 3
CACHE = {
    "weights": CacheRecord(hits=31, misses=118),
    "logits": CacheRecord(hits=4210, misses=72),
    "export": CacheRecord(hits=140, misses=62),
    "latency": CacheRecord(hits=1_000, misses=1),
    "checkpoint": CacheRecord(hits=22, misses=118),
    "priors": CacheRecord(),
}


@cache
def run_with_rungs(
    trials: int = 60,
    *,
    state: RunState = "finished",
    predicts: bool = True,
    workers: int = 2,
    once_for_all: bool = False,
    inherited_noise: float = 0.01,
    seed: int = 0,
) -> RunRecord:
    """Build a synthetic run with three rungs. `predicts`: the first rung ranks candidates nearly as the last does."""
    plain = synthetic_run(trials, state=state, seed=seed)
    rng = np.random.default_rng(seed)
    finalists = {f.trial for f in plain.finalists}
    drawn = {t.number: _draw_accuracies(t, rng, predicts) for t in plain.trials if t.status in ("finished", "pruned")}
    reached = _successive_halving(drawn, finalists)
    ended = max((t.elapsed_s for t in plain.trials), default=0.0) + 60
    trials_with_rungs = tuple(
        _with_rungs(t, drawn[t.number], reached[t.number], state, ended) if t.number in drawn else t
        for t in plain.trials
    )
    if once_for_all:
        trials_with_rungs = tuple(_with_inherited_accuracy(t, drawn, rng, inherited_noise) for t in trials_with_rungs)
    search = {**plain.config["search"], "workers": workers, "rungs": 3, "reduction": REDUCTION}
    search["strategy"] = "once-for-all" if once_for_all else "trials"
    elastic = {"once_for_all": 310.0} if once_for_all else {}
    fields: dict[str, Any] = {
        "trials": trials_with_rungs,
        "config": {**plain.config, "search": search, "distill": {**plain.config["distill"], "epochs": 36}},
        "cache": CACHE,
        "seconds": {**plain.seconds, "propose": 0.02 * trials, "idle": 0.3 * trials, "test": 1.0, **elastic},
        "once_for_all": elastic_network() if once_for_all else None,
    }
    return plain.model_copy(update=fields)


def _draw_accuracies(trial: TrialRecord, rng: np.random.Generator, predicts: bool) -> tuple[float, ...]:
    """Draw the accuracy at each rung."""
    last = trial.val_accuracy or 0.5
    noise = 0.002 if predicts else 0.2
    early = [last - 0.06 / (n + 1) + float(rng.normal(0, noise)) for n in range(len(EPOCHS) - 1)]
    return (*(float(np.clip(a, 0.1, 1)) for a in early), last)


def _successive_halving(drawn: dict[int, tuple[float, ...]], finalists: set[int]) -> dict[int, int]:
    """Return how many rungs each trial reaches: the best third is promoted, and all finalists."""
    reached, here = dict.fromkeys(drawn, 1), list(drawn)
    for level in (1, 2):
        best = sorted(here, key=lambda n: -drawn[n][level - 1])[: max(1, len(here) // REDUCTION)]
        here = [n for n in here if n in best or n in finalists]
        reached.update(dict.fromkeys(here, level + 1))
    return reached


def _with_rungs(
    trial: TrialRecord, accuracies: tuple[float, ...], rungs: int, state: RunState, ended: float
) -> TrialRecord:
    finished = rungs == len(EPOCHS)
    unfinished = "paused" if state == "searching" else "pruned"
    reached = tuple(
        RungRecord(epochs=e, val_accuracy=a, seconds=e / 10)
        for e, a in zip(EPOCHS[:rungs], accuracies[:rungs], strict=True)
    )
    fields = {
        "status": "finished" if finished else unfinished,
        "rungs": reached,
        "val_accuracy": reached[-1].val_accuracy,
        "seconds": {**trial.seconds, "distill": EPOCHS[rungs - 1] / 10},
        "reason": None
        if finished or unfinished == "paused"
        else f"not among the best after {EPOCHS[rungs - 1]} epochs",
        "elapsed_s": trial.elapsed_s + 30.0 if finished or state == "searching" else ended,
    }
    return trial.model_copy(update=fields)


def _with_inherited_accuracy(
    trial: TrialRecord, drawn: dict[int, tuple[float, ...]], rng: np.random.Generator, noise: float
) -> TrialRecord:
    if trial.number not in drawn:
        return trial
    value = float(np.clip(drawn[trial.number][-1] - 0.05 + rng.normal(0, noise), 0, 1))
    return trial.model_copy(update={"inherited_accuracy": value})
