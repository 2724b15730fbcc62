"""Data sets in folders: which image belongs to which mask, and to which split."""

import os
import unicodedata
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, NoReturn

from unetseg.data.decoding import IMAGE_SUFFIXES
from unetseg.data.splits import SPLITS, Sample, Split, draw_split, read_lists
from unetseg.errors import DataError, abridged

__all__ = ["find_samples"]


def find_samples(
    root: str | os.PathLike[str],
    *,
    split_seed: int = 0,
    mask_suffix: str = "",
    mask_classes: Sequence[str] | None = None,
) -> dict[Split, list[Sample]]:
    """Find the pairs of a data set, split into ``train``, ``val`` and perhaps ``test``.

    An image and a mask are a pair if their paths below ``images`` and ``masks`` agree up to the suffix, however their
    accents are encoded. Hidden files and files that aren't images are passed over. Two layouts are known:

    - ``root/train/images`` and ``root/train/masks``, the same for ``val`` and, if wanted, ``test``.
    - ``root/images`` and ``root/masks``, with ``train.txt``, ``val.txt`` and, if wanted, ``test.txt`` in
      ``root``, a name a line. Without these lists a fifth of the pairs, drawn with ``split_seed``, becomes
      ``val``, the rest ``train``, and the lists are written, so that the split stays when files are added.

    Args:
        root: folder of the data set.
        split_seed: seed of the split that is drawn where nobody has split the data.
        mask_suffix: what a mask's name has behind the image's: ``_mask`` for ``1.jpg`` and ``1_mask.png``. Other files
            among the masks are passed over.
        mask_classes: for multilabel data, the names of the folders below ``masks``, one a class. An image has a file in
            one at least; in the others, its class doesn't occur.

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
        missing = [f"{split}/" for split in ("train", "val") if not (root / split).is_dir()]
        if missing:
            raise DataError(
                f"{root} lacks the folder {missing[0]}, with images/ and masks/ in it; "
                "the folders of the splits are called train, val and (if wanted) test"
            )
        folders = {split: root / split for split in SPLITS if (root / split).is_dir()}
        return {split: _all_pairs(folder, mask_suffix, mask_classes) for split, folder in folders.items()}
    if flat:
        lists = read_lists(root)
        if lists is None and all((root / "images" / split).is_dir() for split in ("train", "val")):
            raise DataError(
                f"{root} has images/train and images/val, from which no split follows; rename them to train/images and "
                f"val/images, masks likewise, or write train.txt and val.txt"
            )
        if lists is None:
            return draw_split(root, _all_pairs(root, mask_suffix, mask_classes), split_seed)
        return _listed_pairs(root, lists, mask_suffix, mask_classes)
    content = abridged(sorted(path.name for path in root.iterdir())) or "nothing"
    raise DataError(
        f"{root} needs the folders images/ and masks/, or train/ and val/ with images/ and masks/ in each; "
        f"it holds {content}"
    )


def _listed_pairs(
    root: Path, lists: dict[Split, list[str]], mask_suffix: str, mask_classes: Sequence[str] | None
) -> dict[Split, list[Sample]]:
    """Look up the pairs that the lists name; others may be there."""
    images, masks = _files(root / "images"), _masks(root / "masks", mask_suffix, mask_classes)
    spaced = {name.strip(): name for name in images if name != name.strip()}  # lists are read without
    samples: dict[Split, list[Sample]] = {}
    listed_in: dict[str, str] = {}
    for split, listed in lists.items():
        names = [_name_in(images, spaced.get(name, name)) for name in listed]
        for name in names:
            if name in listed_in:  # once with and once without its suffix
                raise DataError(f"{root}: {name} is named twice, in {listed_in[name]}.txt and in {split}.txt; keep one")
            listed_in[name] = split
        no_image = [name for name in names if name not in images]
        no_mask = [name for name in names if name not in masks]
        _complain_of_missing(str(root / f"{split}.txt"), mask_suffix, no_image=no_image, no_mask=no_mask)
        samples[split] = [Sample(name, images[name], masks[name]) for name in names]
    return samples


def _all_pairs(folder: Path, mask_suffix: str, mask_classes: Sequence[str] | None) -> list[Sample]:
    """Pair all files of ``folder/images`` and ``folder/masks``, sorted by name."""
    images, masks = _files(folder / "images"), _masks(folder / "masks", mask_suffix, mask_classes)
    if not images and not masks:
        raise DataError(f"{folder}: images/ and masks/ hold no image ({', '.join(IMAGE_SUFFIXES)})")
    no_image, no_mask = sorted(masks.keys() - images.keys()), sorted(images.keys() - masks.keys())
    _complain_of_missing(str(folder), mask_suffix, no_image=no_image, no_mask=no_mask)
    return [Sample(name, images[name], masks[name]) for name in sorted(images)]


def _complain_of_missing(where: str, mask_suffix: str, *, no_image: list[str], no_mask: list[str]) -> None:
    """Raise one error about all names that lack their image, their mask or both."""
    faults = []
    if no_mask:
        faults.append(f"{len(no_mask)} without a mask ({abridged(no_mask)})")
    if no_image:
        faults.append(f"{len(no_image)} without an image ({abridged(no_image)})")
    if faults:
        behind = f", with {mask_suffix} behind the mask's (--data.mask_suffix)" if mask_suffix else ""
        raise DataError(
            f"{where}: {' and '.join(faults)}; "
            f"an image in images/ and its mask in masks/ have the same name up to the suffix{behind}"
        )


def _masks(folder: Path, mask_suffix: str, classes: Sequence[str] | None) -> dict[str, Any]:
    """Map names to mask files, or to one file a class."""
    if classes is None:
        return _unsuffixed(_files(folder), mask_suffix)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; images/ and masks/ belong side by side")
    there = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if sorted(classes) != there:
        raise DataError(
            f"{folder} holds the folders {abridged(there) or 'none'}; multilabel masks need one for each class, and no "
            f"other: {', '.join(classes)}"
        )
    masks: dict[str, dict[str, Path]] = {}
    for name in classes:
        for key, path in _unsuffixed(_files(folder / name), mask_suffix).items():
            masks.setdefault(key, {})[name] = path
    return masks


def _unsuffixed(files: dict[str, Path], mask_suffix: str) -> dict[str, Path]:
    return {key.removesuffix(mask_suffix): path for key, path in files.items() if key.endswith(mask_suffix)}


def _files(folder: Path) -> dict[str, Path]:
    """Map names to the image files below a folder, links followed."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; images/ and masks/ belong side by side")
    files: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            # macOS takes letters and their accents apart, other systems mostly don't
            key = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
            if key in files:
                both = " and ".join(sorted((files[key].name, path.name)))
                raise DataError(f"{path.parent} holds {both}, which differ in suffix alone; keep one")
            files[key] = path
    return files


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename} can't be read: {(error.strerror or 'unknown error').lower()}") from error


def _name_in(known: Container[str], listed: str) -> str:
    """A listed name as it is known: with ``/``, and without an image suffix that doesn't belong to it."""
    name = unicodedata.normalize("NFC", listed)
    for candidate in (name, name.replace("\\", "/")):
        stem, suffix = os.path.splitext(candidate)
        if candidate in known:  # such as a.png of a.png.jpg
            return candidate
        if suffix.lower() in IMAGE_SUFFIXES and stem in known:
            return stem
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name
