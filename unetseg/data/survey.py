"""What masks hold, looked at before any training, where nobody has said it or it may be misunderstood."""

import math
from collections.abc import Iterable, Sequence

from unetseg.data.mask_files import mask_colors, mask_values
from unetseg.data.splits import Sample
from unetseg.errors import DataError, abridged

__all__ = ["check_not_binary", "missing_classes", "only_zero_and_255"]

_MASKS_LOOKED_AT = 200  # at most, to tell which values there are when no classes are given
_COLORS_SHOWN = 8


def missing_classes(root: str, samples: Sequence[Sample]) -> DataError:
    """Make the error for data whose classes have no names: it says which values or colours the masks hold.

    Raises:
        DataError: if a mask can't be read.
    """
    step = math.ceil(len(samples) / _MASKS_LOOKED_AT)
    looked_at = [sample.mask for sample in samples[::step]]
    count = "the masks" if step == 1 else f"{len(looked_at)} of the {len(samples)} masks, a sample,"
    colors = set().union(*(mask_colors(mask) for mask in looked_at))
    if any(len(set(color)) > 1 for color in colors):
        held = abridged([list(color) for color in sorted(colors)], limit=_COLORS_SHOWN)
        example = next(color for color in sorted(colors) if len(set(color)) > 1)
        return DataError(
            f"--data.classes is missing: {count} in {root} hold the colours {held}; say which class each is, for "
            f"example --data.classes '{{road: {list(example)}, ...}}', or ignore: for those of none"
        )
    values = set().union(*(mask_values(mask) for mask in looked_at))
    if values == {0, 255}:
        fix = "if 255 is a class, give --data.classes '[background, object]' --data.mask_format binary"
    else:
        fix = "give one name for each class, for example --data.classes '[background, ...]'"
    return DataError(
        f"--data.classes is missing: {count} in {root} hold the values {abridged(sorted(values), limit=12)}; {fix}"
    )


def check_not_binary(samples: Iterable[Sample], classes: Sequence[str]) -> None:
    """Make sure that index masks of two classes aren't masks of 0 and 255, where 255 is ignored.

    It stops at the first mask with another value, so right data costs next to nothing.

    Raises:
        DataError: if all masks together hold 0 and 255, or 255 alone; or one can't be read.
    """
    seen: set[int] = set()
    for sample in samples:
        seen |= mask_values(sample.mask)
        if seen - {0, 255}:
            return
    if 255 in seen:
        raise DataError(only_zero_and_255(classes))


def only_zero_and_255(classes: Sequence[str]) -> str:
    """Say that a class is taken for ignored pixels, and what to do."""
    return (
        f"the masks hold only 0 and 255, and 255 is ignored: class 1 ({classes[1]}) never occurs; if 255 means that "
        f"class, use --data.mask_format binary"
    )
