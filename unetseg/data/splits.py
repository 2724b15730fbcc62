"""Pairs of files, and their splits: read from lists of names, or drawn once and written as such."""

import os
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.utilities import rank_zero_only

from unetseg.errors import DataError, first_line

__all__ = ["SPLITS", "Sample", "Split", "draw_split", "read_lists"]

Split = Literal["train", "val", "test"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
_VAL_SHARE = 0.2  # of the pairs, where nobody has split them


@dataclass(frozen=True)
class Sample:
    """An image file and its mask.

    Attributes:
        name: what it is called in lists, batches and messages; of files in folders, the path of both below their
            folders, with ``/`` and without suffix: ``street/0001``.
        image: path of the image.
        mask: what the data set's `unetseg.data.masks.MaskReader` reads: a path, paths by class, or COCO shapes.
    """

    name: str
    image: Path
    mask: Any


def read_lists(root: Path) -> dict[Split, list[str]] | None:
    """Names that ``train.txt``, ``val.txt`` and perhaps ``test.txt`` give, a line each; None if there are no lists.

    Raises:
        DataError: if train or val is missing, a list is empty or can't be read, or a name is given twice.
    """
    lists = {split: root / f"{split}.txt" for split in SPLITS if (root / f"{split}.txt").is_file()}
    if not lists:
        return None
    missing = [f"{split}.txt" for split in ("train", "val") if split not in lists]
    if missing:
        present = ", ".join(path.name for path in lists.values())
        raise DataError(
            f"{root} has {present} but lacks {' and '.join(missing)}; "
            "write the missing list, or remove all lists to have a split drawn"
        )
    listed: dict[Split, list[str]] = {}
    listed_in: dict[str, str] = {}
    for split, path in lists.items():
        try:
            content = path.read_text(encoding="utf-8-sig")  # Windows editors write the signature
        except (OSError, UnicodeError) as error:
            raise DataError(f"{path} can't be read: {first_line(error)} Save it as text in UTF-8") from error
        # splitlines would also split at what is no end of a line, but may stand in a name
        listed[split] = [line.strip() for line in content.split("\n") if line.strip()]
        if not listed[split]:
            raise DataError(f"{path} names no image; write one name a line")
        for name in listed[split]:
            if name in listed_in:
                raise DataError(f"{root}: {name} is named twice, in {listed_in[name]} and in {path.name}; keep one")
            listed_in[name] = path.name
    return listed


def draw_split(root: Path, samples: Sequence[Sample], seed: int) -> dict[Split, list[Sample]]:
    """Draw a fifth for ``val``, leave the rest for ``train``, and write the lists, so that the split stays.

    Args:
        root: folder for the lists; one that can't be written is no error.
        samples: all pairs.
        seed: of the draw.

    Raises:
        DataError: if there are fewer than two pairs.
    """
    if len(samples) < 2:
        count = "one pair" if samples else "no pair"
        raise DataError(f"{root} holds {count} of image and mask; train and val need at least one each")
    num_val = max(1, round(_VAL_SHARE * len(samples)))
    val = set(random.Random(seed).sample(range(len(samples)), num_val))
    drawn: dict[Split, list[Sample]] = {
        "train": [pair for i, pair in enumerate(samples) if i not in val],
        "val": [pair for i, pair in enumerate(samples) if i in val],
    }
    _write_lists(root, drawn)
    return drawn


@rank_zero_only  # the other processes draw the same split
def _write_lists(root: Path, samples: Mapping[Split, Sequence[Sample]]) -> None:
    """Write a list for each split, whole or not at all."""
    drawn = " and ".join(f"{len(part)} for {split}" for split, part in samples.items())
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=".split-") as folder:
            written = [Path(folder, f"{split}.txt") for split in samples]
            for path, part in zip(written, samples.values(), strict=True):
                path.write_text("".join(f"{sample.name}\n" for sample in part), encoding="utf-8")
            for path in written:
                os.replace(path, root / path.name)
    except OSError as error:
        sys.stderr.write(f"{root} has no lists: drew {drawn}; the lists can't be written ({error.strerror})\n")
    else:
        lists = ", ".join(path.name for path in written)
        sys.stderr.write(f"{root} has no lists: drew {drawn} and wrote {lists}\n")
