"""What users should know about their splits before they believe a figure: unbalanced classes, and too few samples."""

from collections.abc import Mapping, Sequence

from nas_kd.results.confusion import is_unbalanced, largest_class_share
from nas_kd.results.intervals import wilson_interval

FEW_SAMPLES = 100  # below it, a 95 % interval of accuracy reaches ten points to either side
SPLITS = {"val": ("validation", "what is chosen on it may be chosen by chance"), "test": ("test", "")}


def imbalance_note(counts: Mapping[str, Sequence[int]], classes: Sequence[str]) -> str:
    """State the accuracy of always naming the largest class, and what to set instead; empty for balanced classes.

    Args:
        counts: samples by class of "train" and "val".
        classes: names in the same order.
    """
    train, val = counts.get("train", ()), counts.get("val", ())
    if not is_unbalanced(train) or not sum(val):
        return ""
    largest = classes[train.index(max(train))]
    return (
        f"classes are unbalanced: {largest!r} has {max(train) / sum(train):.1%} of the training samples, and always "
        f"naming it has a validation accuracy of {largest_class_share(train, val):.1%}; data.score = "
        '"balanced_accuracy" lets all classes count alike, and distill.class_weights = "balanced" trains for it'
    )


def small_split_notes(sizes: Mapping[str, int], score: str = "accuracy") -> list[str]:
    """Warn of splits on which networks can hardly be told apart.

    Args:
        sizes: samples of "val" and "test".
        score: the name of the task's own, in sentences.
    """
    notes = []
    for name, (title, consequence) in SPLITS.items():
        samples = sizes.get(name, 0)
        if 0 < samples < FEW_SAMPLES:
            low, high = wilson_interval(0.5, samples)
            only = f"the {title} split has {samples} sample{'s' if samples > 1 else ''} only"
            reach = f"95 % intervals of {score} reach up to {(high - low) * 50:.0f} points to either side"
            notes.append(f"{only}: {reach}" + (f", and {consequence}" if consequence else ""))
    return notes
