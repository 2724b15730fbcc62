"""From logits to classes as :mod:`unetseg.decision` has it, on arrays of NumPy: for prediction without torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.config import Mode

__all__ = ["class_probabilities", "decide", "decide_probabilities"]

Logits = NDArray[np.floating[Any]]


def decide(logits: Logits, mode: Mode) -> NDArray[np.uint8]:
    """The classes of every pixel.

    Args:
        logits: (N, num_logits, H, W), floating point.
        mode: See :func:`unetseg.decision.decide`.

    Returns:
        (N, H, W) class indices, or for "multilabel" (N, classes, H, W) of 0 and 1.

    Example:
        >>> logits = np.array([[[[2.0]], [[3.0]]]])
        >>> decide(logits, "multiclass").tolist(), decide(logits, "multilabel").tolist()
        ([[[1]]], [[[[1]], [[1]]]])
    """
    if mode == "multiclass":
        return _first_largest(logits)
    above = (logits > 0).astype(np.uint8)
    return above[:, 0] if mode == "binary" else above


def class_probabilities(logits: Logits, mode: Mode) -> NDArray[np.float32]:
    """The probability of every class at every pixel.

    Args:
        logits: (N, num_logits, H, W), floating point.
        mode: See :func:`unetseg.decision.class_probabilities`.

    Returns:
        (N, classes, H, W) float32 in [0, 1].

    Example:
        >>> class_probabilities(np.zeros((1, 1, 1, 1), np.float32), "binary").flatten().tolist()
        [0.5, 0.5]
    """
    logits = logits.astype(np.float32)
    if mode == "multiclass":
        powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
        powers /= powers.sum(axis=1, keepdims=True)
        return powers
    if mode == "binary":
        logits = np.concatenate([-logits, logits], axis=1)
    with np.errstate(over="ignore"):  # what overflows gives 0, as it should
        probabilities: NDArray[np.float32] = np.reciprocal(1 + np.exp(-logits), dtype=np.float32)
    return probabilities


def decide_probabilities(probabilities: NDArray[np.floating[Any]], mode: Mode) -> NDArray[np.uint8]:
    """The classes of every pixel, from probabilities or means of them.

    Args:
        probabilities: (N, classes, H, W).
        mode: See :func:`unetseg.decision.decide_probabilities`.

    Returns:
        (N, H, W) class indices, or for "multilabel" (N, classes, H, W) of 0 and 1.

    Example:
        >>> decide_probabilities(np.array([0.5, 0.5]).reshape(1, 2, 1, 1), "binary").tolist()
        [[[0]]]
    """
    if mode == "multilabel":
        return (probabilities > 0.5).astype(np.uint8)
    return _first_largest(probabilities)


def _first_largest(maps: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    # class by class, along the rows in memory: argmax over the first of three axes takes many times as long
    largest = maps[:, 0].copy()
    classes = np.zeros(largest.shape, np.uint8)
    for index in range(1, maps.shape[1]):
        above = maps[:, index] > largest
        classes[above] = index
        np.maximum(largest, maps[:, index], out=largest)
    return classes
