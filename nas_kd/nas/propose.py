"""Asks Optuna for candidates: a static set of parameters, made canonical, never the same candidate twice."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from optuna.trial import BaseTrial, FixedTrial, Trial

from nas_kd.config.options import SearchConfig
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.models.search_space import SearchSpace
from nas_kd.nas.study import RunStudy
from nas_kd.results.candidate import Architecture, Candidate, Choice, Policy, Precision, Recipe

NO_ASSISTANT = "none"
DUPLICATES_IN_A_ROW = 200  # then the space is taken to be exhausted
FINE_LADDER = 16  # sizes among which the largest that fits is looked for
N_INITIAL_TRIALS = 6
MAX_TRIALS_PER_ARCHITECTURE = (
    2  # candidates that differ in temperature and strength alone; then networks beside them are tried
)


@dataclass(frozen=True)
class Proposal:
    """A candidate and its trial. `seconds`: spent on asking; `attempts`: how often its evaluation was begun."""

    trial: Trial
    candidate: Candidate
    seconds: float = 0.0
    attempts: int = 1


class Proposer:
    """Turns Optuna's trials into candidates of one run."""

    def __init__(self, config: SearchConfig, space: SearchSpace, builder: NetworkBuilder, largest: int) -> None:
        """`largest`: the teacher's number of weights; assistants are smaller."""
        self._config = config
        self._space = space
        self._builder = builder
        self._rungs = [
            a for a in space.size_ladder(config.chain.assistant_sizes + 2)[1:-1] if builder.parameters(a) < largest
        ]

    def first(self, fits: Callable[[Architecture, Precision], bool]) -> list[dict[str, Choice]]:
        """Parameters of the first proposals: spread over the sizes that are within the budget, up to its very edge.

        The edge is found by bisection, as size and latency grow along the ladder, but for noise. Precisions take turns,
        each up to an edge of its own.
        """
        path, precisions = self._space.size_ladder(FINE_LADDER), self._config.search.precisions

        def edge(precision: Precision) -> int:
            return max(0, bisect_left(path, True, key=lambda a: not fits(a, precision)) - 1)

        edges = {precision: edge(precision) for precision in precisions}
        proposals = []
        for step in range(N_INITIAL_TRIALS):
            precision = precisions[(N_INITIAL_TRIALS - 1 - step) % len(precisions)]
            student = path[round(edges[precision] * step / (N_INITIAL_TRIALS - 1))]
            drawn: dict[str, Choice] = {f"student.{name}": value for name, value in student.choices.items()}
            proposals.append(drawn | ({"precision": precision} if len(precisions) > 1 else {}))
        return proposals

    def plain(self, students: Iterable[Architecture]) -> list[dict[str, Choice]]:
        """Proposals of these students straight from the teacher, by the first method, at the first precision."""
        distill, chain = self._config.distill, self._config.chain
        slots, precisions = range(chain.max_assistants if self._rungs else 0), self._config.search.precisions
        recipe: dict[str, Choice] = {
            "method": distill.methods[0],
            "temperature": _within(Method.default_temperature, distill.temperature),
            "strength": _within(1.0, distill.strength),
            **{f"assistant.{slot + 1}": NO_ASSISTANT for slot in slots},
            **({"precision": precisions[0]} if len(precisions) > 1 else {}),
        }
        return [recipe | {f"student.{name}": value for name, value in a.choices.items()} for a in students]

    def candidate(self, trial: BaseTrial) -> Candidate:
        """Draw a candidate; the parameters drawn are the same for every trial."""
        config = self._config
        student = self._space.suggest(trial, "student.")
        slots = [NO_ASSISTANT, *(str(i + 1) for i in range(len(self._rungs)))]
        chosen = [
            trial.suggest_categorical(f"assistant.{slot + 1}", slots)
            for slot in range(config.chain.max_assistants if self._rungs else 0)
        ]
        method = trial.suggest_categorical("method", config.distill.methods)
        policy = trial.suggest_categorical("policy", config.chain.policy) if chosen else "sequential"
        drawn = {
            "temperature": trial.suggest_float("temperature", *config.distill.temperature, log=True),
            "strength": trial.suggest_float("strength", *config.distill.strength, log=True),
        }
        made = make_method(method)
        tunable = made.tunable
        assistants = self._canonical_chain(chosen, student, cast(Policy, policy), made)
        return Candidate(
            student=student,
            assistants=assistants,
            recipe=Recipe(method, {k: float(f"{v:.2g}") for k, v in drawn.items() if k in tunable}),
            precision=cast(Precision, trial.suggest_categorical("precision", config.search.precisions)),
            policy=cast(Policy, policy) if assistants else "sequential",
        )

    def _canonical_chain(
        self, chosen: list[str], student: Architecture, policy: Policy, method: Method
    ) -> tuple[Architecture, ...]:
        """Largest first, each once; who is learned from is larger than the student, who is added to it need not be."""
        rungs = [self._rungs[i] for i in sorted({int(c) - 1 for c in chosen if c != NO_ASSISTANT}, reverse=True)]
        if policy == "residual":
            return tuple(rungs)
        several = policy == "dense" and method.teachers == "several"
        if not (method.chainable or several):
            return ()
        parameters = self._builder.parameters
        return tuple(a for a in rungs if parameters(a) > parameters(student))


def _within(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])


def propose(study: RunStudy, proposer: Proposer, config: SearchConfig) -> Proposal | None:
    """The next candidate that has not been tried; None when there seem to be no more.

    Trials that an earlier process left under way come first. Duplicates are told what their twin was told.
    """
    while study.interrupted:
        trial = study.interrupted.pop(0)
        candidate = Candidate.from_json(trial.user_attrs["candidate"])
        if (twin := study.find(candidate.id)) is None:
            return Proposal(trial, candidate, attempts=2)
        study.tell_duplicate(trial, candidate, twin)

    def tried_enough(parameters: Mapping[str, Any]) -> bool:
        return study.tried(proposer.candidate(FixedTrial(dict(parameters))).kind) >= MAX_TRIALS_PER_ARCHITECTURE

    started = time.perf_counter()
    for _ in range(DUPLICATES_IN_A_ROW - study.duplicates_in_a_row):
        trial = study.ask(config.search.sampler, config.search.seed, tried_enough)
        candidate = proposer.candidate(trial)
        twin = study.find(candidate.id)
        if twin is None:
            study.begin(trial, candidate)
            return Proposal(trial, candidate, seconds=round(time.perf_counter() - started, 4))
        study.tell_duplicate(trial, candidate, twin)
    return None
