"""The figures of a data set, against matrices counted by hand and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score
from torch import Tensor

from unetseg.config import Mode
from unetseg.errors import MaskSizeError, MaskValueError, OptionError
from unetseg.metrics import SegmentationMetrics

NAN = math.nan
MODES: list[Mode] = ["multiclass", "binary", "multilabel"]


def draw(mode: Mode, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Six images of three classes (in "binary" two), a part of them ignored."""
    rng = torch.Generator().manual_seed(seed)
    shape, values = ((6, 3, 9, 11), 2) if mode == "multilabel" else ((6, 9, 11), 3 if mode == "multiclass" else 2)
    predicted, mask = (torch.randint(0, values, shape, generator=rng, dtype=torch.uint8) for _ in range(2))
    mask[torch.rand(shape, generator=rng) < 0.2] = 255
    return predicted, mask


def classes_of(mode: Mode) -> int:
    return 2 if mode == "binary" else 3


def score(metric: SegmentationMetrics, predicted: object, mask: object) -> dict[str, Tensor]:
    metric.update(torch.as_tensor(predicted), torch.as_tensor(mask))
    return metric.compute()


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name].nan_to_num(-1), other[name].nan_to_num(-1))] == []


def test_all_figures_of_two_images_counted_by_hand() -> None:
    metric = SegmentationMetrics(3)
    metric.update(torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 1, 1, 255]]]))
    scores = score(metric, [[[1, 1]]], [[[1, 1]]])
    # class 0: 1 of 2 pixels; class 1: 3 of 4, the ignored one not among them; class 2 nowhere
    expected = {
        "iou": torch.tensor([1 / 2, 3 / 4, NAN]),
        "dice": torch.tensor([2 / 3, 6 / 7, NAN]),
        "boundary_iou": torch.tensor([1 / 2, 3 / 4, NAN]),  # in images of one row every pixel is at the boundary
        "accuracy": torch.tensor(4 / 5),
        "micro_iou": torch.tensor(4 / 6),
        "image_iou": torch.tensor((1 / 2 + 1) / 2),
    }
    torch.testing.assert_close(scores, expected, equal_nan=True)


def test_all_figures_of_several_classes_a_pixel_counted_by_hand() -> None:
    predicted = [[[[1, 1, 0]], [[0, 0, 0]], [[1, 0, 0]]]]
    mask = [[[[0, 1, 255]], [[0, 0, 255]], [[0, 0, 1]]]]
    scores = score(SegmentationMetrics(3, "multilabel"), predicted, mask)
    expected = {
        "iou": torch.tensor([1 / 2, NAN, 0]),
        "dice": torch.tensor([2 / 3, NAN, 0]),
        "boundary_iou": torch.tensor([1 / 2, NAN, 0]),
        "accuracy": torch.tensor(4 / 7),
        "micro_iou": torch.tensor(1 / 4),
        "image_iou": torch.tensor(1 / 4),
    }
    torch.testing.assert_close(scores, expected, equal_nan=True)


def test_the_mean_over_images_leaves_out_classes_that_do_not_occur_and_images_that_do_not_count() -> None:
    predicted = torch.tensor([[[0, 0]], [[0, 1]], [[2, 2]]])
    mask = torch.tensor([[[0, 0]], [[0, 0]], [[255, 255]]])
    # of the second, class 0 has 1 of 2 and class 1 has 0 of 1
    assert score(SegmentationMetrics(3), predicted, mask)["image_iou"] == (1 + (1 / 2 + 0) / 2) / 2


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    scores = score(SegmentationMetrics(3), [[[0, 2]]], [[[0, 0]]])
    for name in ("iou", "boundary_iou"):
        torch.testing.assert_close(scores[name], torch.tensor([0.5, NAN, 0.0]), equal_nan=True)


@pytest.mark.parametrize("mode", ["multiclass", "binary"])
def test_scikit_learn_says_the_same_of_one_class_a_pixel(mode: Mode) -> None:
    predicted, mask = draw(mode)
    scores = score(SegmentationMetrics(classes_of(mode), mode), predicted, mask)
    pixels = mask[mask != 255].numpy(), predicted[mask != 255].numpy()
    np.testing.assert_allclose(scores["iou"], jaccard_score(*pixels, average=None), rtol=1e-6)
    np.testing.assert_allclose(scores["dice"], f1_score(*pixels, average=None), rtol=1e-6)
    np.testing.assert_allclose(scores["accuracy"], accuracy_score(*pixels), rtol=1e-6)
    np.testing.assert_allclose(scores["micro_iou"], jaccard_score(*pixels, average="micro"), rtol=1e-6)
    images = [jaccard_score(m[m != 255], p[m != 255], average="macro") for p, m in zip(predicted, mask, strict=True)]
    np.testing.assert_allclose(scores["image_iou"], np.mean(images), rtol=1e-6)


def test_scikit_learn_says_the_same_of_several_classes_a_pixel() -> None:
    predicted, mask = draw("multilabel")
    scores = score(SegmentationMetrics(3, "multilabel"), predicted, mask)
    for c in range(3):
        pixels = mask[:, c][mask[:, c] != 255], predicted[:, c][mask[:, c] != 255]
        np.testing.assert_allclose(scores["iou"][c], jaccard_score(*pixels), rtol=1e-6)
        np.testing.assert_allclose(scores["dice"][c], f1_score(*pixels), rtol=1e-6)
    pixels = mask[mask != 255], predicted[mask != 255]
    np.testing.assert_allclose(scores["accuracy"], accuracy_score(*pixels), rtol=1e-6)
    np.testing.assert_allclose(scores["micro_iou"], jaccard_score(*pixels), rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_neither_batches_nor_their_order_change_anything(mode: Mode) -> None:
    predicted, mask = draw(mode)
    whole, parts = (SegmentationMetrics(classes_of(mode), mode) for _ in range(2))
    whole.update(predicted, mask)
    for i in (4, 1, 3, 0, 5, 2):
        parts.update(predicted[i : i + 1], mask[i : i + 1])
    assert_same(whole.compute(), parts.compute())


@pytest.mark.parametrize("mode", MODES)
def test_maps_that_are_counted_one_at_a_time_change_nothing(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    predicted, mask = draw(mode)
    together = score(SegmentationMetrics(classes_of(mode), mode), predicted, mask)
    monkeypatch.setattr("unetseg.metrics.segmentation._CACHED", 1)
    assert_same(together, score(SegmentationMetrics(classes_of(mode), mode), predicted, mask))


@pytest.mark.parametrize("mode", MODES)
def test_processes_that_add_their_states_say_what_one_says(mode: Mode) -> None:
    predicted, mask = draw(mode)
    alone, *processes = (SegmentationMetrics(classes_of(mode), mode) for _ in range(3))
    alone.update(predicted, mask)
    processes[0].update(predicted[:2], mask[:2])
    processes[1].update(predicted[2:], mask[2:])
    assert {reduction.__name__ for reduction in alone._reductions.values()} == {"dim_zero_sum"}
    for name in alone._defaults:
        assert getattr(alone, name).dtype == torch.int64
        setattr(processes[0], name, sum(getattr(process, name) for process in processes))
    assert_same(alone.compute(), processes[0].compute())


def test_two_classes_count_alike_whether_one_logit_decides_or_two() -> None:
    predicted, mask = draw("binary")
    assert_same(*(score(SegmentationMetrics(2, mode), predicted, mask) for mode in ("binary", "multiclass")))


@pytest.mark.parametrize("mode", MODES)
def test_every_integer_type_counts_alike(mode: Mode) -> None:
    predicted, mask = draw(mode)
    expected = score(SegmentationMetrics(classes_of(mode), mode), predicted, mask)
    signed = mask.long()
    signed[mask == 255] = -100
    assert_same(expected, score(SegmentationMetrics(classes_of(mode), mode), predicted.int(), mask.long()))
    assert_same(expected, score(SegmentationMetrics(classes_of(mode), mode, ignore_index=-100), predicted, signed))


@pytest.mark.parametrize("classes", [15, 16, 180, 181, 255, 256, 300])
def test_many_classes_fit_the_types_that_count_them(classes: int) -> None:
    mask = torch.arange(3 * 7 * 50).reshape(3, 7, 50) % classes
    predicted = torch.where(mask == classes - 1, 0, mask)
    scores = score(SegmentationMetrics(classes, ignore_index=-1), predicted, mask)
    for name in ("iou", "boundary_iou"):
        assert scores[name][-1] == 0
        assert 0.5 <= scores[name][0] < 1
        assert (scores[name][1:-1] == 1).all()


@pytest.mark.parametrize("mode", MODES)
def test_nothing_counted_is_nan(mode: Mode) -> None:
    classes = classes_of(mode)
    shape = (2, classes, 5, 7) if mode == "multilabel" else (2, 5, 7)
    nothing, ignored, empty = (SegmentationMetrics(classes, mode) for _ in range(3))
    ignored.update(torch.zeros(shape, dtype=torch.uint8), torch.full(shape, 255, dtype=torch.uint8))
    empty.update(torch.zeros(0, *shape[1:], dtype=torch.uint8), torch.zeros(0, *shape[1:], dtype=torch.uint8))
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        results = [nothing.compute(), ignored.compute(), empty.compute()]
    assert all(value.isnan().all() for scores in results for value in scores.values())


def test_of_a_single_class_the_figures_still_have_a_row_for_it() -> None:
    metric = SegmentationMetrics(1, "multilabel")
    scores = score(metric, [[[[1, 1, 0]]]], [[[[1, 0, 255]]]])
    assert {name: value.tolist() for name, value in scores.items()} == {
        "iou": [0.5],
        "dice": [pytest.approx(2 / 3)],
        "boundary_iou": [0.5],
        "accuracy": 0.5,
        "micro_iou": 0.5,
        "image_iou": 0.5,
    }
    assert metric.compute()["iou"].shape == (1,)


def test_without_boundaries_the_others_stay() -> None:
    predicted, mask = draw("multiclass")
    expected = score(SegmentationMetrics(3), predicted, mask)
    del expected["boundary_iou"]
    assert_same(expected, score(SegmentationMetrics(3, boundary=False), predicted, mask))


def test_what_was_counted_in_inference_mode_can_be_reset_outside_it() -> None:
    predicted, mask = draw("multiclass")
    metric = SegmentationMetrics(3)
    with torch.inference_mode():
        first = score(metric, predicted, mask)
    metric.reset()
    assert not any(getattr(metric, name).is_inference() for name in metric._defaults)
    assert_same(first, score(metric, predicted, mask))


def test_deterministic_mode_changes_neither_result_nor_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """There torchmetrics would compare every pixel with every cell of the matrix."""
    target = torch.randint(0, 2, (2, 4, 9, 11), generator=torch.Generator().manual_seed(0))
    metric, by_label = SegmentationMetrics(2), SegmentationMetrics(4, "multilabel")
    seen = []
    bincount = torch.bincount
    monkeypatch.setattr(torch, "bincount", lambda *a, **k: seen.append(1) or bincount(*a, **k))
    torch.use_deterministic_algorithms(True)
    try:
        scores = [score(metric, target[:, 0], target[:, 0]), score(by_label, target, target)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(seen) == 4  # everywhere, and near the boundaries
    assert all((value == 1).all() for one in scores for value in one.values())


def test_a_mode_that_does_not_exist_is_refused() -> None:
    with pytest.raises(OptionError, match=r"mode is 'multilable'.*Did you mean 'multilabel'"):
        SegmentationMetrics(2, "multilable")


@pytest.mark.parametrize(
    ("mode", "predicted", "mask", "wanted"),
    [
        ("multiclass", (1, 4, 5), (1, 4, 6), "(N, H, W)"),
        ("multiclass", (4, 5), (4, 5), "(N, H, W)"),
        ("multiclass", (1, 3, 4, 5), (1, 3, 4, 5), "(N, H, W)"),
        ("multilabel", (1, 1, 4, 5), (1, 1, 4, 5), "(N, 3, H, W)"),
    ],
)
def test_other_shapes_are_refused(mode: Mode, predicted: list[int], mask: list[int], wanted: str) -> None:
    with pytest.raises(MaskSizeError) as error:
        SegmentationMetrics(3, mode).update(torch.zeros(predicted).long(), torch.zeros(mask).long())
    expected = f"the prediction is {predicted}, the mask {mask}; in mode {mode!r} both must be {wanted}."
    assert str(error.value) == expected


@pytest.mark.parametrize(("predicted", "mask", "found"), [(3, 0, "prediction holds 3"), (0, -1, "mask holds -1")])
def test_a_value_that_is_no_class_is_refused(predicted: int, mask: int, found: str) -> None:
    with pytest.raises(MaskValueError, match=f"the {found}; the classes are 0 to 2, and 255 in the mask"):
        score(SegmentationMetrics(3), [[[predicted]]], [[[mask]]])
