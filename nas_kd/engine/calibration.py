"""Calibrates a method: its strength means the same on every pair of networks.

The published weights belong to the published reductions and networks; on others the same weight may drown the labels or
do nothing. Here the sum of a method's terms is scaled so that, on a few batches and at strength 1, the norm of its
gradient on the student's weights is `target_grad_ratio` times that of cross-entropy: the ratio that the published
weights have on the pair they were measured on (`benchmarks/gradient_ratios.py`).

The factor is found twice: for the learning rate's warm-up on the untrained network, and for the rest of the training
when the warm-up is over. Terms on features and relations are many times larger on an untrained network than a few
dozen steps later, so a factor taken there alone leaves them 5 to 20 times weaker than published.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from nas_kd.engine.method_setup import loss_terms
from nas_kd.engine.schedule import Schedule
from nas_kd.methods.base import Batch, Method, Outputs

BATCHES = 4  # that gradients are compared on
LARGEST = 1e4  # factor, either way: a term with hardly any gradient is not blown up
SETTLED = 35  # steps, at least, before the second factor is found, but no more than half of the first cycle

# Outputs of student and teachers on the i-th of `BATCHES` batches, and the batch.
Forward = Callable[[int], tuple[Outputs, Sequence[Outputs], Batch]]


def calibration_steps(schedule: Schedule, steps_per_epoch: int) -> tuple[int, ...]:
    """List the steps of a training before which its method is calibrated: the first, and when the warm-up is over.

    Args:
        schedule: of the training.
        steps_per_epoch: of it.
    """
    cycle = schedule.cycle_of(0)[1] * steps_per_epoch
    settled = max(min(SETTLED, cycle // 2), schedule.warmup_steps(steps_per_epoch))
    return tuple(sorted({0, min(settled, cycle - 1)}))


def calibrate(student: nn.Module, method: Method, forward: Forward) -> dict[str, float]:
    """Set `scale` of all parts of `method`; everything else, torch's generator included, is left as it was.

    So training goes on exactly as if these factors had been given. A method without cross-entropy is not calibrated, as
    there is nothing to compare with.

    Args:
        student: in training mode.
        method: attached to the student.
        forward: see `Forward`.

    Returns:
        The ratio that each calibrated part has now, at its strength, by name; none of a part without a gradient.
    """
    parts = [p for p in method.parts() if p.is_calibrated]
    if not parts or method.ce_weight == 0:
        return {}
    reached = {}
    for part, ratio in zip(parts, gradient_ratios(student, method, parts, forward), strict=True):
        if ratio > 0 and part.target_grad_ratio is not None:
            part.scale.fill_(min(max(part.target_grad_ratio / ratio, 1 / LARGEST), LARGEST))
            reached[part.name] = part.strength * float(part.scale) * ratio
    return reached


def gradient_ratios(student: nn.Module, method: Method, parts: Sequence[Method], forward: Forward) -> list[float]:
    """Measure gradient norms of parts of a method on the student, relative to cross-entropy's; nothing is changed.

    Args:
        student: in training mode.
        method: attached to the student.
        parts: of it.
        forward: see `Forward`.

    Returns:
        For each part, the sum over the batches of its terms' norm at published weights, over the sum of
        cross-entropy's; 0 where there is no gradient or none that is finite.
    """
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
    ratios = lengths[1:] / lengths[0]
    return [float(ratio) if torch.isfinite(ratio) else 0.0 for ratio in ratios]


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
