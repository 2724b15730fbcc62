"""Warnings that are ignored while any thread is at work that they don't concern."""

import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ignored_warnings"]


@contextmanager
def ignored_warnings(category: type[Warning]) -> Iterator[None]:
    """Ignore the warnings of a class, in all threads, while any thread is inside.

    Python's filters are those of all threads, and ``warnings.catch_warnings`` brings back the ones it found, whoever
    has changed them since: of two threads, the one that leaves first would end the other's. Here what was there before
    the first thread comes back when the last leaves.

    Args:
        category: class of the warnings, of the filter "ignore".

    Example:
        >>> with ignored_warnings(DeprecationWarning):
        ...     warnings.warn("nobody hears this", DeprecationWarning)
    """
    _FILTERS.add(category)
    try:
        yield
    finally:
        _FILTERS.remove(category)


class _SharedFilters:
    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._inside: Counter[type[Warning]] = Counter()

    def add(self, category: type[Warning]) -> None:
        with self._turn:
            if not self._inside:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
            if not self._inside[category]:
                warnings.simplefilter("ignore", category)
            self._inside[category] += 1

    def remove(self, category: type[Warning]) -> None:
        with self._turn:
            self._inside[category] -= 1
            if not self._inside[category]:
                del self._inside[category]
            if not self._inside:
                self._before.__exit__(None, None, None)


_FILTERS = _SharedFilters()
