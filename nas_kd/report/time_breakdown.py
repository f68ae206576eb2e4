"""Where the run's time went, and what was found in the store instead of being computed again."""

from collections.abc import Mapping
from dataclasses import dataclass

from nas_kd.report import number_format as fmt
from nas_kd.report.report_context import search_option
from nas_kd.results.run_record import CacheRecord, RunRecord

PART_NAMES = {
    "data": "loading the data",
    "teacher": "preparing the teacher",
    "recipe": "trying training recipes",
    "once_for_all": "once-for-all network: training, search",
    "propose": "coordinator: proposing candidates",
    "coordinator": "coordinator: keeping the record",
    "gate": "measuring: export, size, latency",
    "assistants": "training assistants",
    "students": "distilling candidates",
    "distill": "distilling candidates",
    "idle": "idle workers",
    "finalists": "finalists and controls",
    "baselines": "compressing the teacher in other ways",
    "test": "evaluating on the test split",
}
CACHE_NAMES = {
    "weights": "trained weights",
    "checkpoint": "training checkpoints to resume from",
    "logits": "teacher outputs of one epoch",
    "export": "ONNX exports",
    "latency": "latency measurements",
    "inherited": "sub-networks evaluated with inherited weights",
    "probe": "settings of training recipes",
    "recipe": "choices of training recipes",
    "student_friendly": "comparisons of student-friendly teachers with what they were",
    "late_accuracy": "late scores of teachers",
    "file": "files of finalists and controls",
}


@dataclass(frozen=True)
class Bar:
    """One bar of a bar chart: its name, length in percent of the width, and figure."""

    name: str
    percent: float
    text: str


@dataclass(frozen=True)
class CacheUse:
    """Hits and misses of one kind of entry in the store; `hit_rate` as text."""

    name: str
    hits: int
    misses: int
    hit_rate: str


def time_bars(seconds: Mapping[str, float]) -> tuple[Bar, ...]:
    """Build a bar for each part of the run's seconds, largest first."""
    positive = {name: s for name, s in seconds.items() if s > 0}
    total = sum(positive.values())
    ordered = sorted(positive.items(), key=lambda pair: -pair[1])
    return tuple(Bar(PART_NAMES.get(n, n.replace("_", " ")), s / total * 100, fmt.duration(s)) for n, s in ordered)


def time_note(run: RunRecord) -> str:
    """Explain what the seconds count, and how long the search took on the clock."""
    workers, search_s = worker_count(run), max((t.elapsed_s for t in run.trials), default=0.0)
    notes = []
    if workers > 1:
        notes.append(f"These are worker-seconds, summed over {workers} workers, not wall-clock time.")
    if search_s > 0:
        so_far = " so far" if run.state == "searching" else ""
        probe = " with the short trainings that chose the recipe, but" if run.seconds.get("recipe") else ","
        notes.append(
            f"The search itself took {fmt.duration(search_s)}{so_far} of wall-clock time{probe} without the teacher "
            "before it and the finalists after it."
        )
    if any(r.without_assistants for t in run.trials for r in t.rungs[:-1]):
        notes.append("Distilling candidates includes students that started again behind assistants when promoted.")
    return " ".join(notes)


def worker_count(run: RunRecord) -> int:
    """Return how many candidates the run trained at the same time."""
    return int(search_option(run, "workers") or 1)


def cache_uses(cache: Mapping[str, CacheRecord]) -> tuple[CacheUse, ...]:
    """List every kind of entry that was looked up in the store; the kinds that save most come first."""
    kinds = [*(k for k in CACHE_NAMES if k in cache), *sorted(k for k in cache if k not in CACHE_NAMES)]
    return tuple(_cache_use(kind, cache[kind]) for kind in kinds if cache[kind].hits + cache[kind].misses)


def _cache_use(kind: str, record: CacheRecord) -> CacheUse:
    share = record.hits / (record.hits + record.misses)
    # Rounding must not turn a few misses into none, or a few hits into none.
    percent = min(max(share * 100, 1.0), 99.0) if 0 < share < 1 else share * 100
    name = CACHE_NAMES.get(kind, kind.replace("_", " "))
    return CacheUse(name, record.hits, record.misses, f"{percent:.0f}{fmt.NBSP}%")
