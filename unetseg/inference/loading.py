"""Images in the order of their files, read by threads while others are predicted."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["grouped", "load_ahead"]

ItemT = TypeVar("ItemT")
LoadedT = TypeVar("LoadedT")


def load_ahead(
    load: Callable[[ItemT], LoadedT], items: Iterable[ItemT], *, threads: int, ahead: int
) -> Iterator[LoadedT]:
    """Load items in their order, some of them before they are asked for.

    Args:
        load: What loads one.
        items: Which.
        threads: How many at a time.
        ahead: How many may be loaded, or in loading, and not yet taken.

    Example:
        >>> list(load_ahead(abs, [-1, -2, -3], threads=2, ahead=2))
        [1, 2, 3]
    """
    pending: deque[Future[LoadedT]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="images") as pool:
        try:
            for item in items:
                pending.append(pool.submit(load, item))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # whoever asked may have had enough
            for job in pending:
                job.cancel()


def grouped(items: Iterable[ItemT], key: Callable[[ItemT], object | None], size: int) -> Iterator[list[ItemT]]:
    """Neighbours that have one key together.

    Args:
        items: What comes.
        key: Equal for those that go together; None for one that stays alone.
        size: Most in a group.

    Example:
        >>> list(grouped("aaabba", key=lambda letter: letter, size=2))
        [['a', 'a'], ['a'], ['b', 'b'], ['a']]
    """
    group: list[ItemT] = []
    kind = None
    for item in items:
        this = key(item)
        if group and (len(group) == size or this is None or this != kind):
            yield group
            group = []
        group.append(item)
        kind = this
    if group:
        yield group
