"""Formatted numbers: units, digits, signs and intervals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_kd.report import number_format as fmt
from nas_kd.report.number_format import EN_DASH, MINUS, NBSP
from nas_kd.results.finalist_record import Accuracy
from nas_kd.results.latency import Latency


def accuracy(mean: float, low: float, high: float) -> Accuracy:
    return Accuracy(mean=mean, low=low, high=high, samples=100)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (23_449, "23.4 kB"),
        (999_600, "1.00 MB"),
        (1_940_000, "1.94 MB"),
        (3e9, "3.00 GB"),
    ],
)
def test_size_has_three_digits_and_decimal_units(size_bytes: float, text: str) -> None:
    assert fmt.size(size_bytes) == text.replace(" ", NBSP)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0.0623, "62.3 µs"),
        (0.9996, "1.00 ms"),
        (0.00099, "0.990 µs"),
        (1.05, "1.05 ms"),
        (999.6, "1.00 s"),
        (2100, "2.10 s"),
    ],
)
def test_latency_has_a_fitting_unit(milliseconds: float, text: str) -> None:
    assert fmt.latency(milliseconds) == text.replace(" ", NBSP)


def test_latency_interval_has_one_unit_unless_it_changes() -> None:
    assert fmt.latency_interval(Latency(p50=0.06, p90=0.07, low=0.0598, high=0.0612)) == f"59.8{EN_DASH}61.2{NBSP}µs"
    across = fmt.latency_interval(Latency(p50=1.0, p90=1.1, low=0.98, high=1.02))
    assert across == f"980{NBSP}µs{EN_DASH}1.02{NBSP}ms"


@pytest.mark.parametrize(
    ("half", "text"), [(0.08, "90 % (82-98)"), (0.01, "90.0 % (89.0-91.0)"), (0.0005, "90.00 % (89.95-90.05)")]
)
def test_interval_decides_the_digits(half: float, text: str) -> None:
    assert fmt.accuracy_with_interval(accuracy(0.9, 0.9 - half, 0.9 + half)) == text.replace(" %", f"{NBSP}%").replace(
        "-", EN_DASH
    )


@pytest.mark.parametrize(
    ("difference", "text"), [(0.006, "+0.6"), (-0.012, f"{MINUS}1.2"), (0.0, "0.0"), (-0.0001, "0.0")]
)
def test_points_are_signed_except_zero(difference: float, text: str) -> None:
    assert fmt.percentage_points(difference) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (42, "42 s"),
        (59.7, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (3599.9, "1 h 00 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert fmt.duration(seconds).replace(NBSP, " ") == text


@given(st.floats(1e-6, 1e12))
def test_significant_digits_have_no_exponent(value: float) -> None:
    text = fmt.significant(value)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.0051)


@given(st.floats(1e-4, 1e6))
def test_stripping_zeros_keeps_the_number(value: float) -> None:
    text = fmt.latency(value)
    assert float(fmt.strip_trailing_zeros(text).split(NBSP)[0].replace(",", "")) == float(
        text.split(NBSP)[0].replace(",", "")
    )


def test_join_with_and_and_count() -> None:
    assert [fmt.join_with_and(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert fmt.count(1, "trial") == "1 trial"
    assert fmt.count(1200, "trial") == "1,200 trials"


def test_names_with_a_capital_inside_stay_as_they_are() -> None:
    assert [fmt.capital(text) for text in ("accuracy", "mean IoU", "mAP50", "R2", "é")] == [
        "Accuracy",
        "Mean IoU",
        "mAP50",
        "R2",
        "É",
    ]
