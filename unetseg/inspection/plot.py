"""A picture of how an upsampling layer aligns its output's grid to the skip's."""

from pathlib import Path
from typing import TYPE_CHECKING

from unetseg.errors import OptionError, UnetsegError
from unetseg.inspection.grid import Grid, View
from unetseg.inspection.measure import Upsampling

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["check_plot_file", "choose_axis", "plot_upsampling"]

_SUFFIXES = (".png", ".svg", ".pdf")
_INPUT_COLORS = ("#8ab4e8", "#f2b96b", "#9b8fd1", "#79c7bd")  # of neighbours; they come again after four
_ADDED, _CROPPED, _REMOVED, _GRID, _SKIP = "#2e8b3d", "#b3261e", "#8a8a8a", "#1f4e9c", "#e4e9f0"
_INPUT_LANE, _OUTPUT_LANE, _SKIP_LANE, _HEIGHT = 4.3, 1.75, 0.0, 1.0  # lower edges, and the height of a row of cells
_INCHES, _MIN_WIDTH = 0.42, 20  # of a cell; cells that the title needs


def check_plot_file(path: Path) -> None:
    """Refuse, before the work is done, a file that can't be drawn to.

    Raises:
        OptionError: If its suffix or its folder isn't one.
        UnetsegError: If matplotlib is missing.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise OptionError(f"--plot is {path}; give a file that ends in {', '.join(_SUFFIXES)}.")
    if not path.parent.is_dir():
        raise OptionError(f"--plot is {path}; there is no folder {path.parent}.")
    try:
        import matplotlib.figure  # noqa: F401 - whether it can be
    except ImportError as error:
        raise UnetsegError("--plot needs matplotlib, which isn't installed: pip install -e '.[plot]'") from error


def choose_axis(layer: Upsampling) -> int:
    """The axis that shows more: 0 for the height, 1 for the width if only that has an output padding.

    Raises:
        OptionError: If the layer interpolates, which has no taps to draw.
    """
    if not layer.output_padding:
        raise OptionError(
            f"{layer.label} interpolates, so there is no kernel to draw. Choose another --plot_stage, or the "
            f"upsample.method conv_transpose."
        )
    height, width = layer.output_padding
    return 1 if width and not height else 0


def plot_upsampling(layer: Upsampling, path: Path) -> str:
    """Draw one axis of a layer: the rows of its input, what its kernel writes of each, and the grid that is wanted.

    Args:
        layer: The layer at work.
        path: A PNG, SVG or PDF file to write.

    Returns:
        Which axis was drawn, "height" or "width".

    Raises:
        OptionError: If the layer interpolates.
    """
    from matplotlib.figure import Figure

    axis = choose_axis(layer)
    k, s, p, d = layer.axes[axis]
    grid = Grid(layer.source[axis], layer.wanted[axis], k, s, p, d)
    view, name, unit = View.of(grid), ("height", "width")[axis], ("row", "column")[axis]
    start = view.position(view.rows[0])
    left, right = start - 6.5, max(view.end + 1, view.position(grid.size - 1) + 1 + 5.5)
    spare = max(0.0, _MIN_WIDTH - (right - left)) / 2
    left, right = left - spare, right + spare
    figure = Figure(figsize=(_INCHES * (right - left), 4.6), dpi=110)
    axes = figure.add_axes((0.0, 0.17, 1.0, 0.66))
    axes.set(xlim=(left, right), ylim=(-1.0, _INPUT_LANE + _HEIGHT + 0.2))
    axes.axis("off")
    figure.text(
        0.5, 0.965, f"{layer.label}, {name}: {grid.n} to {grid.size} {unit}s", ha="center", va="top", fontsize=13
    )
    figure.text(0.5, 0.895, _sentence(grid, unit), ha="center", va="top", fontsize=10)
    _draw_inputs(axes, view)
    _draw_outputs(axes, view)
    _draw_wanted(axes, view)
    lanes = {
        _INPUT_LANE: f"input: {grid.n} {unit}s",
        _OUTPUT_LANE: f"written by the kernel;\nreturned: {unit}s 0 to {grid.size - 1}",
        _SKIP_LANE: f"wanted (the skip's, or\nthe image's): {grid.size} {unit}s",
    }
    for lane, text in lanes.items():
        axes.text(start - 6.2, lane + _HEIGHT / 2, text, ha="left", va="center", fontsize=10)
    _draw_edges(axes, view, unit)
    _draw_legend(axes, view, unit)
    figure.savefig(path)
    return name


def _sentence(grid: Grid, unit: str) -> str:
    dilation = f", dilation {grid.d}" if grid.d > 1 else ""
    amount = grid.output_padding
    text = f"kernel {grid.k}, stride {grid.s}{dilation} and padding {grid.p} alone give {grid.natural_size} {unit}s, "
    if not amount:
        return f"{text}as wanted: output padding 0"
    return f"{text}{abs(amount)} too {'few' if amount > 0 else 'many'}: output padding {amount:+d}"


def _box(axes: "Axes", x: float, lane: float, width: float, **style: object) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, lane), width, _HEIGHT, **style))  # type: ignore[arg-type]  # its keywords are typed one by one


def _color(i: int) -> str:
    return _INPUT_COLORS[i % len(_INPUT_COLORS)]


def _draw_inputs(axes: "Axes", view: View) -> None:
    s = view.grid.s
    for i in view.inputs:
        x = view.position(i * s)
        _box(axes, x, _INPUT_LANE, s, facecolor=_color(i), edgecolor="black")
        axes.text(x + s / 2, _INPUT_LANE + _HEIGHT / 2, str(i), ha="center", va="center", fontsize=10)
        for row in view.grid.taps(i):
            if row in view.rows:
                ends = ([x + s / 2, view.position(row) + 0.5], [_INPUT_LANE, _OUTPUT_LANE + _HEIGHT])
                axes.plot(*ends, color=_color(i), linewidth=1.6, zorder=0)


def _draw_outputs(axes: "Axes", view: View) -> None:
    grid = view.grid
    for row in view.rows:
        x, fate, writers = view.position(row), grid.fate(row), grid.writers(row)
        returned = fate in ("kept", "added")
        for j, i in enumerate(writers):  # a stripe for each input that the row is a sum of
            stripe = 1 / len(writers)
            _box(axes, x + j * stripe, _OUTPUT_LANE, stripe, facecolor=_color(i), alpha=1 if returned else 0.3)
        if not writers:
            _box(axes, x, _OUTPUT_LANE, 1, facecolor="white")
        border = {"kept": "black", "added": _ADDED, "cropped": _CROPPED, "removed": _REMOVED}[fate]
        hatch = "////" if fate == "removed" else "..." if not writers else None
        width = 2.6 if fate in ("added", "cropped") else 1.0
        _box(
            axes, x, _OUTPUT_LANE, 1, fill=False, edgecolor=border, hatch=hatch, linewidth=width, zorder=3 + (width > 1)
        )
        if fate == "cropped":
            for ys in ((0, 1), (1, 0)):
                axes.plot([x, x + 1], [_OUTPUT_LANE + y for y in ys], color=_CROPPED, linewidth=2, zorder=4)
        elif returned:
            _number(axes, x, _OUTPUT_LANE, row, "none" if writers else "white")


def _number(axes: "Axes", x: float, lane: float, row: int, background: str) -> None:
    size = 9 if row < 100 else 7.5 if row < 1000 else 6
    box = {"facecolor": background, "edgecolor": "none", "pad": 1.5}
    axes.text(x + 0.5, lane + _HEIGHT / 2, str(row), ha="center", va="center", fontsize=size, zorder=5, bbox=box)


def _draw_wanted(axes: "Axes", view: View) -> None:
    for row in view.rows:
        if 0 <= row < view.grid.size:
            x = view.position(row)
            _box(axes, x, _SKIP_LANE, 1, facecolor=_SKIP, edgecolor="black")
            _number(axes, x, _SKIP_LANE, row, _SKIP)


def _draw_edges(axes: "Axes", view: View, unit: str) -> None:
    """Lines at both ends of the wanted grid, and dots where the middle is left out."""
    last = view.grid.size - 1
    for x, text, side in (
        (0.0, f"{unit} 0 on {unit} 0", "right"),
        (view.position(last) + 1, f"{unit} {last} on {unit} {last}", "left"),
    ):
        ends = [_SKIP_LANE - 0.25, _OUTPUT_LANE + _HEIGHT + 0.35]
        axes.plot([x, x], ends, color=_GRID, linestyle="--", linewidth=1.6, zorder=6)
        axes.text(x, _SKIP_LANE - 0.35, text, ha=side, va="top", fontsize=10, color=_GRID)
    if view.last:
        x = view.position(view.last.start * view.grid.s) - View.GAP / 2
        for lane in (_INPUT_LANE, _OUTPUT_LANE, _SKIP_LANE):
            axes.text(x, lane + _HEIGHT / 2, "…", ha="center", va="center", fontsize=14)


def _draw_legend(axes: "Axes", view: View, unit: str) -> None:
    from matplotlib.patches import Patch

    grid = view.grid
    fates = {grid.fate(row) for row in view.rows}
    meanings = {
        "added": ("returned by output padding above 0", {"edgecolor": _ADDED, "linewidth": 2.6}),
        "cropped": ("left away by output padding below 0", {"edgecolor": _CROPPED, "linewidth": 2.6}),
        "removed": ("removed by padding", {"edgecolor": _REMOVED, "hatch": "////"}),
    }
    patches = [
        Patch(facecolor="white", label=text, **style)  # type: ignore[arg-type]  # its keywords are typed one by one
        for fate, (text, style) in meanings.items()
        if fate in fates
    ]
    if any(not grid.writers(row) and 0 <= row < grid.size for row in view.rows):
        patches.append(Patch(facecolor="white", edgecolor="black", hatch="...", label="no input: the bias alone"))
    axes.figure.text(
        0.5,
        0.03,
        f"Lines: the taps of the kernel. Colours: the input {unit}s that an output {unit} is a sum of.",
        ha="center",
        fontsize=9,
    )
    if patches:
        axes.figure.legend(
            handles=patches,
            loc="lower center",
            bbox_to_anchor=(0.5, 0.07),
            ncols=len(patches),
            frameon=False,
            fontsize=9,
        )
