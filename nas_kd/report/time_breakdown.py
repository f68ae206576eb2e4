"""Where the time went, and what did not have to be done twice."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas_kd.report import number_format as numbers
from nas_kd.results.records import CacheRecord, RunRecord

PARTS = {
    "data": "loading the data",
    "teacher": "training the teacher",
    "once_for_all": "once-for-all network: training, search",
    "propose": "coordinator: proposing",
    "coordinator": "coordinator: keeping the record",
    "gate": "measuring: export, size, latency",
    "assistants": "training assistants",
    "students": "distilling candidates",
    "distill": "distilling candidates",
    "idle": "workers waiting for work",
    "finalists": "finalists and controls",
    "test": "reading the test split",
}
STORED = {
    "weights": "trainings (weights)",
    "checkpoint": "trainings to go on with (checkpoints)",
    "logits": "a teacher's outputs on one epoch",
    "export": "exports to ONNX",
    "latency": "latency measurements",
    "inherited": "sub-networks judged with inherited weights",
    "file": "finalists' and controls' files",
}


@dataclass(frozen=True)
class Bar:
    """A named share of a whole, in percent."""

    name: str
    share: float
    text: str


@dataclass(frozen=True)
class CacheUse:
    """One kind of entry of the store: how often it was found there, and how often it had to be made."""

    name: str
    found: int
    made: int
    share: str


def time_spent(seconds: Mapping[str, float]) -> tuple[Bar, ...]:
    """The run's account, largest first."""
    spent = {name: s for name, s in seconds.items() if s > 0}
    whole = sum(spent.values())
    ordered = sorted(spent.items(), key=lambda pair: -pair[1])
    return tuple(Bar(PARTS.get(n, n.replace("_", " ")), s / whole * 100, numbers.duration(s)) for n, s in ordered)


def time_note(run: RunRecord) -> str:
    """What kind of seconds these are, and what the clock said."""
    workers, on_the_clock = worker_count(run), max((t.elapsed_s for t in run.trials), default=0.0)
    said = []
    if workers > 1:
        said.append(
            f"These are worker-seconds, not wall clock: what {workers} workers did at the same time is added up."
        )
    if on_the_clock > 0:
        so_far = " so far" if run.state == "searching" else ""
        took = f"The search itself took {numbers.duration(on_the_clock)}{so_far} on the clock"
        said.append(f"{took}, without the teacher before it and the finalists after it.")
    return " ".join(said)


def worker_count(run: RunRecord) -> int:
    """How many candidates the run trained at the same time."""
    return int(option(run, "workers") or 1)


def option(run: RunRecord, name: str) -> Any:
    """An option of the config's `[search]`; None where a run's config does not have it."""
    search = run.config.get("search")
    return search.get(name) if isinstance(search, Mapping) else None


def stored(cache: Mapping[str, CacheRecord]) -> tuple[CacheUse, ...]:
    """What was looked for in the store, in the order of what it saves."""
    kinds = [*(k for k in STORED if k in cache), *sorted(k for k in cache if k not in STORED)]
    return tuple(_stored(kind, cache[kind]) for kind in kinds if cache[kind].hits + cache[kind].misses)


def _stored(kind: str, record: CacheRecord) -> CacheUse:
    share = record.hits / (record.hits + record.misses)
    # Neither "none" nor "all" by rounding.
    text = f"{min(max(share * 100, 1.0), 99.0) if 0 < share < 1 else share * 100:.0f}{numbers.NBSP}%"
    return CacheUse(STORED.get(kind, kind.replace("_", " ")), record.hits, record.misses, text)
