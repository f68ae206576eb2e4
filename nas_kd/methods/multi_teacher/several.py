"""What methods with several teachers share."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas_kd.errors import InputError
from nas_kd.methods.base import MethodContext, Outputs


def require_several(name: str, context: MethodContext) -> None:
    """Refuse fewer than two teachers.

    Raises:
        InputError: there are fewer.
    """
    if (n := len(context.teachers)) < 2:
        raise InputError(f"method {name!r} learns from several teachers, and has {n}: give it at least 2")


def mixed_logits(teachers: Sequence[Outputs], temperature: float, log_weights: Tensor) -> Tensor:
    """Logits whose softmax at T is the weighted mean of the teachers' softmax at T.

    `log_weights`: (B, teachers) or (1, teachers), of weights that sum to 1 -> (B, C).
    """
    log_p = torch.stack([F.log_softmax(t.logits / temperature, dim=1) for t in teachers], dim=1)
    return temperature * (log_p + log_weights[:, :, None]).logsumexp(dim=1)
