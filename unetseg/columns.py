"""Tables of text: columns that line up, as people read them in a terminal."""

from collections.abc import Collection, Sequence

__all__ = ["WIDTH", "align"]

WIDTH = 110
"""Characters that a line of a report has at most."""


def align(rows: Sequence[Sequence[str]], *, left: Collection[int] = ()) -> list[str]:
    """Lines of a table, two spaces between columns.

    Args:
        rows: cells, equally many in each row.
        left: numbers of the columns that are aligned to the left, as words are; numbers go to the right.

    Example:
        >>> align([["class", "images"], ["sky", "7"]], left={0})
        ['class  images', 'sky         7']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
