"""One trial: gate, distil, judge. Everything that can go wrong with one candidate ends in its record."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from nas_kd.candidate import Candidate
from nas_kd.errors import TrialError
from nas_kd.pipeline.budget import excess, reason
from nas_kd.pipeline.chain import Chain
from nas_kd.pipeline.gate import Gate
from nas_kd.pipeline.propose import Proposal
from nas_kd.record import RungRecord, TrialRecord


def evaluate(proposal: Proposal, gate: Gate, chain: Chain) -> TrialRecord:
    """What becomes of a candidate: rejected at the gate, failed, or finished with its validation accuracy."""
    candidate, builder = proposal.candidate, chain.builder
    seconds = {"propose": proposal.seconds}
    record = TrialRecord(
        number=proposal.trial.number,
        id=candidate.id,
        candidate=candidate.to_json(),
        words=builder.words(candidate.student),
        chain_words=tuple(builder.words(a) for a in candidate.assistants),
        fate="running",
        attempts=proposal.attempts,
    )
    try:
        with _timed(seconds, "gate"):
            costs = gate.costs(*candidate.deployed)
        record = record.model_copy(update={"costs": costs, "seconds": seconds})
        budget = chain.context.config.budget
        if excess(costs, budget) > 0:
            return record.model_copy(update={"fate": "rejected", "reason": reason(costs, budget)})
        rung = distil_to_rung(candidate, chain, seconds)
    except TrialError as error:
        return record.model_copy(update={"fate": "failed", "reason": str(error), "seconds": seconds})
    judged = {"fate": "finished", "within_budget": True, "rungs": (rung,), "val_accuracy": rung.val_accuracy}
    return record.model_copy(update=judged)


def distil_to_rung(candidate: Candidate, chain: Chain, seconds: dict[str, float]) -> RungRecord:
    """Train the assistants in full, the student for the search's share of the schedule."""
    config = chain.context.config
    with _timed(seconds, "assistants"):
        chain.prepare(candidate)
    with _timed(seconds, "distil"):
        link = chain.distil(candidate, config.search.seed, config.distill.epochs, until=config.search_epochs)
    return RungRecord(epochs=config.search_epochs, val_accuracy=link.val_accuracy, seconds=round(link.seconds, 4))


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[what] = round(time.perf_counter() - started, 4)
