"""What the sampler is shown: every trial at one fidelity, with its latency as it was known by then."""

from optuna.trial import TrialState

from nas_kd.nas.sampler_view import common_rung, outcome
from nas_kd.nas.samplers.base import STARTUP_TRIALS
from nas_kd.nas.successive_halving import SuccessiveHalving
from nas_kd.results.trial_record import TrialRecord
from tests.records import judged


def test_rungs_compare_latencies_as_they_were_known_by_then() -> None:
    def known_as(first: float, second: float) -> TrialRecord:
        trial = judged(0, [0.5, 0.6], ms=second)
        rungs = (r.model_copy(update={"latency_ms": ms}) for r, ms in zip(trial.rungs, (first, second), strict=True))
        return trial.model_copy(update={"rungs": tuple(rungs)})

    assert known_as(2.0, 1.0).objectives(0) == (0.5, 1000, 2.0)
    assert outcome(known_as(2.0, 1.0), 1) == {"values": (0.5, 1000.0, 2.0)}
    assert outcome(known_as(2.0, 1.0), 3) == {"values": (0.6, 1000.0, 1.0)}
    one, rival = known_as(2.0, 1.0), judged(1, [0.5, 0.6], ms=1.5)
    assert SuccessiveHalving([one, rival]).best(1, 1) == [1]
    assert SuccessiveHalving([one, rival]).best(3, 1) == [0]


def test_the_sampler_is_shown_one_fidelity() -> None:
    low = [judged(i, [0.5]) for i in range(STARTUP_TRIALS - 1)]
    assert common_rung(SuccessiveHalving().reached) == 0
    assert common_rung(SuccessiveHalving(low).reached) == 1
    both = [judged(len(low) + i, [0.5, 0.6]) for i in range(STARTUP_TRIALS)]
    assert common_rung(SuccessiveHalving([*low, *both, judged(99, [0.5, 0.6], "duplicate")]).reached) == 3
    assert outcome(both[0], 1) == {"values": (0.5, 1000.0, 1.0)}
    assert outcome(both[0], 3) == {"values": (0.6, 1000.0, 1.0)}
    assert outcome(low[0], 3) is None  # it may still get there
    assert outcome(judged(0, [0.5], "pruned"), 3) == {"state": TrialState.PRUNED}
    assert outcome(judged(0, [], "failed"), 3) == {"state": TrialState.FAIL}
