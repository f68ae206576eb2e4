"""Work on many items in threads; results come in the order of the items."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ITEMS_AHEAD = 8  # per thread that may be in work before the first result is taken
T = TypeVar("T")
R = TypeVar("R")


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Do the work in the threads of a pool.

    Args:
        pool: of threads.
        work: on one item; what it raises is raised in its place.
        items: are taken as the results are, a few ahead.
    """
    waiting = deque[Future[R]]()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ITEMS_AHEAD * usable_cores():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
