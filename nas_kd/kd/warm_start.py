"""Finds trained weights that a student may start from: those of networks that it is a part of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from torch import Tensor, nn

from nas_kd.engine.teacher_outputs import Teacher
from nas_kd.models.subnetwork import is_subnetwork
from nas_kd.store.store import Store


@dataclass(frozen=True)
class WeightSource:
    """A trained, larger network; `key`: of its weights, by name in `weights`."""

    key: str
    weights: Mapping[str, Tensor]


def find_weight_source(
    student: nn.Module, stored: Sequence[str], teachers: Sequence[Teacher], store: Store
) -> WeightSource | None:
    """Find the first network that `student` is a part of; None if there is none.

    Args:
        student: only names and shapes of its weights matter.
        stored: keys of weights in the store, which are tried first.
        teachers: in the order of the chain; the nearest, which is the last, is tried first.
        store: has the stored weights.
    """
    candidates = chain(_stored(stored, store), (WeightSource(t.key, t.model.state_dict()) for t in reversed(teachers)))
    return next((c for c in candidates if is_subnetwork(c.weights, student)), None)


def _stored(keys: Sequence[str], store: Store) -> Iterator[WeightSource]:
    for key in keys:
        if (entry := store.load("weights", key)) is not None:
            yield WeightSource(key, entry.tensors)
