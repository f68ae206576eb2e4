"""The computations behind the sections: scales, front line, gains, importances, trial flow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.report.axes import cost_scale, linear_scale
from nas_kd.report.choice_importance import choice_importances
from nas_kd.report.content import build_content
from nas_kd.report.distillation_gains import gain_verdict, mean_gain
from nas_kd.report.front_plots import indistinguishable_groups
from nas_kd.report.number_format import NBSP
from nas_kd.report.report_context import build_context
from nas_kd.results.finalist_record import Accuracy

from .synthetic import synthetic_run


def gain(mean: float, half: float) -> Accuracy:
    return Accuracy(mean=mean, low=mean - half, high=mean + half, samples=360, seeds=3)


@given(st.lists(st.floats(100, 1e9), max_size=20))
def test_cost_scale_holds_its_values_and_has_ticks_in_order(values: list[float]) -> None:
    scale = cost_scale(values, "size")
    ticks = [tick.value for tick in scale.ticks]
    assert all(scale.low < v < scale.high for v in values)
    assert len(ticks) >= 2
    assert ticks == sorted(ticks)
    assert all(scale.low <= p <= scale.high for p in ticks)


def test_cost_ticks_have_units() -> None:
    assert [t.label for t in cost_scale([20_000, 2e6], "size").ticks if t.level == 0] == [f"100{NBSP}kB", f"1{NBSP}MB"]
    assert f"50{NBSP}µs" in [t.label for t in cost_scale([0.03, 1.2], "latency").ticks]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_accuracy_scale_holds_its_values(values: list[float]) -> None:
    scale = linear_scale(values)
    assert scale.low <= min(values)
    assert scale.high >= max(values)
    assert len({t.label for t in scale.ticks}) == len(scale.ticks)


def test_counts_have_whole_ticks() -> None:
    assert [t.label for t in linear_scale([0, 2], "count", floor=0.0).ticks] == ["0", "1", "2"]


def test_front_line_is_the_running_best_of_the_members() -> None:
    content = build_content(synthetic_run(60))
    for plot in content.front_plots:
        members = sorted(
            (p.cost(plot.axis) or 0.0, p.score or 0.0) for p in content.plot_points if plot.axis in p.fronts
        )
        assert members
        best = np.maximum.accumulate([height for _, height in members])
        assert plot.front_line[0] == members[0]
        assert plot.front_line[-1] == (members[-1][0], best[-1])
        assert {height for _, height in plot.front_line} == set(best)
        assert list(plot.front_line) == sorted(plot.front_line)


def test_neighbours_with_overlapping_intervals_are_indistinguishable() -> None:
    run = synthetic_run(60)
    ranks = {f.id: n for n, f in enumerate(sorted(run.finalists, key=lambda f: f.costs.size_bytes))}

    def groups(half: float) -> tuple[tuple[str, ...], ...]:
        tests = {i: gain(0.90 + 0.01 * n, half) for i, n in ranks.items()}
        same = ("test", "val", "test_score", "val_score")
        changed = tuple(f.model_copy(update=dict.fromkeys(same, tests[f.id])) for f in run.finalists)
        return indistinguishable_groups(build_context(run.model_copy(update={"finalists": changed})), "size")

    assert groups(0.004) == ()
    assert groups(0.006) == (("A", "B"), ("B", "C"), ("C", "D"), ("D", "E"))
    assert groups(0.1) == (("A", "B", "C", "D", "E"),)


def test_mean_gain_is_students_t_over_finalists() -> None:
    mean = mean_gain([gain(0.01, 0.001), gain(0.02, 0.001), gain(0.03, 0.001)])
    assert mean is not None
    # mean 0.02, s = 0.01, t(2) = 4.302653: half width 4.302653 * 0.01 / sqrt(3)
    assert mean.mean == pytest.approx(0.02)
    assert mean.high == pytest.approx(0.02 + 0.0248414, abs=1e-6)


def test_equal_gains_are_not_certain() -> None:
    mean = mean_gain([gain(0.01, 0.02)] * 4)
    assert mean is not None
    assert mean.high - mean.mean == pytest.approx(0.01)  # 0.02 / sqrt(4)
    assert gain_verdict(mean) == "no measurable gain"
    assert mean_gain([gain(0.01, 0.02)]) is None


@pytest.mark.parametrize(
    ("mean", "verdict"), [(0.02, "measurable gain"), (0.0, "no measurable gain"), (-0.02, "measurable loss")]
)
def test_gain_verdict(mean: float, verdict: str) -> None:
    assert gain_verdict(gain(mean, 0.01)) == verdict


def test_importance_is_one_for_the_deciding_choice_and_near_zero_for_noise() -> None:
    rng = np.random.default_rng(0)
    choices = [
        {"width": int(w), "noise": float(n)} for w, n in zip(rng.integers(4, size=400), rng.random(400), strict=True)
    ]
    found = choice_importances(choices, [c["width"] / 10 for c in choices])
    assert list(found) == ["width", "noise"]
    assert found["width"] == pytest.approx(1.0)
    assert found["noise"] < 0.03


def test_importance_subtracts_what_chance_explains() -> None:
    # Two groups of ten, means 0 and 1, within-group sum of squares 20 * 1: eta^2 = 5 / 25, chance 20 / 18.
    values = [n % 2 * 2 - 1 + group for group in (0, 1) for n in range(10)]
    found = choice_importances([{"a": group} for group in (0, 1) for _ in range(10)], values)
    assert found["a"] == pytest.approx((5 - 20 / 18) / 25)


def test_importances_are_empty_for_few_or_equal_accuracies() -> None:
    assert choice_importances([{"a": 1}, {"a": 2}], [0.1, 0.2]) == {}
    assert choice_importances([{"a": n % 2} for n in range(40)], [0.5] * 40) == {}


def test_trial_flow_adds_up() -> None:
    content = build_content(synthetic_run(300))
    steps = content.search_history.trial_flow
    lost = sum(s.count for s in steps if s.is_loss)
    named = {s.name: s.count for s in steps}
    assert named["Proposed"] - lost == named["Finished"]
    assert all(s.start >= 0 and s.start + s.width <= 100 + 1e-9 for s in steps)


def test_closest_candidate_shows_by_how_much_it_misses() -> None:
    content = build_content(synthetic_run(40, state="unreachable"))
    nearest = content.summary.closest[0]
    trial = next(t for t in content.context.run.trials if t.id == nearest.id)
    assert trial.costs is not None
    assert trial.costs.latency_ms is not None
    worst = max(trial.costs.latency_ms.p50 / 0.001, trial.costs.size_bytes / 2000)
    others = [t.costs for t in content.context.run.trials if t.costs is not None and t.costs.latency_ms is not None]
    least = min(max(c.latency_ms.p50 / 0.001, c.size_bytes / 2000) for c in others if c.latency_ms)
    assert worst == least
    assert "the limit" in nearest.excess


def test_letters_are_in_order_of_size() -> None:
    context = build_context(synthetic_run(60))
    assert [context.letters[f.id] for f in context.finalists] == list("ABCDE")
    sizes = [f.costs.size_bytes for f in context.finalists]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(("limit_ms", "shown"), [(0.001, True), (1.0, True), (50.0, False)])
def test_a_limit_far_above_every_cost_does_not_stretch_the_axis(limit_ms: float, shown: bool) -> None:
    run = synthetic_run()
    plot = build_content(run.model_copy(update={"config": {"budget": {"max_latency_ms": limit_ms}}})).front_plots[1]
    assert (plot.x.low < limit_ms < plot.x.high) == shown
    assert plot.limit == limit_ms
