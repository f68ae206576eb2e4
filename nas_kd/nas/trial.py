"""One trial: gate, distil up to a rung, judge. Everything that can go wrong with one candidate ends in its record."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nas_kd.config.options import Budget
from nas_kd.errors import TrialError
from nas_kd.kd.artifacts import ArtifactBuilder
from nas_kd.kd.chain import Chain
from nas_kd.nas.feasibility import at_lower_bound, infeasible_reason, is_borderline
from nas_kd.nas.gate import Gate
from nas_kd.nas.prefilter import describe_skip, forecast, is_skipped
from nas_kd.nas.propose import Proposal
from nas_kd.results.candidate import Candidate
from nas_kd.results.records import RungRecord, TrialRecord


def check_feasibility(proposal: Proposal, gate: Gate, chain: Chain, before: Sequence[TrialRecord] = ()) -> TrialRecord:
    """What becomes of a new candidate at the gate: rejected, failed, or running: to be trained.

    `before`: what is known of trials so far; where the config has a prefilter, it learns from them.
    """
    candidate, builder, config = proposal.candidate, chain.builder, chain.context.config
    seconds = {"propose": proposal.seconds}
    record = TrialRecord(
        number=proposal.trial.number,
        id=candidate.id,
        candidate=candidate.to_json(),
        description=builder.description(candidate.student),
        assistant_descriptions=tuple(builder.description(a) for a in candidate.assistants),
        status="running",
        attempts=proposal.attempts,
    )
    try:
        with _timed(seconds, "gate"):
            expected = None
            if config.device.prefilter:
                expected = forecast(candidate, record.number, before, builder, config.budget)
            skipped = is_skipped(expected, record.number, before)
            quick = len(chain.context.rungs) > 1
            costs = gate.costs(
                *candidate.deployed, precision=candidate.precision, with_latency=not skipped, quick=quick
            )
            notes = gate.notes(*candidate.deployed, precision=candidate.precision) if costs.size_bytes else ()
        record = record.model_copy(update={"costs": costs, "notes": notes, "seconds": seconds, "forecast": expected})
        if infeasible_reason(at_lower_bound(costs) if quick else costs, config.budget):
            untimed = {} if costs.latency_ms else {"forecast": None}
            why = infeasible_reason(costs, config.budget)
            return record.model_copy(update={"status": "infeasible", "reason": why, **untimed})
        if skipped and expected is not None:
            why = describe_skip(expected, config.budget)
            return record.model_copy(update={"status": "infeasible", "reason": why})
    except TrialError as error:
        return record.model_copy(update={"status": "failed", "reason": str(error), "seconds": seconds})
    return record.model_copy(update={"within_budget": not infeasible_reason(costs, config.budget)})


def remeasure_borderline(record: TrialRecord, gate: Gate, chain: Chain) -> TrialRecord:
    """The same before its last rung: who is in doubt is measured thoroughly, and rejected if it takes too long."""
    last = len(record.rungs) == len(chain.context.rungs) - 1
    if not (last and record.costs and is_borderline(record.costs, chain.context.config.budget)):
        return record
    seconds = dict(record.seconds)
    try:
        with _timed(seconds, "gate"):
            record = measured_in_full(record, gate, chain.context.config.budget)
    except TrialError as error:
        return record.model_copy(update={"status": "failed", "reason": str(error), "seconds": seconds})
    return record.model_copy(update={"seconds": seconds} | ({} if record.within_budget else {"status": "infeasible"}))


def measured_in_full(record: TrialRecord, gate: Gate, budget: Budget) -> TrialRecord:
    """The same with the latency that a thorough measurement finds; `reason`: why it is out of the budget, if it is.

    Raises:
        TrialError: it cannot be run.
    """
    candidate = Candidate.from_json(record.candidate)
    costs = gate.costs(*candidate.deployed, precision=candidate.precision)
    why = infeasible_reason(costs, budget) or None
    return record.model_copy(update={"costs": costs, "reason": why, "within_budget": why is None})


def train_to_next_rung(record: TrialRecord, chain: Chain) -> TrialRecord:
    """Train a candidate up to its next rung: its assistants in full, then the student from where it stopped.

    It is judged by its file.
    """
    config, rungs, seconds = chain.context.config, chain.context.rungs, dict(record.seconds)
    candidate, epochs = Candidate.from_json(record.candidate), rungs[len(record.rungs)]
    try:
        with _timed(seconds, "assistants"):
            chain.prepare(candidate)
        with _timed(seconds, "distil"):
            trained = chain.distill(
                candidate, config.search.seed, config.distill.epochs, until=epochs, restarts=rungs[:-1]
            )
            val_accuracy = ArtifactBuilder(chain.context).val_accuracy(trained, candidate.precision)
    except TrialError as error:
        return record.model_copy(update={"status": "failed", "reason": str(error), "seconds": seconds})
    earlier = sum(r.seconds for r in record.rungs)
    rung = RungRecord(
        epochs=epochs,
        val_accuracy=val_accuracy,
        seconds=round(max(0.0, trained.seconds - earlier), 4),
        latency_ms=record.median_ms,
    )
    done = epochs == config.distill.epochs
    judged = {"rungs": (*record.rungs, rung), "val_accuracy": rung.val_accuracy, "seconds": seconds}
    return record.model_copy(update={"status": "finished" if done else "paused", **judged})


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[what] = round(seconds.get(what, 0.0) + time.perf_counter() - started, 4)
