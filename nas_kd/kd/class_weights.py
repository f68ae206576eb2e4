"""Weights of the classes in the label loss: rare classes can count for more than their samples do."""

import torch
from torch import Tensor

from nas_kd.data.dataset import Dataset
from nas_kd.errors import InputError


def weights_of_classes(given: str | tuple[float, ...], labels: Tensor, classes: tuple[str, ...]) -> list[float] | None:
    """Weights w_c of sum_i w_(y_i) CE_i / sum_i w_(y_i), the mean over a batch of the labels' cross-entropy.

    "balanced" is w_c = N / (C n_c) for C classes with n_c of N training samples: each class then weighs as much as any
    other, and the weights' mean over the samples is 1.

    Args:
        given: "none", "balanced", or a number for each class; only their ratios matter.
        labels: (N,) class numbers of the training samples.
        classes: names, in the order of the class numbers.

    Returns:
        A number for each class, or None where all count alike.

    Raises:
        InputError: there are more or fewer numbers than classes.
    """
    if given == "none":
        return None
    counts: list[int] = torch.bincount(labels, minlength=len(classes)).tolist()
    if given == "balanced":
        # A class without samples never has its weight used.
        return [len(labels) / (len(classes) * n) if n else 1.0 for n in counts]
    weights = [float(weight) for weight in given]
    if len(weights) != len(classes):
        names = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise InputError(
            f"distill.class_weights has {len(weights)} numbers, the data has {len(classes)} classes ({names}): "
            "give one for each, in this order"
        )
    return weights


def class_weights(given: str | tuple[float, ...], data: Dataset) -> list[float] | None:
    """Weights of the classes of a data set, see `weights_of_classes`.

    Args:
        given: `distill.class_weights`.
        data: with the training samples' labels and the classes' names.

    Raises:
        InputError: likewise.
    """
    return weights_of_classes(given, data.train.y, data.classes) if data.task.one_class else None
