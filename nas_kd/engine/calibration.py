"""Makes a method's strength mean the same on every pair of networks: its gradient is weighed against cross-entropy's.

The published weights belong to the published reductions and networks; on others the same weight may drown the labels or
do nothing. Here the sum of a method's terms is scaled so that, on the first batches and at strength 1, its gradient on
the student's weights is `balance` times as long as that of cross-entropy.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas_kd.methods.base import Batch, Method, Outputs

BATCHES = 4
LARGEST = 1e4  # of the factor, either way: a term without any gradient is not blown up


def calibrate(
    student: nn.Module, method: Method, show: Callable[[int], tuple[Outputs, Sequence[Outputs], Batch]]
) -> None:
    """Set `scale` of all parts of `method`; weights and statistics of the student are left as they were.

    `show(i)`: the i-th batch, as student and teachers see it.
    """
    parts = [p for p in method.parts() if p.balance is not None]
    if not parts or method.ce_weight == 0:
        return
    before = {id(m): {k: v.clone() for k, v in m.state_dict().items()} for m in (student, method)}
    weights = [p for p in student.parameters() if p.requires_grad]
    lengths = torch.zeros(len(parts) + 1)
    for i in range(BATCHES):
        outputs, taught, batch = show(i)
        losses = [F.cross_entropy(outputs.logits, batch.y)]
        for part in parts:
            terms = part(outputs, taught, batch._replace(progress=1.0))  # past all warm-ups
            losses.append(sum((t for name, t in terms.items() if name not in part.own_terms), torch.zeros(())))
        lengths += torch.stack([_length(loss, weights) for loss in losses])
    for module in (student, method):
        module.load_state_dict(before[id(module)])
    for part, length in zip(parts, lengths[1:], strict=True):
        if length > 0 and torch.isfinite(length) and part.balance is not None:
            part.scale.fill_(float((part.balance * lengths[0] / length).clamp(1 / LARGEST, LARGEST)))


def _length(loss: Tensor, weights: list[nn.Parameter]) -> Tensor:
    if not loss.requires_grad:
        return torch.zeros(())
    gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return torch.linalg.vector_norm(torch.stack([g.float().norm() for g in gradients if g is not None]))
