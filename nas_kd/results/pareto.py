"""Dominance and hypervolume; every coordinate is minimised. Numpy only."""

from bisect import bisect_left
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]


def non_dominated(points: ArrayLike) -> NDArray[np.bool_]:
    """Which of `points` (n, d) no other one dominates: (n,) bool; all copies of such a point are members.

    Raises:
        ValueError: not a table of finite numbers.
    """
    table = _checked(points)
    unique, inverse = np.unique(table, axis=0, return_inverse=True)
    return _members(unique)[inverse.reshape(-1)]


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """The area (d = 2) or volume (d = 3) that `points` (n, d) dominate below `reference` (d,); exact.

    Points that are not below the reference in every coordinate contribute nothing. O(n log n) but for the shifting of
    short lists: in 3-D, points are taken by rising third coordinate, and each extends the staircase of the first two,
    whose area times the way to the next point is the volume's next slab (Fonseca et al. 2006).

    Raises:
        ValueError: not a table of finite numbers, or neither two nor three coordinates.
    """
    corner = _checked_reference(reference)
    table = _checked(points, corner.size)
    below = table[(table < corner).all(axis=1)]
    if not len(below):
        return 0.0
    if corner.size == 2:
        return _area(below, corner)
    return _volume(below, corner)


def contribution(point: ArrayLike, points: ArrayLike, reference: ArrayLike) -> float:
    """What `point` (d,) adds to the hypervolume of `points` (n, d); d is 2 or 3.

    The box between the point and the reference, less what `points` already take of it: the hypervolume of the others,
    each moved into the box.

    Raises:
        ValueError: as `hypervolume`.
    """
    corner = _checked_reference(reference)
    own = _checked(np.asarray(point)[np.newaxis], corner.size)[0]
    others = _checked(points, corner.size)
    if not (own < corner).all():
        return 0.0
    moved = np.maximum(others, own)
    moved = moved[(moved < corner).all(axis=1)]
    taken = hypervolume(_thinned(moved, (corner - moved).prod(axis=1)), corner)
    return max(0.0, float(np.prod(corner - own)) - taken)


def _thinned(table: Points, boxes: Points, strong: int = 4) -> Points:
    """`table` (n, d) without the rows that its few largest boxes (n,) cover: nearly all, and faster than a sort."""
    if len(table) <= 8 * strong:
        return table
    largest = table[np.argpartition(-boxes, strong)[:strong]]
    for row in largest:
        table = table[(table < row).any(axis=1)]
    return np.concatenate([table, largest])


def _checked(points: ArrayLike, columns: int | None = None) -> Points:
    """`points` as (n, d) float64; an empty list has as many columns as asked for."""
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


def _members(unique: Points) -> NDArray[np.bool_]:
    """Non-dominated rows of `unique`, which are distinct and sorted lexicographically."""
    member = np.zeros(len(unique), dtype=np.bool_)
    if unique.shape[1] == 2:
        # Sorted by the first coordinate, a row is a member if its second is the least so far.
        best = np.minimum.accumulate(unique[:, 1])
        member[:1] = True
        member[1:] = best[1:] < best[:-1]
        return member
    rows = np.arange(len(unique))
    while rows.size:
        # No later row can dominate the first: it is a member, and whatever is nowhere below it is not.
        member[rows[0]] = True
        rows = rows[(unique[rows] < unique[rows[0]]).any(axis=1)]
    return member


def _area(below: Points, corner: Points) -> float:
    table = np.unique(below, axis=0)
    front = table[_members(table)]
    widths = np.diff(front[:, 0], append=corner[0])
    return float((widths * (corner[1] - front[:, 1])).sum())


def _volume(below: Points, corner: Points) -> float:
    """Sweep along the third coordinate; the staircase of the first two and its area grow with each point."""
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
    """Put (x, y) into the staircase and drop the steps it covers; the area gained."""
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
