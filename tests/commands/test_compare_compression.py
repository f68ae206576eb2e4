"""How families of compression compare, from what networks decided on the test samples."""

from math import log2

import numpy as np
import pytest

from nas_kd.commands.compare_compression import JudgedNetwork, compare
from nas_kd.results.compression_record import CompressionRecord, FamilyPair
from nas_kd.results.intervals import t_quantile, wilson_interval
from nas_kd.results.latency import Latency
from nas_kd.results.run_record import TeacherRecord
from nas_kd.results.trial_record import Costs
from nas_kd.scores.base import load_score
from nas_kd.scores.class_score import Decisions
from tests import records

N, CLASSES = 1000, 10
LABELS = np.arange(N) % CLASSES


def decided(wrong: int, first: int = 0) -> Decisions:
    """Decisions with this many errors, from a sample on."""
    predictions = LABELS.copy()
    predictions[first : first + wrong] = (LABELS[first : first + wrong] + 1) % CLASSES
    return Decisions(LABELS, predictions, CLASSES)


def network(
    name: str, family: str, wrong: list[int], size: int = 100_000, latency_ms: float = 0.1, **other: object
) -> JudgedNetwork:
    by_seed = {seed: decided(errors) for seed, errors in enumerate(wrong, start=1)}
    fields = {"val_score": 0.9, "costs": records.costs(size, latency_ms), "within_budget": True, **other}
    return JudgedNetwork(id=name, techniques=(family,), decisions=by_seed, **fields)  # type: ignore[arg-type]


def compared(*networks: JudgedNetwork, teacher: TeacherRecord | None = None, wrong: int = 100) -> CompressionRecord:
    return compare(networks, teacher or records.teacher(), decided(wrong), load_score("accuracy"), 0.1)


def only_pair(found: CompressionRecord) -> FamilyPair:
    (pair,) = found.pairs
    return pair


def test_networks_are_scored_against_the_teacher() -> None:
    found = compared(network("a", "pruning", [100]), network("b", "pruning", [500, 500], 250_000, 1.0))
    (a, b) = found.networks
    assert (a.retention.value, a.score.value) == pytest.approx((1.0, log2(10)))
    assert (b.retention.value, b.score.value) == pytest.approx((0.5, 0.5))
    for one in found.networks:
        assert one.score.low < one.score.value < one.score.high
    assert found.families[0].hypervolume.value == pytest.approx(1.0)
    assert found.costs == ("size", "latency")
    assert compared(network("a", "pruning", [100])) == compared(network("a", "pruning", [100]))  # seeded draws


def test_errors_on_the_same_samples_cancel() -> None:
    """Fifteen errors more than the same hundred are a difference, which intervals of independent samples would hide."""
    found = compared(network("a", "pruning", [100]), network("b", "low rank", [115], 100_000, 0.1))
    pair = only_pair(found)
    assert (pair.first, pair.second, pair.members) == ("pruning", "low rank", 1)
    assert pair.score.value == pytest.approx(log2(10) * 0.015 / 0.8)
    assert pair.score.certain
    assert pair.hypervolume.certain
    assert wilson_interval(0.9, N)[0] < wilson_interval(0.885, N)[1]


def test_equal_networks_are_a_tie_and_do_not_claim_to_be_exactly_equal() -> None:
    latency = Latency(p50=0.1, p90=0.1, low=0.1, high=0.1)
    costs = Costs(parameters=1, macs=1, size_bytes=100_000, latency_ms=latency)
    found = compared(network("a", "pruning", [100], costs=costs), network("b", "low rank", [100], costs=costs))
    assert only_pair(found).score.value == 0
    assert not only_pair(found).score.certain
    assert found.networks[0].retention.low < 1 < found.networks[0].retention.high


def test_few_seeds_that_scatter_leave_an_order_open() -> None:
    """Half the width is Student's t over seeds; a network that was made once has none of it."""
    scattered, once = network("a", "distillation", [50, 150]), network("b", "quantization", [140])
    found = compared(scattered, once)
    assert only_pair(found).score.value > 0
    assert not only_pair(found).score.certain
    spread = t_quantile(1) * 0.0707 / 2**0.5 / 0.8
    kept = found.networks[0].retention
    assert kept.high - kept.value == pytest.approx(spread, rel=0.3)
    assert found.networks[1].retention.high - found.networks[1].retention.value < spread / 10


def test_the_same_seeds_are_paired() -> None:
    """Both scatter alike over seeds, so their difference does not."""
    found = compared(network("a", "distillation", [50, 150]), network("b", "training from scratch", [90, 190]))
    assert only_pair(found).score.certain


def test_families_are_compared_at_equal_numbers() -> None:
    many = [network(f"a{n}", "pruning", [100 + 60 * n], 200_000 >> n, 0.2 / 2**n) for n in range(4)]
    found = compared(*many, network("b", "low rank", [100], 190_000, 0.19))
    assert [f.name for f in found.families] == ["pruning", "low rank"]
    pair = only_pair(found)
    assert pair.members == 1
    assert 0 < pair.hypervolume.value < found.families[0].hypervolume.value - found.families[1].hypervolume.value
    assert pair.hypervolume.holds_for_fewer


def test_the_best_of_a_family_is_chosen_on_validation_within_the_budget() -> None:
    found = compared(
        network("large", "pruning", [10], within_budget=False, val_score=0.99),
        network("good", "pruning", [300], val_score=0.8),
        network("lucky on test", "pruning", [20], val_score=0.7),
        network("too large", "low rank", [20], within_budget=False),
    )
    assert {f.name: (f.best, f.best_within_budget) for f in found.families} == {
        "pruning": ("good", True),
        "low rank": ("too large", False),
    }


def test_a_teacher_of_unknown_latency_leaves_the_size() -> None:
    unmeasured = records.teacher(latency_ms=None)
    costs = records.costs(250_000, None)
    found = compared(network("a", "pruning", [100], costs=costs), teacher=unmeasured)
    assert (found.costs, found.teacher_latency_ms) == (("size",), None)
    assert found.networks[0].score.value == pytest.approx(2.0)


def test_a_network_without_latency_is_left_out_beside_a_measured_teacher() -> None:
    unmeasured = network("a", "pruning", [100], costs=records.costs(250_000, None))
    assert [n.id for n in compared(unmeasured, network("b", "pruning", [100])).networks] == ["b"]
    assert compared(unmeasured).families == ()


@pytest.mark.parametrize("case", ["no score", "no size", "guessing"])
def test_where_no_score_is_defined_the_record_says_why(case: str) -> None:
    one, score = network("a", "pruning", [100]), load_score("accuracy")
    sizeless = records.teacher().model_copy(update={"costs": Costs(parameters=0, macs=0)})
    found = {
        "no score": lambda: compare([one], records.teacher(), None, score, 0.1),
        "no size": lambda: compared(one, teacher=sizeless),
        "guessing": lambda: compared(one, wrong=900),
    }[case]()
    wanted = {"no score": "no score on the test", "no size": "size is unknown", "guessing": "no better than guessing"}
    assert wanted[case] in found.undefined
    assert found.networks == ()
