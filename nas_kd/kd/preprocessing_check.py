"""Finds out whether a teacher of the user's own is probably shown samples in the wrong units.

Small validation splits show nothing, so training samples fill them up: the wrong units are wrong for those, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor, nn

from nas_kd.config.options import TeacherOptions
from nas_kd.config.teacher_options import IMAGENET
from nas_kd.data.dataset import Dataset, as_input
from nas_kd.export.eval_mode import evaluating
from nas_kd.results.intervals import wilson_interval

N_SAMPLES = 256  # of validation, and of training where that has fewer; spread evenly
BATCH = 64
SCREENING = 4  # every fourth of them is tried first
CLEAR_GAIN = 0.05  # of accuracy: what is less is not worth a warning
MAX_BY_CHANCE = 0.005  # several presets are compared
# What teachers usually expect, as options.
PRESETS = (
    {"preprocessing": "normalized"},
    {"preprocessing": "unit"},
    {"mean": IMAGENET},
    {"preprocessing": "raw"},
    {"mean": (0.0,), "std": (1 / 255,)},  # pixels 0..255, where they are not stored so
    {"mean": (0.5,), "std": (0.5,)},  # -1..1
)
Behind = Callable[[TeacherOptions], nn.Module]


@dataclass(frozen=True)
class CheckedSamples:
    """What preprocessing is compared on.

    Attributes:
        x: samples (N, ...), in stored units.
        y: labels (N,).
        description: how many of which split, for people.
    """

    x: Tensor
    y: Tensor
    description: str

    @staticmethod
    def of(data: Dataset) -> "CheckedSamples":
        """At most 256 samples, evenly spread: of validation, and of training as far as there are too few of these."""
        val, train = evenly_spread(len(data.val)), evenly_spread(len(data.train))
        parts = (data.val.x[val], data.val.y[val]), (data.train.x[train], data.train.y[train])
        return CheckedSamples.filled_up(*parts)

    @staticmethod
    def filled_up(val: tuple[Tensor, Tensor] | None, train: tuple[Tensor, Tensor] | None) -> "CheckedSamples":
        """Join at most 256 samples (x, y) of validation, spread evenly, and training samples where these are fewer.

        Args:
            val: None: there are none.
            train: likewise; one of both is there.
        """
        found, missing = list[tuple[Tensor, Tensor, str]](), N_SAMPLES
        for split, part in (("validation", val), ("training", train)):
            # Networks may take samples of several shapes, which cannot be joined.
            if part is not None and missing and (not found or part[0].shape[1:] == found[0][0].shape[1:]):
                rows = evenly_spread(len(part[1]), missing)
                found.append((as_input(part[0][rows]), part[1][rows], f"{len(rows)} {split}"))
                missing -= len(rows)
        x, y, counts = zip(*found, strict=True)
        return CheckedSamples(torch.cat(x), torch.cat(y), f"{' and '.join(counts)} samples")


def evenly_spread(n: int, most: int = N_SAMPLES) -> Tensor:
    """At most this many positions in 0..n-1, evenly spread, int64."""
    return torch.linspace(0, n - 1, min(most, n)).round().long()


def better_preprocessing(options: TeacherOptions, behind: Behind, samples: CheckedSamples) -> str | None:
    """Compare a teacher's accuracy on some samples with that under other preprocessing.

    Args:
        options: of the teacher.
        behind: makes the teacher behind other preprocessing; it may raise, as may the network on its samples.
        samples: as the teacher is shown them, before any preprocessing.

    Returns:
        A sentence that says which options fit better, with both accuracies; None if none is clearly better.
    """
    x, y = samples.x, samples.y
    given = _hits(behind, options, x, y)
    if given is None or float(given.mean()) > 1 - CLEAR_GAIN:
        return None
    found = [
        (float(hits.mean()), text)
        for text, hits in _presets(options, behind, x, y, given)
        if _is_better(hits, given) and _knows_classes(hits, y)
    ]
    if not found:
        return None
    best, text = max(found, key=lambda one: one[0])
    return (
        f"the preprocessing is probably wrong: accuracy {float(given.mean()):.1%} on {samples.description} as it is, "
        f"{best:.1%} with {text}"
    )


def _presets(
    options: TeacherOptions, behind: Behind, x: Tensor, y: Tensor, given: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Hits under each preset that is promising on a quarter of the samples, as large teachers take long."""
    plain, first = {"preprocessing": "raw", "mean": None, "std": None}, slice(None, None, SCREENING)
    for preset in PRESETS:
        other = options.model_copy(update=plain | preset)
        screened = _hits(behind, other, x[first], y[first])
        if screened is None or float((screened - given[first]).mean()) < CLEAR_GAIN / 2:
            continue
        hits = _hits(behind, other, x, y)
        if hits is not None:
            yield " and ".join(f"teacher.{name} = {_toml(value)}" for name, value in preset.items()), hits


def _hits(behind: Behind, options: TeacherOptions, x: Tensor, y: Tensor) -> Tensor | None:
    """1 for each sample that is classified correctly, 0 for others; None if the teacher cannot be run so."""
    try:
        model = behind(options)
        with evaluating(model):
            logits = torch.cat([model(part) for part in torch.split(x, BATCH)])
    except Exception:  # a user's network may raise anything on samples that it was not made for
        return None
    return (logits.argmax(dim=1) == y).double()


def _is_better(hits: Tensor, given: Tensor) -> bool:
    """Whether a gain is large and beyond chance: exact one-sided McNemar test of the samples that differ."""
    won, lost = int((hits > given).sum()), int((hits < given).sum())
    by_chance = sum(comb(won + lost, k) for k in range(won, won + lost + 1)) / 2 ** (won + lost)
    return (won - lost) / len(hits) >= CLEAR_GAIN and by_chance <= MAX_BY_CHANCE


def _knows_classes(hits: Tensor, y: Tensor) -> bool:
    """Whether the accuracy is shown to be above that of naming the most common class."""
    return wilson_interval(float(hits.mean()), len(y))[0] > float(torch.bincount(y).max()) / len(y)


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:.8g}"
    return f'"{value}"'
