"""Pareto dominance and exact hypervolume; every coordinate is minimised. Needs NumPy only."""

from bisect import bisect_left
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]


def non_dominated(points: ArrayLike) -> NDArray[np.bool_]:
    """Find the points that no other point dominates; all copies of such a point count.

    Args:
        points: (n, d).

    Returns:
        (n,) bool: which points are on the front.

    Raises:
        ValueError: `points` is not a table of finite numbers.
    """
    table = _as_points(points)
    unique, inverse = np.unique(table, axis=0, return_inverse=True)
    return _non_dominated_sorted(unique)[inverse.reshape(-1)]


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Compute the exact area (d = 2) or volume (d = 3) that points dominate below a reference.

    In 3-D, points are taken by rising third coordinate. Each extends the staircase of the first two coordinates, whose
    area times the distance to the next point is the next slab of the volume (Fonseca et al. 2006). O(n log n), apart
    from shifting short lists.

    Args:
        points: (n, d); those not below the reference in every coordinate contribute nothing.
        reference: (d,), the corner that bounds what is dominated.

    Raises:
        ValueError: not a table of finite numbers, or neither two nor three coordinates.
    """
    corner = _checked_reference(reference)
    table = _as_points(points, corner.size)
    below = table[(table < corner).all(axis=1)]
    if not len(below):
        return 0.0
    if corner.size == 2:
        return _area(below, corner)
    return _volume(below, corner)


def contribution(point: ArrayLike, points: ArrayLike, reference: ArrayLike) -> float:
    """Compute what one point adds to the hypervolume of others.

    It is the box between the point and the reference, less the part that the others dominate: their hypervolume after
    each is moved into the box.

    Args:
        point: (d,), d = 2 or 3.
        points: (n, d), the others.
        reference: (d,), the corner that bounds what is dominated.

    Raises:
        ValueError: not a table of finite numbers, or neither two nor three coordinates.
    """
    corner = _checked_reference(reference)
    own = _as_points(np.asarray(point)[np.newaxis], corner.size)[0]
    others = _as_points(points, corner.size)
    if not (own < corner).all():
        return 0.0
    moved = np.maximum(others, own)
    moved = moved[(moved < corner).all(axis=1)]
    taken = hypervolume(_drop_dominated(moved, (corner - moved).prod(axis=1)), corner)
    return max(0.0, float(np.prod(corner - own)) - taken)


def _drop_dominated(table: Points, boxes: Points, n_largest: int = 4) -> Points:
    """Drop the rows of `table` (n, d) that its few largest boxes (n,) dominate: most of them, faster than a sort."""
    if len(table) <= 8 * n_largest:
        return table
    largest = table[np.argpartition(-boxes, n_largest)[:n_largest]]
    for row in largest:
        table = table[(table < row).any(axis=1)]
    return np.concatenate([table, largest])


def _as_points(points: ArrayLike, columns: int | None = None) -> Points:
    """Convert `points` to (n, d) float64; an empty list gets the given number of columns."""
    table = np.asarray(points, dtype=np.float64)
    if table.size == 0 and table.ndim <= 2:
        table = table.reshape(0, columns or (table.shape[1] if table.ndim == 2 else 0))
    if table.ndim != 2 or (columns is not None and table.shape[1] != columns):
        wanted = "(n, d)" if columns is None else f"(n, {columns})"
        raise ValueError(f"points must have the shape {wanted}, got {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("points must be finite: found NaN or infinity")
    return table


def _checked_reference(reference: ArrayLike) -> Points:
    corner = np.asarray(reference, dtype=np.float64)
    if corner.ndim != 1 or corner.size not in (2, 3):
        raise ValueError(f"the reference must have 2 or 3 coordinates, got the shape {corner.shape}")
    if not np.isfinite(corner).all():
        raise ValueError("the reference must be finite: found NaN or infinity")
    return corner


def _non_dominated_sorted(unique: Points) -> NDArray[np.bool_]:
    """Mark the non-dominated rows of `unique`, which are distinct and sorted lexicographically."""
    member = np.zeros(len(unique), dtype=np.bool_)
    if unique.shape[1] == 2:
        # Sorted by the first coordinate, a row is a member if its second is the least so far.
        best = np.minimum.accumulate(unique[:, 1])
        member[:1] = True
        member[1:] = best[1:] < best[:-1]
        return member
    rows = np.arange(len(unique))
    while rows.size:
        # No later row can dominate the first, so it is a member; rows that are nowhere below it are dominated.
        member[rows[0]] = True
        rows = rows[(unique[rows] < unique[rows[0]]).any(axis=1)]
    return member


def _area(below: Points, corner: Points) -> float:
    table = np.unique(below, axis=0)
    front = table[_non_dominated_sorted(table)]
    widths = np.diff(front[:, 0], append=corner[0])
    return float((widths * (corner[1] - front[:, 1])).sum())


def _volume(below: Points, corner: Points) -> float:
    """Sweep along the third coordinate, growing the staircase of the first two and its area with each point."""
    order = np.lexsort((below[:, 1], below[:, 0], below[:, 2]))
    rows = below[order].tolist()
    x_end, y_end, z_end = corner.tolist()
    # Steps by rising x and falling y; the outer two stand for the edges of the box.
    xs, ys = [-np.inf, x_end], [y_end, -np.inf]
    area = volume = 0.0
    for (x, y, z), (_, _, z_next) in pairwise([*rows, [0.0, 0.0, z_end]]):
        area += _add_step(xs, ys, x, y)
        volume += area * (z_next - z)
    return volume


def _add_step(xs: list[float], ys: list[float], x: float, y: float) -> float:
    """Insert (x, y) into the staircase, drop the steps that it covers, and return the area gained."""
    first = bisect_left(xs, x)
    # The step before `first` lies to the left; one with the same x and a lower or equal y covers the point as well.
    if ys[first - 1] <= y or (xs[first] == x and ys[first] <= y):
        return 0.0
    gained, left, height = 0.0, x, ys[first - 1]
    last = first
    while ys[last] >= y:
        gained += (xs[last] - left) * (height - y)
        left, height = xs[last], ys[last]
        last += 1
    gained += (xs[last] - left) * (height - y)
    xs[first:last], ys[first:last] = [x], [y]
    return gained
