"""Calibrated probabilities: the temperature that a network's logits are divided by. Imports no torch.

Temperature scaling (Guo et al. 2017, arXiv:1706.04599): p = softmax(logits / T), where T minimises the negative log
likelihood (NLL) of the validation labels. The decision, the largest logit, stays the same.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_kd.results.trial_record import Record

Values = NDArray[Any]
ECE_BINS = 15
ECE_DEFINITION = (
    f"sum over {ECE_BINS} bins of equal width of the top-1 probability of (share of samples in the bin) x "
    "|accuracy - mean top-1 probability| (Guo et al. 2017)"
)
MIN_SAMPLES = 50  # of validation: fewer cannot tell one temperature from another
LOWEST, HIGHEST = 0.05, 20.0  # temperatures; a fit that ends there has found no minimum


class BeforeAfter(Record):
    """A figure with the logits as they are (temperature 1), and with the fitted temperature."""

    before: float
    after: float


class CalibrationRecord(Record):
    """The temperature of one exported file, read through ONNX Runtime.

    Attributes:
        temperature: that logits are divided by before the softmax; 1 where none was fitted.
        fitted: whether it was fitted.
        samples: of the validation split, on which it was fitted.
        note: why it was not fitted.
        ece: expected calibration error (0..1, see `ECE_DEFINITION`) by split.
        nll: mean negative log likelihood (nats) by split.
    """

    temperature: float = 1.0
    fitted: bool = False
    samples: int = 0
    note: str | None = None
    ece: Mapping[str, BeforeAfter] = {}
    nll: Mapping[str, BeforeAfter] = {}


def calibrate(logits: Mapping[str, Values], labels: Mapping[str, Values]) -> CalibrationRecord:
    """Fit the temperature on the split "val", and judge it on every split that is given.

    Args:
        logits: (N, C) by split.
        labels: (N,) class numbers by split.
    """
    samples = len(labels["val"])
    fitted = fit_temperature(logits["val"], labels["val"]) if samples >= MIN_SAMPLES else None
    note = None
    if samples < MIN_SAMPLES:
        note = f"{samples} validation samples are too few to fit a temperature (at least {MIN_SAMPLES}); kept at 1"
    elif fitted is None:
        note = "the validation samples leave the temperature open, as when all of them are classified right; kept at 1"
    temperature = 1.0 if fitted is None else float(f"{fitted:.4g}")
    return CalibrationRecord(
        temperature=temperature,
        fitted=fitted is not None,
        samples=samples,
        note=note,
        ece=_judged(expected_calibration_error, logits, labels, temperature),
        nll=_judged(negative_log_likelihood, logits, labels, temperature),
    )


def _judged(
    figure: Any, logits: Mapping[str, Values], labels: Mapping[str, Values], temperature: float
) -> dict[str, BeforeAfter]:
    return {
        split: BeforeAfter(before=figure(z, labels[split]), after=figure(z, labels[split], temperature))
        for split, z in logits.items()
    }


def fit_temperature(logits: Values, labels: Values) -> float | None:
    """Find the temperature that minimises the negative log likelihood.

    The likelihood is convex in 1 / T: its derivative, the mean of E_p[logit] - logit of the label, has one zero, which
    is found by bisection.

    Args:
        logits: (N, C).
        labels: (N,) class numbers.

    Returns:
        The temperature; None where the minimum is at an end of 0.05..20, as for logits that are never wrong.
    """
    low, high = 1 / HIGHEST, 1 / LOWEST
    if _slope(logits, labels, low) >= 0 or _slope(logits, labels, high) <= 0:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        if _slope(logits, labels, middle) < 0:
            low = middle
        else:
            high = middle
    return float(2 / (low + high))


def _slope(logits: Values, labels: Values, inverse: float) -> float:
    """Derivative of the negative log likelihood by 1 / T."""
    expected = (probabilities(logits, 1 / inverse) * logits).sum(axis=1)
    return float(np.mean(expected - logits[np.arange(len(labels)), labels]))


def probabilities(logits: Values, temperature: float = 1.0) -> NDArray[np.float64]:
    """Softmax of logits (N, C) / temperature, in double precision."""
    return np.exp(_log_softmax(logits, temperature))


def _log_softmax(logits: Values, temperature: float) -> NDArray[np.float64]:
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return result


def negative_log_likelihood(logits: Values, labels: Values, temperature: float = 1.0) -> float:
    """Mean negative log likelihood of the labels, in nats.

    Args:
        logits: (N, C).
        labels: (N,) class numbers.
        temperature: that logits are divided by.
    """
    return float(-_log_softmax(logits, temperature)[np.arange(len(labels)), labels].mean())


def expected_calibration_error(logits: Values, labels: Values, temperature: float = 1.0) -> float:
    """Expected calibration error, 0..1, see `ECE_DEFINITION`.

    Args:
        logits: (N, C).
        labels: (N,) class numbers.
        temperature: that logits are divided by.
    """
    confidence = probabilities(logits, temperature).max(axis=1)
    correct = logits.argmax(axis=1) == labels
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))
