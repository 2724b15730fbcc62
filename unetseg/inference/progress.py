"""Progress bars where the output is a terminal and tqdm is installed."""

import importlib.util
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self

__all__ = ["Bar", "progress_bar"]


class Bar(AbstractContextManager["Bar"], Protocol):
    """What a prediction needs of tqdm."""

    def update(self, n: int = 1) -> object:
        """So many more are done."""


def progress_bar(total: int, name: str, unit: str, *, shown: bool = True, leave: bool = True) -> Bar:
    """A bar of tqdm's, or one that shows nothing.

    Args:
        total: How many there are.
        name: What they are.
        unit: One of them.
        shown: Whether it may show.
        leave: Whether it stays when all are done.

    Example:
        >>> with progress_bar(3, "predict", "image", shown=False) as bar:
        ...     _ = bar.update(3)
    """
    if not shown or importlib.util.find_spec("tqdm") is None:
        return _Silent()
    from tqdm import tqdm

    bar: Any = tqdm(total=total, desc=name, unit=unit, leave=leave, disable=None)
    return bar  # type: ignore[no-any-return]  # tqdm has no types


class _Silent:
    def update(self, n: int = 1) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
