"""The terms of the loss from their definitions: Python's numbers, pixel by pixel."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

IGNORED = 255

Array = np.ndarray
Labels = list[tuple[list[float], int, list[float]]]
"""For each value that counts the log-probabilities of what it could be, which it is, and their class weights."""


def reference(
    term: str, logits: Array, mask: Array, mode: str, class_weights: Sequence[float] | None = None, **options: float
) -> float:
    """A term's value from logits (N, channels, H, W) and a mask of the mode."""
    logits = logits.astype(np.float64)
    classes = 2 if mode == "binary" else logits.shape[1]
    weights = [1.0] * classes if class_weights is None else [float(weight) for weight in class_weights]
    if term in ("ce", "bce", "focal"):
        return pixelwise(labels(logits, mask, mode, weights), **options)
    channels = [0] if mode == "binary" else range(classes)
    share = {"dice": dice, "tversky": tversky, "lovasz": lovasz, "boundary": boundary}[term]
    losses = [share(*channel(logits, mask, mode, c), **options) for c in channels]
    counting = [(1.0 if mode == "binary" else weights[c], loss) for c, loss in enumerate(losses) if loss is not None]
    total = sum(weight for weight, _ in counting)
    return sum(weight * loss for weight, loss in counting) / total if total else 0.0


def log_probabilities(scores: Sequence[float]) -> list[float]:
    largest = max(scores)
    total = largest + math.log(sum(math.exp(score - largest) for score in scores))
    return [score - total for score in scores]


def labels(logits: Array, mask: Array, mode: str, weights: list[float]) -> Labels:
    found = []
    for place in itertools.product(*map(range, mask.shape)):
        value = int(mask[place])
        if value == IGNORED:
            continue
        if mode == "multilabel":  # of both answers the weight is the class's
            scores, own = [0.0, float(logits[place])], [weights[place[1]]] * 2
        else:
            image, row, column = place
            scores, own = [float(score) for score in logits[image, :, row, column]], weights
            scores = [0.0, *scores] if mode == "binary" else scores
        found.append((log_probabilities(scores), value, own))
    return found


def pixelwise(values: Labels, label_smoothing: float = 0.0, gamma: float = 0.0) -> float:
    loss, total = 0.0, 0.0
    for logs, value, weights in values:
        if not weights[value]:
            continue
        hard = -((1 - math.exp(logs[value])) ** gamma) * logs[value] * weights[value]
        if len(logs) == 2 and label_smoothing and weights[0] != weights[1]:
            even = -sum(logs) / 2 * weights[value]  # binary: the weight is the pixel's
        else:
            even = -sum(log * weight for log, weight in zip(logs, weights, strict=True)) / len(logs)
        loss += (1 - label_smoothing) * hard + label_smoothing * even
        total += weights[value]
    return loss / total if total else 0.0


def channel(logits: Array, mask: Array, mode: str, c: int) -> tuple[Array, Array]:
    """Probabilities of a class, and whether it is there: 1, 0, or IGNORED; both (N, H, W)."""
    if mode == "multiclass":
        probability = np.exp(np.apply_along_axis(lambda scores: log_probabilities(scores)[c], 1, logits))
        return probability, np.where(mask == IGNORED, IGNORED, mask == c)
    probability = np.vectorize(lambda score: math.exp(log_probabilities([0.0, score])[1]))(logits[:, c])
    return probability, mask if mode == "binary" else mask[:, c]


def pairs(probability: Array, truth: Array) -> list[tuple[float, int]]:
    flat = zip(probability.flatten().tolist(), truth.flatten().tolist(), strict=True)
    return [(p, int(t)) for p, t in flat if t != IGNORED]


def dice(probability: Array, truth: Array) -> float:
    counted = pairs(probability, truth)
    if not any(t for _, t in counted):
        return 0.0
    return 1 - 2 * sum(p * t for p, t in counted) / sum(p + t for p, t in counted)


def tversky(probability: Array, truth: Array, alpha: float = 0.3, beta: float = 0.7, gamma: float = 1.0) -> float:
    counted = pairs(probability, truth)
    if not any(t for _, t in counted):
        return 0.0
    hit = sum(p * t for p, t in counted)
    false_alarm, missed = sum(p * (1 - t) for p, t in counted), sum((1 - p) * t for p, t in counted)
    return max(0.0, 1 - hit / (hit + alpha * false_alarm + beta * missed)) ** gamma


def lovasz(probability: Array, truth: Array) -> float | None:
    """The Lovász extension of the set function "1 - IoU if exactly these pixels are wrong"; None: no true pixel."""
    counted = pairs(probability, truth)
    true = {i for i, (_, t) in enumerate(counted) if t}
    if not true:
        return None

    def lost(wrong: set[int]) -> float:
        predicted = true ^ wrong
        return 1 - len(true & predicted) / len(true | predicted)

    errors = [abs(t - p) for p, t in counted]
    loss, wrong = 0.0, set()
    for i in sorted(range(len(counted)), key=lambda i: -errors[i]):
        loss += errors[i] * (lost(wrong | {i}) - lost(wrong))
        wrong.add(i)
    return loss


def boundary(probability: Array, truth: Array) -> float:
    total = sum(float((p * distances(t)).sum()) for p, t in zip(probability, truth, strict=True))
    return total / max(1, int((truth != IGNORED).sum()))


def distances(truth: Array) -> Array:
    """Signed distances in an image's diagonals, each pixel compared with each of the other kind."""
    signed = np.zeros(truth.shape)
    for here in np.argwhere(truth != IGNORED):
        others = np.argwhere((truth != IGNORED) & (truth != truth[tuple(here)]))
        if len(others):
            nearest = min(math.dist(here, there) for there in others)
            signed[tuple(here)] = (-nearest if truth[tuple(here)] else nearest) / math.hypot(*truth.shape)
    return signed
