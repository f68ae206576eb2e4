"""Calibrates a method: its strength means the same on every pair of networks.

The published weights belong to the published reductions and networks; on others the same weight may drown the labels or
do nothing. Here the sum of a method's terms is scaled so that, on the first batches and at strength 1, the norm of its
gradient on the student's weights is `target_grad_ratio` times that of cross-entropy.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from nas_kd.engine.method_setup import loss_terms
from nas_kd.methods.base import Batch, Method, Outputs

BATCHES = 4  # the first of the first epoch
LARGEST = 1e4  # factor, either way: a term with hardly any gradient is not blown up


def calibrate(
    student: nn.Module, method: Method, forward: Callable[[int], tuple[Outputs, Sequence[Outputs], Batch]]
) -> None:
    """Set `scale` of all parts of `method`; everything else, torch's generator included, is left as it was.

    So training goes on exactly as if these factors had been given. A method without cross-entropy is not calibrated, as
    there is nothing to compare with.

    Args:
        student: in training mode.
        method: attached to the student.
        forward: outputs of student and teachers on the i-th batch, and the batch, for i in 0..BATCHES - 1.
    """
    parts = [p for p in method.parts() if p.target_grad_ratio is not None]
    if not parts or method.ce_weight == 0:
        return
    weights = [p for p in student.parameters() if p.requires_grad]
    lengths = torch.zeros(len(parts) + 1)
    with _undone(student, method):
        for i in range(BATCHES):
            outputs, taught, batch = forward(i)
            losses = [batch.label_loss(outputs.logits)]
            for part in parts:
                terms = loss_terms(part, outputs, taught, batch._replace(progress=1.0))  # past all warm-ups
                losses.append(sum((t for name, t in terms.items() if name not in part.unscaled_terms), torch.zeros(())))
            lengths += torch.stack([_length(loss, weights) for loss in losses])
    for part, length in zip(parts, lengths[1:], strict=True):
        if length > 0 and torch.isfinite(length) and part.target_grad_ratio is not None:
            part.scale.fill_(float((part.target_grad_ratio * lengths[0] / length).clamp(1 / LARGEST, LARGEST)))


@contextmanager
def _undone(student: nn.Module, method: Method) -> Iterator[None]:
    """Put weights, statistics, banks, the method's optimisers and torch's generator back at the end."""
    modules, optimizers = (student, method), list(method.optimizers().values())
    states = [{k: v.clone() for k, v in m.state_dict().items()} for m in modules]
    optimizer_states = [deepcopy(o.state_dict()) for o in optimizers]
    with torch.random.fork_rng(devices=[]):
        yield
    for module, state in zip(modules, states, strict=True):
        module.load_state_dict(state)
    for optimizer, own in zip(optimizers, optimizer_states, strict=True):
        optimizer.load_state_dict(own)


def _length(loss: Tensor, weights: list[nn.Parameter]) -> Tensor:
    if not loss.requires_grad:
        return torch.zeros(())
    gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    squares = [g.float().square().sum() for g in gradients if g is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())
