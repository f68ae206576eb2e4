"""How long the assistants of a candidate would take to train, by the trainings so far."""

from collections.abc import Iterable

from nas_kd.kd.network_builder import NetworkBuilder
from nas_kd.results.trial_record import TrialRecord


def assistants_s(record: TrialRecord, earlier: Iterable[TrialRecord], builder: NetworkBuilder, epochs: int) -> float:
    """Estimate the seconds that a promoted candidate's assistants take; 0 for those that earlier ones have trained.

    They take as long a multiply-add as the student with the most multiply-adds so far: small ones are bound by the
    overhead of their operators, and would make assistants look slower than they are.

    Args:
        record: of the candidate, after one rung at least.
        earlier: records of the run.
        builder: counts multiply-adds.
        epochs: of a full training.
    """
    judged = [r for r in (record, *earlier) if r.rungs]
    trained = {a for r in judged if not r.without_assistants for a in r.candidate.assistants}
    new = [a for a in record.candidate.assistants if a not in trained]
    largest = max(judged, key=lambda r: builder.macs(r.candidate.student))
    seconds = largest.epoch_s / max(1, builder.macs(largest.candidate.student))  # of a multiply-add
    return sum(seconds * epochs * builder.macs(assistant) for assistant in new)
