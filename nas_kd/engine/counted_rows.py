"""Rows of decisions that count: methods do not see the others, such as those of void pixels and of padding."""

from collections.abc import Sequence

import torch

from nas_kd.methods.base import Batch, CountedRows, Need, Outputs

OF_ROWS: frozenset[Need] = frozenset({"logits", "labels"})  # what methods read that has a row for each decision


def counted_rows(
    student: Outputs, teachers: Sequence[Outputs], batch: Batch
) -> tuple[Outputs, Sequence[Outputs], Batch]:
    """Leave out the rows that do not count, on both sides alike, and say how much the others do.

    Rows of samples without a label all count. Where no row of a batch does, all are shown with weight 0.

    Args:
        student: with all rows of decisions (P, C).
        teachers: likewise.
        batch: that they were computed from.

    Returns:
        The same, as a method sees them; unchanged where the task's rows all count alike.
    """
    counts = batch.task.row_counts(batch.y, [t.logits for t in teachers])
    if counts is None:
        return student, teachers, batch
    total = len(student.logits)
    counts = torch.cat([counts, counts.new_ones(total - len(counts))])
    rows = counts.nonzero()[:, 0]
    if not len(rows):
        rows = torch.arange(total, device=counts.device)
    weights = counts[rows]
    alike = bool((weights == weights[0]).all()) and bool(weights[0] > 0)
    shown = batch._replace(counts=CountedRows(rows, None if alike else weights, total))
    kept = [o._replace(logits=o.logits[rows]) for o in (student, *teachers)]
    return kept[0], kept[1:], shown
