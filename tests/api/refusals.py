"""Calls of `distill` that must be refused before anything is trained."""

import re
from typing import Any

import pytest
from torch import nn

from nas_kd.commands.distill_modules import distill
from nas_kd.errors import InputError

from .toys import net, same, samples, state

X, Y = samples()


def assert_refused(message: str, student: Any = None, teacher: Any = None, **options: Any) -> None:
    """The whole message is this regular expression, one line, and neither network has changed."""
    student = net() if student is None else student
    teacher = net(8, seed=1) if teacher is None else teacher if teacher != "none" else None
    before = [state(n) for n in (student, teacher) if has_values(n)]
    with pytest.raises(InputError) as caught:
        distill(student, teacher, **({"train": (X, Y), "epochs": 1, "batch_size": 32} | options))
    assert re.fullmatch(message, str(caught.value)), str(caught.value)
    after = [state(n) for n in (student, teacher) if has_values(n)]
    assert all(same(a, b) for a, b in zip(before, after, strict=True))


def has_values(network: Any) -> bool:
    if not isinstance(network, nn.Module):
        return False
    return not any(p.is_meta or isinstance(p, nn.UninitializedParameter) for p in network.parameters())
