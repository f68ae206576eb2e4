"""Random outputs in float64 and a context to attach to, for comparisons with values computed in NumPy."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nas_kd.methods.base import Batch, MethodContext, Outputs

Array = NDArray[np.float64]


def softmax(z: Array, temperature: float) -> Array:
    e = np.exp(z / temperature - (z / temperature).max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def kl(p: Array, q: Array) -> float:
    """Sum over classes, mean over the batch."""
    return float((p * np.log(p / q)).sum(axis=1).mean())


def outputs(seed: int, b: int, c: int, maps: Sequence[tuple[int, ...]] = (), embedding: int = 0) -> Outputs:
    rng = np.random.default_rng(seed)
    features = tuple(torch.from_numpy(rng.normal(size=(b, *m))) for m in maps)
    logits = torch.from_numpy(rng.normal(size=(b, c)) * 3)
    return Outputs(logits, features, torch.from_numpy(rng.normal(size=(b, embedding))))


def batch_of(b: int, c: int, progress: float = 0.5) -> Batch:
    return Batch(torch.zeros(b, 1), torch.arange(b) % c, torch.arange(b), progress)


def setting_of(student: Outputs, teachers: Sequence[Outputs], n_samples: int = 64) -> MethodContext:
    """A context for methods that read nothing but shapes."""

    def none(*_: object) -> nn.Module:
        raise AssertionError("this method builds networks: test it on real ones")

    return MethodContext(
        student=nn.Identity(),
        student_outputs=student,
        teachers=tuple(nn.Identity() for _ in teachers),
        teacher_outputs=tuple(teachers),
        rebuild=none,
        observe=none,  # type: ignore[arg-type]
        branch=none,
        branch_stage=0,
        example=torch.zeros(2, 1),
        n_samples=n_samples,
        n_classes=student.logits.shape[1],
        mean=torch.zeros(1),
        std=torch.ones(1),
    )
