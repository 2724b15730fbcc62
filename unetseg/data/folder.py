"""Data sets in folders: which image belongs to which mask, and to which split."""

import math
import os
import random
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_only

from unetseg.data.readers import IMAGE_SUFFIXES, MaskFormat, abridged, mask_values, read_pair
from unetseg.errors import DataError

__all__ = ["FolderSource", "Sample", "Split", "check_not_binary", "find_samples", "missing_classes"]

Split = Literal["train", "val", "test"]

_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_VAL_SHARE = 0.2  # of the pairs, where nobody has split them
_MASKS_LOOKED_AT = 200  # at most, to tell which values there are when no classes are given


@dataclass(frozen=True)
class Sample:
    """An image file and its mask file.

    Args:
        name: path of both below their folders, with ``/`` and without suffix: ``street/0001``.
        image: path of the image.
        mask: path of the mask.
    """

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class FolderSource:
    """Pairs read from files, checked against the classes.

    Args:
        samples: the pairs.
        mask_format: see `unetseg.data.readers.read_mask`, also for the next two.
        num_classes: number of classes.
        ignore_index: value of mask pixels that belong to no class.
    """

    samples: Sequence[Sample]
    mask_format: MaskFormat
    num_classes: int
    ignore_index: int

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
        """Read image (H, W, 3), mask (H, W) and name; errors as of `unetseg.data.readers.read_pair`."""
        sample = self.samples[index]
        image, mask = read_pair(
            sample.image,
            sample.mask,
            mask_format=self.mask_format,
            num_classes=self.num_classes,
            ignore_index=self.ignore_index,
        )
        return image, mask, sample.name


def find_samples(root: str | os.PathLike[str], *, split_seed: int = 0) -> dict[Split, list[Sample]]:
    """Find the pairs of a data set, split into ``train``, ``val`` and perhaps ``test``.

    An image and a mask are a pair if their paths below ``images`` and ``masks`` agree up to the suffix.
    Hidden files and files that aren't images are passed over. Two layouts are known:

    - ``root/train/images`` and ``root/train/masks``, the same for ``val`` and, if wanted, ``test``.
    - ``root/images`` and ``root/masks``, with ``train.txt``, ``val.txt`` and, if wanted, ``test.txt`` in
      ``root``, a name a line. Without these lists a fifth of the pairs, drawn with ``split_seed``, becomes
      ``val``, the rest ``train``, and the lists are written, so that the split stays when files are added.

    Args:
        root: folder of the data set.
        split_seed: seed of the split that is drawn where nobody has split the data.

    Returns:
        The samples of each split that exists, in the order of the list or sorted by name.

    Raises:
        DataError: if the folder isn't laid out so, an image or a mask lacks its other half, or a split is
            empty or shares a name with another one.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; give the folder of the data set as --data.root")
    flat = any((root / name).is_dir() for name in ("images", "masks"))
    split_folders = any((root / split).is_dir() for split in ("train", "val"))
    if flat and split_folders:
        raise DataError(f"{root} has images/ or masks/ as well as train/ or val/; keep one of the two layouts")
    if split_folders:
        return _from_split_folders(root)
    if flat:
        return _from_flat_folder(root, split_seed)
    content = abridged(sorted(path.name for path in root.iterdir())) or "nothing"
    raise DataError(
        f"{root} needs the folders images/ and masks/, or train/ and val/ with images/ and masks/ in each; "
        f"it holds {content}"
    )


def missing_classes(root: str, samples: Sequence[Sample]) -> DataError:
    """Make the error for data whose classes have no names: it says which values the masks hold.

    Raises:
        DataError: if a mask can't be read or isn't an index mask.
    """
    step = math.ceil(len(samples) / _MASKS_LOOKED_AT)
    looked_at = samples[::step]
    values = set().union(*(mask_values(sample.mask) for sample in looked_at))
    count = "the masks" if step == 1 else f"{len(looked_at)} of the {len(samples)} masks, a sample,"
    if values == {0, 255}:
        fix = "if 255 is a class, give --data.classes '[background, object]' --data.mask_format binary"
    else:
        fix = "give one name for each class, for example --data.classes '[background, ...]'"
    held = abridged(sorted(values), limit=12)
    return DataError(f"--data.classes is missing: {count} in {root} hold the values {held}; {fix}")


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
        raise DataError(
            f"the masks hold only 0 and 255, and 255 is ignored: class 1 ({classes[1]}) never "
            "occurs; if 255 means that class, use --data.mask_format binary"
        )


def _from_split_folders(root: Path) -> dict[Split, list[Sample]]:
    """Read the layout ``root/{train,val,test}/{images,masks}``."""
    missing = [f"{split}/" for split in ("train", "val") if not (root / split).is_dir()]
    if missing:
        raise DataError(
            f"{root} lacks the folder {missing[0]}, with images/ and masks/ in it; "
            "the folders of the splits are called train, val and (if wanted) test"
        )
    return {split: _all_pairs(root / split) for split in _SPLITS if (root / split).is_dir()}


def _from_flat_folder(root: Path, split_seed: int) -> dict[Split, list[Sample]]:
    """Read the layout ``root/{images,masks}``, with or without lists."""
    lists = {split: root / f"{split}.txt" for split in _SPLITS if (root / f"{split}.txt").is_file()}
    if not lists:
        return _drawn_split(root, split_seed)
    missing = [f"{split}.txt" for split in ("train", "val") if split not in lists]
    if missing:
        present = ", ".join(path.name for path in lists.values())
        raise DataError(
            f"{root} has {present} but lacks {' and '.join(missing)}; "
            "write the missing list, or remove all lists to have a split drawn"
        )
    return _from_lists(root, lists)


def _from_lists(root: Path, lists: dict[Split, Path]) -> dict[Split, list[Sample]]:
    """Look up the pairs that the lists name; others may be there."""
    images, masks = _files(root / "images"), _files(root / "masks")
    samples: dict[Split, list[Sample]] = {}
    listed_in: dict[str, str] = {}
    for split, path in lists.items():
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # Windows editors write the signature
        names = [_without_suffix(line.strip(), images) for line in lines if line.strip()]
        if not names:
            raise DataError(f"{path} names no image; write one name a line")
        for name in names:
            if name in listed_in:
                raise DataError(f"{root}: {name} is named twice, in {listed_in[name]} and in {path.name}; keep one")
            listed_in[name] = path.name
        no_image = [name for name in names if name not in images]
        no_mask = [name for name in names if name not in masks]
        _complain_of_missing(str(path), no_image=no_image, no_mask=no_mask)
        samples[split] = [Sample(name, images[name], masks[name]) for name in names]
    return samples


def _drawn_split(root: Path, seed: int) -> dict[Split, list[Sample]]:
    """Split all pairs at random into train and val, and write the lists."""
    pairs = _all_pairs(root)
    if len(pairs) < 2:
        raise DataError(f"{root} holds one pair of image and mask; train and val need at least one each")
    num_val = max(1, round(_VAL_SHARE * len(pairs)))
    val = set(random.Random(seed).sample(range(len(pairs)), num_val))
    samples: dict[Split, list[Sample]] = {
        "train": [pair for i, pair in enumerate(pairs) if i not in val],
        "val": [pair for i, pair in enumerate(pairs) if i in val],
    }
    _write_lists(root, samples)
    return samples


@rank_zero_only  # the other processes draw the same split
def _write_lists(root: Path, samples: dict[Split, list[Sample]]) -> None:
    """Write a list for each split, whole or not at all; a folder that can't be written is no error."""
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


def _all_pairs(folder: Path) -> list[Sample]:
    """Pair all files of ``folder/images`` and ``folder/masks``, sorted by name."""
    images, masks = _files(folder / "images"), _files(folder / "masks")
    if not images and not masks:
        raise DataError(f"{folder}: images/ and masks/ hold no image ({', '.join(IMAGE_SUFFIXES)})")
    no_image, no_mask = sorted(masks.keys() - images.keys()), sorted(images.keys() - masks.keys())
    _complain_of_missing(str(folder), no_image=no_image, no_mask=no_mask)
    return [Sample(name, images[name], masks[name]) for name in sorted(images)]


def _complain_of_missing(where: str, *, no_image: list[str], no_mask: list[str]) -> None:
    """Raise one error about all names that lack their image, their mask or both."""
    faults = []
    if no_mask:
        faults.append(f"{len(no_mask)} without a mask ({abridged(no_mask)})")
    if no_image:
        faults.append(f"{len(no_image)} without an image ({abridged(no_image)})")
    if faults:
        raise DataError(
            f"{where}: {' and '.join(faults)}; "
            "an image in images/ and its mask in masks/ have the same name up to the suffix"
        )


def _files(folder: Path) -> dict[str, Path]:
    """Map names to the image files below a folder, links followed."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; images/ and masks/ belong side by side")
    files: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            key = path.relative_to(folder).with_suffix("").as_posix()
            if key in files:
                both = " and ".join(sorted((files[key].name, path.name)))
                raise DataError(f"{path.parent} holds {both}, which differ in suffix alone; keep one")
            files[key] = path
    return files


def _without_suffix(name: str, known: dict[str, Path]) -> str:
    """Drop an image suffix from a listed name, unless it belongs to the name (``a.png`` of ``a.png.jpg``)."""
    stem, suffix = os.path.splitext(name)
    return stem if name not in known and suffix.lower() in IMAGE_SUFFIXES else name
