"""What the latency benchmark makes of raw results, checked by hand."""

import pytest

from benchmarks.latency_figures import by_file, coverage, figures, spread
from benchmarks.latency_report import claims


def run(p50: float, half: float = 0.1, seconds: float = 1.0) -> dict[str, float | bool]:
    return {
        "p50_ms": p50,
        "raw_p50_ms": 2 * p50,
        "low_ms": p50 - half,
        "high_ms": p50 + half,
        "unstable": False,
        "seconds": seconds,
    }


def test_spread() -> None:
    assert spread([2.0, 2.5, 2.2]) == 0.25


def test_coverage_looks_from_earlier_intervals_at_later_medians() -> None:
    wide, narrow = run(1.0, 0.5), run(1.2, 0.01)
    assert coverage([wide, narrow]) == (1, 1)
    assert coverage([narrow, wide]) == (0, 1)
    assert coverage([wide, narrow, run(1.205)]) == (3, 3)


def test_runs_go_to_their_files_in_order() -> None:
    runs = {"r01.quiet.a": run(2), "r00.quiet.a": run(1), "rank1.000": run(3), "gate": {}, "r00.busy.b": {"error": "x"}}
    assert {f: {s: [r["p50_ms"] for r in rs] for s, rs in scenes.items()} for f, scenes in by_file(runs).items()} == {
        "a": {"quiet": [1, 2]}
    }


def test_figures() -> None:
    runs = {
        "r00.quiet.net-fp32": run(1.0),
        "r01.quiet.net-fp32": run(1.02),
        "r00.plain.net-fp32": {"p50_ms": 1.2, "undisturbed_ms": 1.01},
        "r01.plain.net-fp32": {"p50_ms": 1.7, "undisturbed_ms": 1.6},
        "r00.busy.net-fp32": run(1.111),
        "r00.quiet.net-int8": run(2.02),
        "rank1.000": run(1.0, seconds=1.0),
        "rank1.001": run(2.0, seconds=2.0),
        "rank1.002": run(3.0, seconds=3.0),
        "rank2.000": run(1.1, seconds=4.0),
        "rank2.001": run(3.1, seconds=5.0),
        "rank2.002": run(2.1, seconds=6.0),
        "gate": {"seconds": [1.0, 2.0, 4.0], "total_s": 8.0},
    }
    found = figures(runs)
    assert found["quiet_spread"] == pytest.approx(0.02)
    assert found["against_plain"] == pytest.approx(0)
    assert found["files"]["net-fp32"]["busy_against_quiet"] == pytest.approx(0.1)
    assert found["int8_speed_up"] == {"net": pytest.approx(0.5)}
    assert found["tau"] == pytest.approx(1 / 3)  # one of three pairs the other way
    assert (found["candidate_s"], found["gate_s"], found["gate_candidate_s"]) == (3.5, 8.0, 2.0)
    assert (found["quiet_covered"], found["busy_covered"]) == (1.0, None)
    told = claims(found)
    assert "| Kendall's tau of a ranking on two occasions | >= 0.970 | 0.333 | NO |" in told
    assert "| seconds to gate all fresh candidates | <= 300 | 8 | yes |" in told
    assert "| the same beside a busy process | >= 90.0% |  | not measured |" in told


def test_nothing_yet() -> None:
    assert claims(figures({})).count("not measured") == 8
