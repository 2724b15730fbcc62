"""The comparison of a file with its network sees what may go wrong: at one parity, in one row, in one class."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from prediction_jobs import Computed
from torch import Tensor

from unetseg.errors import ImageError
from unetseg.export.verification import Check, check_sizes, compare, least_side
from unetseg.geometry import ceil_div
from unetseg.inference.description import ModelDescription

PARITIES = set(product((0, 1), (0, 1)))
DESCRIPTION = ModelDescription(("a", "b", "c"), "multiclass", 3, None, None, min_size=1, total_stride=8)
TOLERANCE = 1e-4
CASES = 9


def network(image: Tensor) -> Tensor:
    """Three logits that differ from pixel to pixel."""
    return torch.stack([image[:, 0] - 0.5, image[:, 1] - image[:, 2], image[:, 2] - 0.4], dim=1)


def right(batch: np.ndarray) -> np.ndarray:
    return network(torch.from_numpy(batch)).numpy()


def checks(
    compute: Callable[[np.ndarray], np.ndarray], output: str = "logits", mode: str = "multiclass"
) -> list[Check]:
    runtime = Computed(compute, replace(DESCRIPTION, output=output))
    return list(compare(runtime, network, check_sizes(8, 1), mode=mode, tolerance=TOLERANCE))


def agreeing(found: list[Check]) -> list[bool]:
    return [check.agrees(TOLERANCE) for check in found]


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("least", [1, 29, 33, 64])
def test_sizes_have_every_parity_at_every_level(stride: int, least: int) -> None:
    cases = check_sizes(stride, least)
    sizes = [size for _, size in cases]
    assert len(sizes) >= 6
    assert min(min(size) for size in sizes) >= least
    assert {batch for batch, _ in cases} == {1, 2, 3}
    level = 1
    while level < stride:
        for shrink in (lambda side, level=level: side // level, lambda side, level=level: ceil_div(side, level)):
            assert {(shrink(h) % 2, shrink(w) % 2) for h, w in sizes if min(h, w) >= stride} == PARITIES, level
        level *= 2


def test_what_computes_the_same_agrees() -> None:
    found = checks(right)
    assert agreeing(found) == [True] * CASES
    assert [check.size for check in found] == [size for _, size in check_sizes(8, 1)]
    assert max(check.difference for check in found) == 0
    assert all(0.3 < check.scale < 1 for check in found)


def test_logits_that_are_but_rounding_are_no_measure() -> None:
    def fading(image: Tensor) -> Tensor:
        return network(image) if image.shape[-1] > 2 else 1e-7 * network(image)

    runtime = Computed(lambda batch: fading(torch.from_numpy(batch)).numpy() + np.float32(1e-7), DESCRIPTION)
    found = list(compare(runtime, fading, check_sizes(8, 1), mode="multiclass", tolerance=TOLERANCE))
    assert agreeing(found) == [True] * CASES


def test_a_last_column_is_seen() -> None:
    def wrong(batch: np.ndarray) -> np.ndarray:
        logits = right(batch)
        logits[..., -1] += 1e-3
        return logits

    assert agreeing(checks(wrong)) == [False] * CASES


def test_one_parity_is_seen() -> None:
    def shifted(batch: np.ndarray) -> np.ndarray:
        odd = batch.shape[2] % 2 and not batch.shape[3] % 2
        return np.roll(right(batch), 1, axis=3) if odd else right(batch)

    found = checks(shifted)
    wrong = [check.size for check in found if not check.agrees(TOLERANCE)]
    assert wrong
    assert {(height % 2, width % 2) for height, width in wrong} == {(1, 0)}


def test_another_shape_is_seen() -> None:
    found = checks(lambda batch: right(batch)[..., :-1])
    assert agreeing(found) == [False] * CASES
    assert found[0].error == "its output has shape (1, 3, 16, 23), not (1, 3, 16, 24)."


def test_what_is_not_a_number_is_seen() -> None:
    assert agreeing(checks(lambda batch: right(batch) * np.float32("nan"))) == [False] * CASES


def test_a_size_that_cannot_be_computed_is_seen() -> None:
    def small_only(batch: np.ndarray) -> np.ndarray:
        if batch.shape[2] > 20:
            raise ImageError("too large")
        return right(batch)

    found = checks(small_only)
    assert {check.size for check in found if check.error == "too large"} == {
        s for _, s in check_sizes(8, 1) if s[0] > 20
    }
    assert not any(check.agrees(TOLERANCE) for check in found if check.error)


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_classes_may_differ_where_logits_are_close(mode: str) -> None:
    def decided(batch: np.ndarray, push: float) -> np.ndarray:
        logits = right(batch)
        logits[:, 1] += push
        return logits.argmax(1) if mode == "multiclass" else (logits > 0).astype(np.uint8)

    assert agreeing(checks(lambda batch: decided(batch, 1e-5), "classes", mode)) == [True] * CASES
    assert not all(agreeing(checks(lambda batch: decided(batch, 0.1), "classes", mode)))


def test_of_binary_networks_one_logit_counts() -> None:
    def one(image: Tensor) -> Tensor:
        return network(image)[:, :1]

    description = replace(DESCRIPTION, classes=("no", "yes"), mode="binary", output="classes")

    def found(push: float) -> list[Check]:
        runtime = Computed(lambda batch: (one(torch.from_numpy(batch))[:, 0] + push > 0).numpy(), description)
        return list(compare(runtime, one, check_sizes(8, 1), mode="binary", tolerance=TOLERANCE))

    assert agreeing(found(1e-5)) == [True] * CASES
    assert not all(agreeing(found(0.1)))


@pytest.mark.parametrize(("refused_below", "expected"), [(1, 1), (3, 5), (8, 9), (16, 16), (99, 16)])
def test_the_least_side_is_the_runtimes(refused_below: int, expected: int) -> None:
    def picky(batch: np.ndarray) -> np.ndarray:
        if min(batch.shape[2:]) < refused_below:
            raise ImageError("too small")
        return right(batch)

    assert least_side(Computed(picky, DESCRIPTION)) == expected
