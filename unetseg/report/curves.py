"""Curves of a run: what its metrics.csv holds, as a picture."""

import bisect
import csv
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetseg.atomic import atomic_path
from unetseg.errors import UnetsegError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["NoCurvesError", "draw_curves", "plot_curves", "read_metrics"]

Row = dict[str, float]

_LOSSES = {"train_loss": "#1f6fb4", "val_loss": "#d1495b"}
_IOU, _CLASS_IOU = "val_iou", "val_iou_"
_MAX_CLASSES = 20  # lines that an eye can follow, and a legend has room for
_MANY = 40  # values, whose line needs no dots


class NoCurvesError(UnetsegError):
    """There is nothing to draw."""


def plot_curves(metrics_csv: Path, output: Path, *, earlier: Path | None = None) -> None:
    """Draw the losses, the IoU with its best epoch, and the learning rates of a run.

    Args:
        metrics_csv: What Lightning's CSVLogger wrote.
        output: A PNG file to write, or another that matplotlib knows by its suffix.
        earlier: The metrics.csv of a run that this one goes on from; of it, what came before is drawn.

    Raises:
        NoCurvesError: If the file holds none of them.
        UnetsegError: If it is no metrics.csv, or matplotlib is missing.
    """
    rows = read_metrics(metrics_csv)
    if earlier is not None and rows:
        first = min(row["epoch"] for row in rows)
        rows = [row for row in read_metrics(earlier) if row["epoch"] < first] + rows
    figure = draw_curves(rows)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a class's name may be in any script
        with atomic_path(output) as temporary:
            figure.savefig(temporary, format=output.suffix[1:] or "png")


def read_metrics(metrics_csv: Path) -> list[Row]:
    """Read what was logged, each row with the epoch that it belongs to.

    Lightning counts epochs from 0. Of rows that don't say it, such as those of learning rates, the step tells it.

    Args:
        metrics_csv: What Lightning's CSVLogger wrote.

    Returns:
        The cells of each row that aren't empty.

    Raises:
        UnetsegError: If a cell isn't a number.
    """
    with metrics_csv.open(encoding="utf-8", newline="") as file:
        try:
            rows = [
                {name: float(cell) for name, cell in row.items() if name is not None and cell}
                for row in csv.DictReader(file)
            ]
        except ValueError as error:
            raise UnetsegError(f"{metrics_csv} isn't what CSVLogger writes: {error}.") from error
    ends: dict[float, float] = {}  # the last step of each epoch
    for row in rows:
        if "epoch" in row and "step" in row:
            ends[row["epoch"]] = max(row["step"], ends.get(row["epoch"], 0))
    epochs = sorted(ends)
    steps = [ends[epoch] for epoch in epochs]
    for row in rows:
        if "epoch" not in row and "step" in row:
            place = bisect.bisect_left(steps, row["step"])
            row["epoch"] = epochs[place] if place < len(epochs) else epochs[-1] + 1 if epochs else 0.0
    return [row for row in rows if "epoch" in row]


def draw_curves(rows: Sequence[Row]) -> "Figure":
    """Draw rows of :func:`read_metrics`, one panel below the other, over the epochs that are done.

    Values of one epoch are spread evenly over it, so that the last of epoch 0 lies at 1. Up to 20 classes have lines
    of their own.

    Raises:
        NoCurvesError: If they hold nothing to draw.
        UnetsegError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise UnetsegError("curves need matplotlib, which isn't installed: pip install -e '.[plot]'") from error
    names = dict.fromkeys(name for row in rows for name in row)
    rates = [name for name in names if name == "lr" or name.startswith(("lr-", "lr_", "lr/"))]
    losses = [name for name in _LOSSES if name in names]
    panels = [name for name, there in (("loss", losses), ("IoU", _IOU in names), ("learning rate", rates)) if there]
    if not panels:
        raise NoCurvesError("there are no curves to draw: no train_loss, val_loss, val_iou or learning rate was logged")
    of_classes = [name for name in names if name.startswith(_CLASS_IOU)]
    of_classes = of_classes if len(of_classes) <= _MAX_CLASSES else []
    # the legend of the classes may be higher than a panel
    heights = [max(2.9, 0.2 * (len(of_classes) + 3)) if panel == "IoU" else 2.9 for panel in panels]
    figure = Figure(figsize=(9.5, 0.6 + sum(heights)), dpi=110, layout="constrained")
    grid = {"height_ratios": heights}
    all_axes = figure.subplots(len(panels), sharex=True, squeeze=False, gridspec_kw=grid)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=True):
        if panel == "loss":
            for name in losses:
                _line(axes, rows, name, name, color=_LOSSES[name], linewidth=1.8)
        elif panel == "IoU":
            _draw_iou(axes, rows, of_classes)
        else:
            for i, name in enumerate(rates):
                style = ("-", "--", ":")[i % 3]  # groups often have the same
                _line(axes, rows, name, name, color=f"C{i % 10}", linewidth=1.6, linestyle=style)
            axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        axes.set_ylabel(panel)
        axes.set_ylim(bottom=0 if panel != "loss" or axes.get_ylim()[0] < 0 else None)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    all_axes[-1].set_xlabel("epoch")
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _draw_iou(axes: "Axes", rows: Sequence[Row], of_classes: Sequence[str]) -> None:
    """The mean, thick, with its best epoch; each class, faint."""
    _line(axes, rows, _IOU, "mean", color="black", linewidth=2.2, zorder=3)
    x, y = _series(rows, _IOU)
    finite = [i for i, value in enumerate(y) if math.isfinite(value)]
    if finite:
        best = max(finite, key=lambda i: y[i])  # the first of equals, as the checkpoint
        label = f"best: {y[best]:.4f}, epoch {math.ceil(x[best])}"
        axes.plot([x[best]], [y[best]], "*", color="#d1495b", markersize=13, label=label, zorder=4)
    for i, name in enumerate(of_classes):
        style = "-" if i < 10 else "--"  # matplotlib has ten colours
        label = _plain(name.removeprefix(_CLASS_IOU))
        _line(axes, rows, name, label, color=f"C{i % 10}", linewidth=1.1, alpha=0.6, linestyle=style)


def _line(axes: "Axes", rows: Sequence[Row], name: str, label: str, **style: object) -> None:
    x, y = _series(rows, name)
    if len(x) <= _MANY:  # a single value has no line, and few are seen better
        style |= {"marker": "o", "markersize": 3.5}
    axes.plot(x, y, label=label, **style)  # type: ignore[arg-type]  # its keywords are typed one by one


def _series(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    by_epoch: dict[float, list[float]] = {}
    for row in rows:
        if name in row:
            by_epoch.setdefault(row["epoch"], []).append(row[name])
    x = [epoch + i / len(by_epoch[epoch]) for epoch in sorted(by_epoch) for i in range(1, len(by_epoch[epoch]) + 1)]
    return x, [value for epoch in sorted(by_epoch) for value in by_epoch[epoch]]


def _plain(name: str) -> str:
    """A label as it is written: matplotlib sets formulas between dollars, and hides what begins with a _."""
    shown = name.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
