"""Whose weights a student may start from: networks that it is a part of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from torch import Tensor, nn

from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.models.subnetwork import is_subnetwork
from nas_kd.store.store import Store


@dataclass(frozen=True)
class WeightSource:
    """A trained, larger relative. `key`: of its weights."""

    key: str
    weights: Mapping[str, Tensor]


def find_weight_source(
    student: nn.Module, stored: Sequence[str], teachers: Sequence[Teacher], store: Store
) -> WeightSource | None:
    """The first that `student` (its weights are not looked at) is a part of: those in the store by key, then teachers.

    Of the teachers, who are in the order of the chain, the nearest comes first.
    """
    elders = chain(_stored(stored, store), (WeightSource(t.key, t.model.state_dict()) for t in reversed(teachers)))
    return next((e for e in elders if is_subnetwork(e.weights, student)), None)


def _stored(keys: Sequence[str], store: Store) -> Iterator[WeightSource]:
    for key in keys:
        if (entry := store.load("weights", key)) is not None:
            yield WeightSource(key, entry.tensors)
