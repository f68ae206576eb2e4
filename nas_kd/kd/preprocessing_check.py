"""Finds out whether a teacher of the user's own is probably shown samples in the wrong units."""

from collections.abc import Callable, Iterator
from math import comb

import torch
from torch import Tensor, nn

from nas_kd.config.options import TeacherOptions
from nas_kd.config.teacher_options import IMAGENET
from nas_kd.data.dataset import Dataset, as_input
from nas_kd.export.eval_mode import evaluating
from nas_kd.results.intervals import wilson_interval

N_SAMPLES = 256  # of the validation split, spread evenly
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


def better_preprocessing(options: TeacherOptions, behind: Behind, data: Dataset, accuracy: float) -> str | None:
    """Compare a teacher's accuracy on validation samples with that under other preprocessing.

    Args:
        options: of the teacher.
        behind: makes the teacher behind other preprocessing; it may raise, as may the network on its samples.
        data: as the teacher is shown it.
        accuracy: of the teacher on the whole validation split, 0..1.

    Returns:
        A sentence that says which options fit better, with both accuracies; None if none is clearly better.
    """
    if accuracy > 1 - CLEAR_GAIN:
        return None
    rows = evenly_spread(len(data.val))
    return better_options(options, behind, as_input(data.val.x[rows]), data.val.y[rows])


def evenly_spread(n: int) -> Tensor:
    """At most 256 positions in 0..n-1, evenly spread, int64."""
    return torch.linspace(0, n - 1, min(N_SAMPLES, n)).round().long()


def better_options(options: TeacherOptions, behind: Behind, x: Tensor, y: Tensor) -> str | None:
    """The same for given samples x (N, ...), in stored units, and labels y (N,)."""
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
        f"the preprocessing is probably wrong: accuracy {float(given.mean()):.1%} on {len(x)} validation samples as it "
        f"is, {best:.1%} with {text}"
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
