"""A run together with what all sections of its report share: letters of the finalists, fronts, winner and budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas_kd.config.options import Budget
from nas_kd.plugins import display_name
from nas_kd.report.number_format import column_decimals
from nas_kd.results.candidate import Candidate
from nas_kd.results.finalist_record import FinalistRecord
from nas_kd.results.front_document import front_document
from nas_kd.results.fronts import Axis
from nas_kd.results.latency import Latency
from nas_kd.results.limits import CostName, cost_values
from nas_kd.results.run_record import RunRecord, TeacherRecord
from nas_kd.results.trial_record import Costs, TrialRecord

AXES: tuple[Axis, ...] = ("size", "latency")


@dataclass(frozen=True)
class ReportContext:
    """What all sections of a report share.

    Attributes:
        run: the record of the run.
        budget: its limits.
        letters: A, B, C ... of each finalist by candidate id, smallest file first.
        front_membership: `on_front` of front.json by candidate id.
        winner: the finalist to deploy, if one meets the budget.
        accuracy_decimals: decimals of scores in percent.
    """

    run: RunRecord
    budget: Budget
    letters: Mapping[str, str]
    front_membership: Mapping[str, Mapping[str, bool]]
    winner: FinalistRecord | None
    accuracy_decimals: int

    @property
    def score(self) -> str:
        """The name of the score that decides, in sentences: `accuracy`, `macro-F1`."""
        return self.run.score_title

    @property
    def score_name(self) -> str:
        """The name of the score in configs: `accuracy`, `macro_f1`."""
        return "accuracy" if self.run.metric is None else self.run.metric.name

    def judged_on(self, split: str) -> str:
        """Name a split before a figure: `test`, or `test macro-F1` where another score than accuracy decides."""
        return split if self.run.decides_on_headline else f"{split} {self.score}"

    @property
    def finalists(self) -> tuple[FinalistRecord, ...]:
        """Finalists in the order of their letters, smallest file first."""
        return tuple(sorted(self.run.finalists, key=lambda f: self.letters[f.id].rjust(3)))

    def is_winner(self, finalist: FinalistRecord) -> bool:
        """Return whether this finalist is the one to deploy."""
        return self.winner is not None and self.winner.id == finalist.id

    def on_front(self, finalist: FinalistRecord, axis: Axis) -> bool:
        """Return whether the finalist is on the front of the validation score against `axis`."""
        return bool(self.front_membership.get(finalist.id, {}).get(axis, False))

    def limit(self, axis: Axis) -> float | None:
        """Return the budget's limit on this axis, in bytes or milliseconds, if it has one."""
        return self.budget.max_size_bytes if axis == "size" else self.budget.max_latency_ms


def build_context(run: RunRecord) -> ReportContext:
    """Compute once what all sections of the report share."""
    document = front_document(run)
    by_size = sorted(run.finalists, key=lambda f: (f.costs.require_size(), cost(f.costs, "latency") or 0.0, f.id))
    return ReportContext(
        run=run,
        budget=Budget.model_validate(run.config.get("budget") or {}),
        letters={f.id: _letter(n) for n, f in enumerate(by_size)},
        front_membership={c["id"]: c["on_front"] for c in document["candidates"]},
        winner=next((f for f in run.finalists if f.id == document["winner"]), None),
        accuracy_decimals=column_decimals(f.test_score for f in run.finalists),
    )


def cost(costs: Costs | None, name: CostName) -> float | None:
    """Return bytes, multiply-adds or the median latency in ms; None if it was not measured."""
    return None if costs is None else cost_values(costs)[name]


def latency_of(costs: Costs | None) -> Latency | None:
    """Return the latency with its percentiles and interval, or None if it was not measured."""
    return costs.latency_ms if costs else None


def search_option(run: RunRecord, name: str) -> Any:
    """Return an option of the config's `[search]`, or None if the run's config does not have it."""
    search = run.config.get("search")
    return search.get(name) if isinstance(search, Mapping) else None


def named_teachers(run: RunRecord) -> list[tuple[str, TeacherRecord]]:
    """List the teachers with their names in a sentence: `the teacher`, or `teacher 1`, `teacher 2`."""
    if run.teacher is None:
        return []
    if not run.other_teachers:
        return [("the teacher", run.teacher)]
    return [(f"teacher {n}", teacher) for n, teacher in enumerate((run.teacher, *run.other_teachers), start=1)]


def method_name(candidate: Candidate) -> str:
    """Name a candidate's distillation method, with spaces where a line may break: `soft_targets + similarity`."""
    return " + ".join(display_name(candidate.recipe.method).split("+"))


def method_params(candidate: Candidate) -> str:
    """List the parameters of a candidate's method: `temperature 4, strength 1.2`."""
    params = candidate.recipe.params
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in params.items())


def method_with_params(candidate: Candidate) -> str:
    """Describe a candidate's method: `soft_targets (temperature 4, strength 1.2; checkpoint 2 of the teacher)`."""
    facts = "; ".join(filter(None, [method_params(candidate), candidate.recipe.teaching.describe()]))
    return f"{method_name(candidate)} ({facts})" if facts else method_name(candidate)


def chain_text(record: FinalistRecord | TrialRecord) -> str:
    """Describe the order of distillation: `teacher → 3 stages, 32 wide → student`."""
    return record.chain_description or "teacher → student"


def _letter(number: int) -> str:
    """0 -> A, 25 -> Z, 26 -> AA."""
    head, tail = divmod(number, 26)
    return (_letter(head - 1) if head else "") + chr(ord("A") + tail)
