"""Asks Optuna for candidates: a static set of parameters, made canonical, never the same candidate twice."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.trial import BaseTrial, FixedTrial, Trial

from nas_kd.config.options import SearchConfig
from nas_kd.errors import TrialError
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.network_builder import NetworkBuilder, size_ladder
from nas_kd.methods.base import Method
from nas_kd.methods.combine import make_method
from nas_kd.methods.teaching_choices import TeachingChoices
from nas_kd.models.search_space import SearchSpace
from nas_kd.nas.database import stored_candidate
from nas_kd.nas.recipe_dimensions import RecipeDimensions
from nas_kd.nas.samplers.base import optuna_silenced
from nas_kd.nas.search_plan import MAX_INITIAL_SIZE_RATIO, SearchPlan
from nas_kd.nas.study import RunStudy
from nas_kd.nas.teaching_dimensions import TeachingDimensions
from nas_kd.results.candidate import DEFAULT_POLICY, Architecture, Candidate, Choice, Recipe
from nas_kd.serialization import canonical_json

NO_ASSISTANT = "none"
MAX_DUPLICATES_IN_A_ROW = 200  # then the space is taken to be exhausted
MAX_TRIALS_PER_ARCHITECTURE = 2  # that differ in temperature and strength alone; then other networks are tried


@dataclass(frozen=True)
class Proposal:
    """A candidate and its trial.

    Attributes:
        trial: Optuna's.
        candidate: what its parameters stand for.
        seconds: spent on asking.
        attempts: how often its evaluation was begun.
        problem: why the candidate could not be drawn in full; None: it was.
    """

    trial: Trial
    candidate: Candidate
    seconds: float = 0.0
    attempts: int = 1
    problem: str | None = None


class Proposer:
    """Turns Optuna's trials into candidates of one run."""

    def __init__(
        self,
        config: SearchConfig,
        space: SearchSpace,
        builder: NetworkBuilder,
        max_weights: int,
        recipes: RecipeDimensions | None = None,
    ) -> None:
        """Propose candidates of this space.

        Args:
            config: of the run.
            space: of students and assistants.
            builder: counts weights.
            max_weights: the teacher's number of weights; assistants are smaller.
            recipes: parts of the training recipe that candidates differ in; None: in none.
        """
        self._recipes, self._teaching = recipes, TeachingDimensions(TeachingChoices.of(config))
        self._config = config
        self._space = space
        self._builder = builder
        sizes = size_ladder(space, config.chain.assistant_sizes + 2)[1:-1]
        self._assistants = [a for a in sizes if builder.can_build(a) and builder.parameters(a) < max_weights]

    def initial_trials(self, fits: Callable[[Architecture, str], bool], plan: SearchPlan) -> list[dict[str, Choice]]:
        """Parameters of the first proposals: sizes from the budget's upper edge down to the smallest useful one.

        The first is the largest network within the budget at the first precision, proposed as `direct_trials` does: a
        student that can be deployed is there after the first training. The others have no assistants either, whose
        training would hold up the first results, and all have the run's own training recipe. Precisions take turns,
        each from an edge of its own. An edge is found by bisection, as size and latency grow along the ladder of sizes,
        noise apart.

        Args:
            fits: whether an architecture at a precision is within the budget.
            plan: how many proposals, and among how many sizes the edge is looked for.
        """
        path, precisions = size_ladder(self._space, plan.n_edge_sizes), self._config.search.precisions

        def sizes(precision: str) -> list[Architecture]:
            edge = max(0, bisect_left(path, True, key=lambda a: not fits(a, precision)) - 1)
            built = [a for a in path[: edge + 1] if self._builder.can_build(a)] or [self._builder.smallest()]
            return self._spread(built, plan.n_initial)

        students = {precision: sizes(precision) for precision in precisions}
        proposals = self.direct_trials([students[precisions[0]][0]])
        for step in range(1, plan.n_initial):
            precision = precisions[step % len(precisions)]
            drawn = _student_choices(students[precision][step]) | self._plain()
            proposals.append(drawn | ({"precision": precision} if len(precisions) > 1 else {}))
        return proposals

    def _spread(self, path: Sequence[Architecture], n: int) -> list[Architecture]:
        """Choose `n` useful sizes of a path, from its largest downwards, log-spaced; distinct if there are as many."""
        weights = self._builder.parameters
        useful = [a for a in reversed(path) if weights(a) * MAX_INITIAL_SIZE_RATIO >= weights(path[-1])]
        logs = [log(weights(a)) for a in useful]
        places = [0]
        for step in range(1, n):
            target = logs[0] + (logs[-1] - logs[0]) * step / (n - 1)
            new = range(places[-1] + 1, len(useful) - (n - 1 - step)) or range(places[-1], len(useful))
            places.append(min(new, key=lambda place: abs(logs[place] - target)))
        return [useful[place] for place in places]

    def direct_trials(self, students: Iterable[Architecture]) -> list[dict[str, Choice]]:
        """Parameters that propose these students without assistants, with the first method and the first precision."""
        distill, precisions = self._config.distill, self._config.search.precisions
        recipe: dict[str, Choice] = {
            "method": distill.methods[0],
            "temperature": _clamped(Method.default_temperature, distill.temperature),
            "strength": _clamped(1.0, distill.strength),
            **self._plain(),
            **({"precision": precisions[0]} if len(precisions) > 1 else {}),
        }
        return [recipe | _student_choices(a) for a in students]

    def _plain(self) -> dict[str, Choice]:
        """Parameters that mean no assistants, the run's own training recipe, and the first way of teaching."""
        slots = range(self._config.chain.max_assistants if self._assistants else 0)
        recipe = self._recipes.unchanged() if self._recipes else {}
        return {f"assistant.{slot + 1}": NO_ASSISTANT for slot in slots} | recipe | self._teaching.unchanged()

    def draw(self, trial: BaseTrial) -> tuple[Candidate, str | None]:
        """Draw a candidate; what the space raises is the second result.

        The candidate then has the parameters that were drawn before, so that the failure has a place in the record.
        """
        try:
            with as_trial_error():
                candidate = self.candidate(trial)
                canonical_json(candidate.to_json())  # what the space made of it can be stored
                return candidate, None
        except TrialError as error:
            prefix, first = "student.", self._config.distill.methods[0]
            drawn = {k.removeprefix(prefix): v for k, v in trial.params.items() if k.startswith(prefix)}
            student = Architecture(self._space.name, drawn)
            return Candidate(student, (), Recipe(first)), f"suggest() of space {student.space!r} failed: {error}"

    def candidate(self, trial: BaseTrial) -> Candidate:
        """Draw a candidate; the parameters drawn are the same for every trial."""
        config = self._config
        student = self._space.suggest(trial, "student.")
        slots = [NO_ASSISTANT, *(str(i + 1) for i in range(len(self._assistants)))]
        chosen = [
            trial.suggest_categorical(f"assistant.{slot + 1}", slots)
            for slot in range(config.chain.max_assistants if self._assistants else 0)
        ]
        name = trial.suggest_categorical("method", config.distill.methods)
        policy = str(trial.suggest_categorical("policy", config.chain.policy)) if chosen else DEFAULT_POLICY
        drawn = {
            "temperature": trial.suggest_float("temperature", *config.distill.temperature, log=True),
            "strength": trial.suggest_float("strength", *config.distill.strength, log=True),
        }
        method = make_method(name)
        assistants = self._canonical_chain(chosen, student, policy, method)
        return Candidate(
            student=student,
            assistants=assistants,
            recipe=Recipe(
                name,
                {k: float(f"{v:.2g}") for k, v in drawn.items() if k in method.tunable},
                self._recipes.suggest(trial, lambda: self._weights(student)) if self._recipes else {},
                self._teaching.suggest(trial, method, len(assistants)),
            ),
            precision=str(trial.suggest_categorical("precision", config.search.precisions)),
            policy=policy if assistants else DEFAULT_POLICY,
        )

    def _weights(self, student: Architecture) -> int:
        """Number of weights; of what cannot be built, which the gate will find, 0."""
        return self._builder.parameters(student) if self._builder.can_build(student) else 0

    @cached_property
    def distributions(self) -> Mapping[str, BaseDistribution]:
        """All parameters that `candidate` draws, by name."""
        with optuna_silenced():
            trial = optuna.create_study(sampler=RandomSampler(seed=0)).ask()
        self.candidate(trial)
        return trial.distributions

    def _canonical_chain(
        self, chosen: list[str], student: Architecture, policy: str, method: Method
    ) -> tuple[Architecture, ...]:
        """The assistants drawn, largest first, each once, as far as the policy can use them."""
        places = sorted({int(c) - 1 for c in chosen if c != NO_ASSISTANT}, reverse=True)
        drawn = [self._assistants[i] for i in places]
        if drawn and not self._builder.can_build(student):  # which the gate will find, too
            return ()
        return load_policy(policy).usable_assistants(drawn, student, method, self._builder.parameters)


def _student_choices(student: Architecture) -> dict[str, Choice]:
    return {f"student.{name}": value for name, value in student.choices.items()}


def _clamped(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])


def propose(study: RunStudy, proposer: Proposer, config: SearchConfig) -> Proposal | None:
    """Propose the next candidate that has not been tried; None when there seem to be no more.

    Trials that an earlier process left under way come first. Duplicates are stored with their twin's results.
    """
    study.use_foreign_trials(proposer.distributions)
    while study.interrupted:
        trial = study.interrupted.pop(0)
        candidate = stored_candidate(trial)
        if (twin := study.find(candidate.id)) is None:
            return Proposal(trial, candidate, attempts=2)
        study.tell_duplicate(trial, candidate, twin)

    def tried_enough(parameters: Mapping[str, Any]) -> bool:
        candidate, problem = proposer.draw(FixedTrial(dict(parameters)))
        return problem is not None or study.tried(candidate.kind) >= MAX_TRIALS_PER_ARCHITECTURE

    started = time.perf_counter()
    for _ in range(MAX_DUPLICATES_IN_A_ROW - study.duplicates_in_a_row):
        trial = study.ask(config.search.sampler, config.search.seed, tried_enough)
        candidate, problem = proposer.draw(trial)
        twin = study.find(candidate.id)
        if twin is None:
            trial = study.begin(trial, candidate)
            return Proposal(trial, candidate, seconds=round(time.perf_counter() - started, 4), problem=problem)
        study.tell_duplicate(trial, candidate, twin)
    return None
