"""One axis of an upsampling as a drawing needs it: which output row each tap writes, and what becomes of the row."""

import dataclasses
from typing import ClassVar, Literal

from unetseg.geometry import conv_transpose_output_size

__all__ = ["Fate", "Grid", "View"]

Fate = Literal["kept", "added", "cropped", "removed"]
"""What becomes of an output row: returned; returned by output padding above 0; left away by one below 0; removed by
padding."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """A transposed convolution along one axis.

    Letters as in :mod:`unetseg.geometry`.

    Attributes:
        n: Input side.
        size: Wanted side.
        k: Kernel size.
        s: Stride.
        p: Padding.
        d: Dilation.

    Example:
        >>> grid = Grid(n=3, size=7, k=3, s=2, p=1)
        >>> grid.natural_size, grid.output_padding, list(grid.rows)
        (5, 2, [-1, 0, 1, 2, 3, 4, 5, 6])
        >>> [grid.fate(row) for row in (-1, 4, 5)], grid.taps(2), grid.writers(6)
        (['removed', 'kept', 'added'], [3, 4, 5], [])
    """

    n: int
    size: int
    k: int
    s: int
    p: int
    d: int = 1

    @property
    def natural_size(self) -> int:
        """The output side without output padding."""
        return conv_transpose_output_size(self.n, self.k, self.s, self.p, self.d)

    @property
    def output_padding(self) -> int:
        """The signed output padding."""
        return self.size - self.natural_size

    @property
    def rows(self) -> range:
        """All output rows that a tap writes or that are wanted; row 0 is the first that is returned."""
        return range(-self.p, max(self.natural_size + self.p, self.size))

    def taps(self, i: int) -> list[int]:
        """The output rows that input row ``i`` writes, one a tap: ``i*s + t*d - p``."""
        return [i * self.s + tap * self.d - self.p for tap in range(self.k)]

    def writers(self, row: int) -> list[int]:
        """The input rows that an output row is a sum of; none where it holds the bias alone."""
        return [i for i in range(self.n) if row in self.taps(i)]

    def fate(self, row: int) -> Fate:
        """What becomes of an output row."""
        if 0 <= row < self.size:
            return "kept" if row < self.natural_size else "added"
        return "cropped" if 0 <= row < self.natural_size else "removed"


@dataclasses.dataclass(frozen=True)
class View:
    """The part of a grid that is drawn: its start and its end, where the interesting rows are.

    Where an axis is long its middle is left out. Positions are in output rows from the image's first edge, those
    behind the gap moved up to it.

    Attributes:
        grid: The whole.
        first: Input rows shown at the start.
        last: Input rows shown at the end; none where all fit into ``first``.

    Example:
        >>> view = View.of(Grid(n=31, size=63, k=4, s=2, p=1))
        >>> view.inputs, view.rows
        ([0, 1, 27, 28, 29, 30], [-1, 0, 1, 2, 3, 54, 55, 56, 57, 58, 59, 60, 61, 62])
        >>> view.position(3), view.position(54), view.end
        (3.0, 6.0, 15.0)
    """

    grid: Grid
    first: range
    last: range

    GAP: ClassVar[float] = 2.0

    @classmethod
    def of(cls, grid: Grid) -> "View":
        """About six input rows at stride 2, fewer at larger ones."""
        start, end = max(1, 4 // grid.s), max(2, min(4, 12 // grid.s))
        if grid.n <= start + end + 1:
            return cls(grid, range(grid.n), range(0))
        return cls(grid, range(start), range(grid.n - end, grid.n))

    @property
    def inputs(self) -> list[int]:
        """Input rows that are shown."""
        return [*self.first, *self.last]

    @property
    def rows(self) -> list[int]:
        """Output rows that are shown."""
        if not self.last:
            return list(self.grid.rows)
        before, behind = self.first.stop * self.grid.s, self.last.start * self.grid.s
        return [row for row in self.grid.rows if row < before or row >= behind]

    def position(self, row: float) -> float:
        """Where an output row begins; input row ``i`` begins at that of ``i*s``."""
        s = self.grid.s
        hidden = (self.last.start - self.first.stop) * s if self.last and row >= self.last.start * s else 0
        return row - hidden + (self.GAP if hidden else 0.0)

    @property
    def end(self) -> float:
        """Where the last row ends that is drawn: an input's, or an output's."""
        return max(self.position(self.grid.rows[-1]) + 1, self.position(self.grid.n * self.grid.s - 1) + 1)
