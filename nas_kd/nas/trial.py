"""One trial: gate, distill up to a rung, judge. Everything that can go wrong with one candidate ends in its record."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nas_kd.config.options import Budget
from nas_kd.errors import TrialError
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.candidate_failure import as_trial_error
from nas_kd.kd.chain_policies.base import load_policy
from nas_kd.kd.distiller import Distiller
from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.nas.feasibility import at_lower_bound, infeasible_reason, is_borderline
from nas_kd.nas.gate import Gate
from nas_kd.nas.prefilter import describe_skip, forecast, is_skipped
from nas_kd.nas.propose import Proposal
from nas_kd.nas.search_plan import SearchPlan
from nas_kd.results.candidate import Candidate
from nas_kd.results.trial_record import RungRecord, TrialRecord


def check_feasibility(
    proposal: Proposal,
    gate: Gate,
    builder: NetworkBuilder,
    budget: Budget,
    *,
    quick: bool,
    prefilter: bool = False,
    earlier: Sequence[TrialRecord] = (),
) -> TrialRecord:
    """Take a new candidate through the gate: its record is infeasible, failed, or running (to be trained).

    Args:
        proposal: the candidate and its trial.
        gate: measures costs.
        builder: describes networks.
        budget: limits of costs.
        quick: measure latency quickly; what lies near its limit is measured in full later.
        prefilter: do not measure what is predicted far above the latency limit.
        earlier: records of the trials so far, which the prefilter learns from.
    """
    candidate, seconds = proposal.candidate, {"propose": proposal.seconds}
    record = _new_record(proposal, builder)
    if proposal.problem is not None:
        return record.model_copy(update={"status": "failed", "reason": proposal.problem, "seconds": seconds})
    try:
        deployed = load_policy(candidate.policy).deployed(candidate)
        with as_trial_error(inputs=False), _timed(seconds, "gate"):
            expected = None
            if prefilter:
                expected = forecast(candidate, record.number, earlier, builder, budget)
            skipped = is_skipped(expected, record.number, earlier)
            costs = gate.costs(*deployed, precision=candidate.precision, with_latency=not skipped, quick=quick)
            exported = costs.size_bytes is not None
            notes = gate.notes(*deployed, precision=candidate.precision) if exported else ()
        record = record.model_copy(update={"costs": costs, "notes": notes, "seconds": seconds, "forecast": expected})
        if infeasible_reason(at_lower_bound(costs) if quick else costs, budget):
            untimed = {} if costs.latency_ms else {"forecast": None}
            return record.model_copy(
                update={"status": "infeasible", "reason": infeasible_reason(costs, budget), **untimed}
            )
        if skipped and expected is not None:
            return record.model_copy(update={"status": "infeasible", "reason": describe_skip(expected, budget)})
    except TrialError as error:
        return record.model_copy(update={"status": "failed", "reason": str(error), "seconds": seconds})
    return record.model_copy(update={"within_budget": not infeasible_reason(costs, budget)})


def _new_record(proposal: Proposal, builder: NetworkBuilder) -> TrialRecord:
    candidate = proposal.candidate
    return TrialRecord(
        number=proposal.trial.number,
        id=candidate.id,
        candidate=candidate,
        description=builder.description(candidate.student),
        chain_description=describe_chain(candidate, builder),
        status="running",
        attempts=proposal.attempts,
    )


def describe_chain(candidate: Candidate, builder: NetworkBuilder) -> str:
    """Describe a candidate's chain in one line; empty where it has no assistants."""
    if not candidate.assistants:
        return ""
    return load_policy(candidate.policy).describe([builder.description(a) for a in candidate.assistants])


def remeasure_borderline(record: TrialRecord, gate: Gate, budget: Budget, n_rungs: int) -> TrialRecord:
    """Measure in full what lies near its latency limit, before its last rung; infeasible if it takes too long.

    Args:
        record: a trial that is to be trained on.
        gate: measures costs.
        budget: limits of costs.
        n_rungs: of the run.
    """
    is_last = len(record.rungs) == n_rungs - 1
    if not (is_last and record.costs and is_borderline(record.costs, budget)):
        return record
    seconds = dict(record.seconds)
    try:
        with as_trial_error(inputs=False), _timed(seconds, "gate"):
            record = measured_in_full(record, gate, budget)
    except TrialError as error:
        return record.model_copy(update={"status": "failed", "reason": str(error), "seconds": seconds})
    return record.model_copy(update={"seconds": seconds} | ({} if record.within_budget else {"status": "infeasible"}))


def measured_in_full(record: TrialRecord, gate: Gate, budget: Budget) -> TrialRecord:
    """The record with the latency of a full measurement; `reason`: why it is out of the budget, if it is.

    Raises:
        TrialError: the candidate cannot be run.
    """
    candidate = record.candidate
    deployed = load_policy(candidate.policy).deployed(candidate)
    costs = gate.costs(*deployed, precision=candidate.precision)
    why = infeasible_reason(costs, budget) or None
    return record.model_copy(update={"costs": costs, "reason": why, "within_budget": why is None})


def train_to_next_rung(
    record: TrialRecord, distiller: Distiller, artifacts: ArtifactBuilder, plan: SearchPlan, seed: int
) -> TrialRecord:
    """Train a candidate up to its next rung: its assistants in full, then the student from where it stopped.

    Up to the first rung it is trained without its assistants, see `candidate_up_to_next_rung`; once it is promoted its
    student starts again behind them.

    Args:
        record: the trial so far.
        distiller: trains candidates.
        artifacts: makes the file that accuracy is read from.
        plan: epochs after which candidates are compared, the last being the full schedule.
        seed: of the student's training.
    """
    seconds, candidate, rungs = dict(record.seconds), candidate_up_to_next_rung(record, plan), plan.rungs
    epochs, full, without_assistants = rungs[len(record.rungs)], rungs[-1], candidate != record.candidate
    try:
        with as_trial_error(), _timed(seconds, "assistants"):
            distiller.prepare(candidate)
        with as_trial_error(), _timed(seconds, "distill"):
            trained = distiller.distill(candidate, seed, full, until=epochs, restarts=rungs[:-1])
            judged = artifacts.judge(trained, candidate.precision)
    except TrialError as error:
        return record.model_copy(update={"status": "failed", "reason": str(error), "seconds": seconds})
    before = sum(r.seconds for r in record.rungs if r.without_assistants == without_assistants)
    rung = RungRecord(
        epochs=epochs,
        val_accuracy=judged.accuracy,
        val_score=judged.score,
        seconds=round(max(0.0, trained.seconds - before), 4),
        without_assistants=without_assistants,
        latency_ms=record.median_ms,
    )
    scores = {"val_accuracy": rung.val_accuracy, "val_score": rung.val_score}
    reached = {"status": "finished" if epochs == full else "paused", "rungs": (*record.rungs, rung)}
    return record.model_copy(update={**reached, **scores, "seconds": seconds})


def candidate_up_to_next_rung(record: TrialRecord, plan: SearchPlan) -> Candidate:
    """Build the candidate that is trained up to a trial's next rung: its own, or at first the same without assistants.

    Most candidates go no further than the first rung. So assistants are trained when a candidate is promoted, and
    trials that differ in their assistants alone share their training up to there.

    Args:
        record: the trial so far.
        plan: which trials are trained in full whatever they reach, with their assistants from the start.
    """
    if record.rungs or plan.trained_in_full(record.number):
        return record.candidate
    return load_policy(record.candidate.policy).without_shared_assistants(record.candidate)


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """Add the seconds spent inside to `seconds[what]`."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[what] = round(seconds.get(what, 0.0) + time.perf_counter() - started, 4)
