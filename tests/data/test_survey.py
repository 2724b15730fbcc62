"""Masks that nobody has explained are looked at, and what they hold is told."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unetseg.data import survey
from unetseg.data.splits import Sample
from unetseg.data.survey import check_not_binary, missing_classes
from unetseg.errors import DataError

MakePairs = Callable[..., Path]

BLACK, WHITE, BOTH = (np.array([values], np.uint8) for values in ([0, 0], [255, 255], [0, 255]))


def samples_of(root: Path) -> list[Sample]:
    paths = sorted((root / "images").iterdir())
    return [Sample(path.stem, path, root / "masks" / f"{path.stem}.png") for path in paths]


def test_missing_classes_tells_the_values(make_pairs: MakePairs, monkeypatch: pytest.MonkeyPatch):
    values = [np.array([[0, i]], np.uint8) for i in (1, 2, 255)]
    samples = samples_of(make_pairs({str(i): mask for i, mask in enumerate(values)}))
    assert str(missing_classes("data", samples)) == (
        "--data.classes is missing: the masks in data hold the values 0, 1, 2, 255; "
        "give one name for each class, for example --data.classes '[background, ...]'"
    )
    assert "give --data.classes '[background, object]' --data.mask_format binary" in str(
        missing_classes("data", samples[2:])
    )
    monkeypatch.setattr(survey, "_MASKS_LOOKED_AT", 2)
    assert "2 of the 3 masks, a sample, in data hold the values 0, 1, 255;" in str(missing_classes("data", samples))


def test_missing_classes_tells_the_colours(make_pairs: MakePairs):
    rng = np.random.default_rng(0)
    masks = {"a": np.array([[[0, 0, 0], [128, 64, 128]]], np.uint8), "b": np.array([[[9, 0, 0]]], np.uint8)}
    assert str(missing_classes("data", samples_of(make_pairs(masks)))) == (
        "--data.classes is missing: the masks in data hold the colours [0, 0, 0], [9, 0, 0], [128, 64, 128]; say which "
        "class each is, for example --data.classes '{road: [9, 0, 0], ...}', or ignore: for those of none"
    )
    photo = {"a": rng.integers(0, 256, (7, 5, 3), dtype=np.uint8)}
    assert "and 27 more; say which" in str(missing_classes("data", samples_of(make_pairs(photo, "photos"))))


def test_grey_masks_in_three_channels_hold_values(make_pairs: MakePairs):
    masks = {"a": np.repeat(np.array([[0, 3, 7]], np.uint8)[..., None], 3, axis=2)}
    assert "hold the values 0, 3, 7; give one name" in str(missing_classes("data", samples_of(make_pairs(masks))))


def test_mask_that_cannot_be_read_is_told_instead(make_pairs: MakePairs):
    samples = samples_of(make_pairs({"a": BLACK}))
    samples[0].mask.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"masks/a\.png: can't be read as an image"):
        missing_classes("data", samples)


@pytest.mark.parametrize("masks", [[BLACK, BOTH], [WHITE], [BLACK, WHITE]])
def test_masks_of_0_and_255_are_not_two_index_classes(make_pairs: MakePairs, masks: list[np.ndarray]):
    samples = samples_of(make_pairs({str(i): mask for i, mask in enumerate(masks)}))
    expected = r"hold only 0 and 255, and 255 is ignored: class 1 \(cell\) never .* use --data.mask_format binary"
    with pytest.raises(DataError, match=expected):
        check_not_binary(samples, ["background", "cell"])


def test_background_alone_is_right(make_pairs: MakePairs):
    check_not_binary(samples_of(make_pairs({"a": BLACK, "b": BLACK})), ["background", "cell"])


def test_right_masks_are_not_all_read(make_pairs: MakePairs):
    samples = samples_of(make_pairs({"a": np.array([[0, 1, 255]], np.uint8)}))
    check_not_binary([*samples, Sample("gone", Path("gone"), Path("gone"))], ["background", "cell"])
