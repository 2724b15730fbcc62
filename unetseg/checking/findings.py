"""What can be wrong with a data set, in kinds, and how each is said."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from unetseg.data.labels import Labels
from unetseg.data.sources import FileSource, Source
from unetseg.data.splits import Split
from unetseg.data.survey import only_zero_and_255
from unetseg.errors import MaskSizeError, MaskValueError, UnetsegError, abridged

__all__ = [
    "PROBLEMS",
    "WARNINGS",
    "Finding",
    "PairName",
    "about_classes",
    "about_copies",
    "about_failure",
    "about_range",
    "about_stray_values",
    "about_zero_and_255",
    "name_pair",
]

PROBLEMS = {
    "unreadable": "images and masks that can't be used",
    "size_mismatch": "masks of another size than their image",
    "stray_values": "masks with values or colours of no class",
    "zero_and_255": "masks of 0 and 255, where 255 is ignored",
    "shared_between_splits": "images that are in several splits",
    "contradiction": "images that are in a split twice, with different masks",
}
"""Kinds of what must be mended."""

WARNINGS = {
    "repeated": "images that are in a split twice, with the same mask",
    "ignored_mask": "ignored masks",
    "empty_mask": "empty masks",
    "missing_class": "classes that no training mask shows",
    "value_range": "images far from the range of 0 to 1",
}
"""Kinds of what may be as it should be."""

_KINDS: dict[str, type[UnetsegError]] = {"size_mismatch": MaskSizeError, "stray_values": MaskValueError}

_COPIES_NAMED = 4
_DARK = 0.25  # no image is brighter: the two highest bits are never used


@dataclass(frozen=True)
class PairName:
    """What a pair is called.

    Attributes:
        split: its split.
        name: its name in lists.
        file: path of its image; None if it isn't a file.
    """

    split: Split
    name: str
    file: str | None

    @property
    def shown(self) -> str:
        """The file, or split and name."""
        return self.file or f"{self.split}/{self.name}"


@dataclass(frozen=True)
class Finding:
    """Something about one pair, some pairs, or the whole data set.

    Attributes:
        kind: one of `PROBLEMS` or `WARNINGS`.
        reason: what is wrong. Files are named in it, but where it is the same for many pairs: an empty mask.
        pairs: the pairs; none if it is about the whole data set.
    """

    kind: str
    reason: str
    pairs: tuple[PairName, ...] = ()


def name_pair(source: Source, split: Split, index: int) -> PairName:
    """Name a pair, with its file where it has one."""
    file = str(source.samples[index].image) if isinstance(source, FileSource) else None
    return PairName(split, source.name(index), file)


def about_failure(pair: PairName, error: UnetsegError) -> Finding:
    """Say that a pair couldn't be read."""
    text = str(error)
    kind = next((kind for kind, errors in _KINDS.items() if isinstance(error, errors)), "unreadable")
    return Finding(kind, text if pair.file or pair.name in text else f"{pair.shown}: {text}", (pair,))


def about_stray_values(pair: PairName, values: Sequence[int], labels: Labels) -> Finding:
    """Say which values of a mask are no class, where its reader let them pass."""
    allowed = f"0..{len(labels.classes) - 1}" if labels.mode == "multiclass" else "0, 1"
    reason = f"the mask of {pair.shown} holds the values {abridged(values)}; it may hold {allowed} and "
    return Finding("stray_values", f"{reason}{labels.ignore_index} (ignored)", (pair,))


def about_zero_and_255(splits: Iterable[Split], labels: Labels) -> Finding:
    """Say in which splits a class is taken for ignored pixels."""
    return Finding("zero_and_255", f"{', '.join(splits)}: {only_zero_and_255(labels.classes)}")


def about_copies(copies: Iterable[tuple[PairName, bytes]]) -> list[Finding]:
    """Say that some pairs have the same image.

    Args:
        copies: the pairs, each with the hash of its mask.
    """
    masks = dict(copies)
    by_split: dict[Split, list[PairName]] = {}
    for pair in masks:
        by_split.setdefault(pair.split, []).append(pair)
    groups = [("contradiction", "repeated", pairs) for pairs in by_split.values() if len(pairs) > 1]
    if len(by_split) > 1:
        groups.insert(0, ("shared_between_splits", "shared_between_splits", list(masks)))
    found = []
    for contradictory, harmless, pairs in groups:
        differ = len({masks[pair] for pair in pairs}) > 1
        named = abridged(
            [f"{pair.file} ({pair.split})" if pair.file else pair.shown for pair in pairs], limit=_COPIES_NAMED
        )
        reason = f"{named}: the same image, {'but the masks differ' if differ else 'and the same mask'}"
        found.append(Finding(contradictory if differ else harmless, reason, tuple(pairs)))
    return found


def about_range(low: float, high: float) -> list[Finding]:
    """Say that the images don't fill the range that the model expects, or leave it."""
    if low >= 0 and _DARK <= high <= 1:
        return []
    reason = (
        f"the values of the training images go from {low:.4g} to {high:.4g}, where 1 is full brightness; if full "
        f"brightness is another value in the files, give it as --data.max_value"
    )
    return [Finding("value_range", reason)]


def about_classes(images: Mapping[Split, Sequence[int]], labels: Labels) -> list[Finding]:
    """Say which classes no training image shows.

    Args:
        images: for each split, the number of images in which each class occurs.
        labels: the classes.
    """
    found = []
    for i, name in enumerate(labels.classes):
        there = [split for split in images if images[split][i]]
        if not there:
            found.append(Finding("missing_class", f"{name} occurs in no mask of any split"))
        elif "train" not in there:
            reason = f"{name} occurs in {' and '.join(there)}, but never in train, so that it can't be learnt"
            found.append(Finding("missing_class", reason))
    return found
