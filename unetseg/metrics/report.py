"""Figures under the names that are logged, and as a table that a person can read."""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

__all__ = ["BY_CLASS", "named_scores", "score_table"]

BY_CLASS = {"iou": "iou", "dice": "dice", "boundary_iou": "boundary"}
"""Figures of every class, and the heads of their columns."""

_OVERALL = {"accuracy": "pixel accuracy", "micro_iou": "micro IoU", "image_iou": "IoU per image"}
"""Figures of all classes together, and the names of their lines."""


def named_scores(scores: Mapping[str, Tensor], classes: Sequence[str], prefix: str) -> dict[str, float]:
    """Plain numbers by the names that are logged: ``val_iou``, ``val_iou_road``, ``val_accuracy`` and so on.

    The one without a class is the mean over the classes that occur. What is nan is left out, but for the mean IoU:
    the best checkpoint is chosen by it.

    Args:
        scores: Figures as :class:`SegmentationMetrics` computes them.
        classes: Class names, in order.
        prefix: "val" or "test".

    Example:
        >>> import torch
        >>> named_scores({"iou": torch.tensor([0.5, math.nan])}, ["sky", "road"], "val")
        {'val_iou': 0.5, 'val_iou_sky': 0.5}
    """
    named: dict[str, float] = {}
    for name, value in scores.items():
        if name in BY_CLASS:
            named[f"{prefix}_{name}"] = value.nanmean().item()
            named |= {f"{prefix}_{name}_{c}": one for c, one in zip(classes, value.tolist(), strict=True)}
        else:
            named[f"{prefix}_{name}"] = value.item()
    return {name: value for name, value in named.items() if name == f"{prefix}_iou" or not math.isnan(value)}


def score_table(classes: Sequence[str], values: Mapping[str, float], prefix: str) -> str:
    """A table from :func:`named_scores`: a row a class, their mean, and the figures of all classes together.

    Args:
        classes: Class names, in order.
        values: Logged figures; a missing one shows as a dash, and a column without any is left out.
        prefix: "val" or "test".

    Example:
        >>> print(score_table(["sky", "road"], {"val_iou": 0.5, "val_iou_sky": 0.5, "val_accuracy": 0.75}, "val"))
        class            val_iou
        sky               0.5000
        road                   —
        mean              0.5000
        pixel accuracy    0.7500
        micro IoU              —
        IoU per image          —
    """
    columns = {name: head for name, head in BY_CLASS.items() if name == "iou" or f"{prefix}_{name}" in values}
    heads = [f"{prefix}_iou" if name == "iou" else head for name, head in columns.items()]
    rows = [["class", *heads]]
    rows += [[c, *(_shown(values.get(f"{prefix}_{name}_{c}")) for name in columns)] for c in classes]
    rows.append(["mean", *(_shown(values.get(f"{prefix}_{name}")) for name in columns)])
    rows += [[line, _shown(values.get(f"{prefix}_{name}"))] for name, line in _OVERALL.items()]
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{row[0]:<{width}} {' '.join(f'{cell:>9}' for cell in row[1:])}" for row in rows)


def _shown(value: float | None) -> str:
    return "—" if value is None or math.isnan(value) else f"{float(value):.4f}"
