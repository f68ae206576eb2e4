"""Temperature scaling: closed forms, and when no temperature is fitted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nas_kd.results.calibration import (
    MIN_SAMPLES,
    CalibrationRecord,
    calibrate,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    probabilities,
)


def two_classes(gap: float, right: int, wrong: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits (gap, 0) for every sample, of which `right` are of class 0."""
    logits = np.tile(np.array([gap, 0.0], np.float32), (right + wrong, 1))
    return logits, np.array([0] * right + [1] * wrong)


def test_probabilities_by_hand() -> None:
    assert probabilities(np.array([[np.log(3.0), 0.0]]))[0] == pytest.approx([0.75, 0.25])
    assert probabilities(np.array([[2 * np.log(3.0), 0.0]]), 2.0)[0] == pytest.approx([0.75, 0.25])
    assert probabilities(np.array([[1000.0, 0.0]]))[0].tolist() == [1.0, 0.0]


def test_the_temperature_makes_confidence_the_share_that_is_right() -> None:
    """With logits (g, 0) and a share s of class 0 the optimum is sigmoid(g / T) = s, so T = g / log(s / (1 - s))."""
    logits, labels = two_classes(4.0, right=75, wrong=25)
    assert fit_temperature(logits, labels) == pytest.approx(4.0 / np.log(3.0), rel=1e-6)
    record = calibrate({"val": logits, "test": logits[:50]}, {"val": labels, "test": labels[:50]})
    assert (record.fitted, record.samples, record.note) == (True, 100, None)
    confidence = 1 / (1 + np.exp(-4.0))
    assert record.ece["val"].before == pytest.approx(confidence - 0.75)
    assert record.temperature == 3.641
    assert record.ece["val"].after == pytest.approx(0, abs=1e-5)
    assert record.ece["test"].after == pytest.approx(0.25, abs=1e-5)  # all of its 50 samples are right
    assert record.nll["val"].after == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert record.nll["val"].after < record.nll["val"].before


def test_calibration_error_by_hand() -> None:
    """Two bins: four samples at 0.75 of which half are right, one at 1.0 that is wrong."""
    sure = np.array([[np.log(3.0), 0.0]] * 4 + [[50.0, 0.0]])
    labels = np.array([0, 0, 1, 1, 1])
    assert expected_calibration_error(sure, labels) == pytest.approx(4 / 5 * 0.25 + 1 / 5 * 1.0)
    assert expected_calibration_error(sure[:1], np.array([0])) == pytest.approx(0.25)


def test_a_network_that_is_never_wrong_leaves_the_temperature_open() -> None:
    logits, labels = two_classes(4.0, right=100, wrong=0)
    record = calibrate({"val": logits}, {"val": labels})
    assert (record.temperature, record.fitted) == (1.0, False)
    assert "leave the temperature open" in (record.note or "")
    assert record.ece["val"].before == record.ece["val"].after
    logits, labels = two_classes(4.0, right=10, wrong=90)  # worse than chance: no temperature mends it
    assert fit_temperature(logits, labels) is None


def test_few_samples_keep_temperature_one() -> None:
    logits, labels = two_classes(4.0, right=MIN_SAMPLES - 10, wrong=9)
    record = calibrate({"val": logits}, {"val": labels})
    assert (record.temperature, record.fitted, record.samples) == (1.0, False, 49)
    assert record.note == "49 validation samples are too few to fit a temperature (at least 50); kept at 1"


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.3, 4.0))
def test_no_other_temperature_is_more_likely(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(80, 4)) * 2 * scale
    labels = np.array([rng.choice(4, p=p) for p in probabilities(logits, scale)])
    found = fit_temperature(logits, labels)
    if found is not None:
        best = negative_log_likelihood(logits, labels, found)
        grid = np.geomspace(0.05, 20, 400)
        assert best <= min(negative_log_likelihood(logits, labels, t) for t in grid) + 1e-9


def test_the_record_is_read_back() -> None:
    logits, labels = two_classes(4.0, right=75, wrong=25)
    record = calibrate({"val": logits}, {"val": labels})
    assert CalibrationRecord.model_validate(record.model_dump(mode="json")) == record
