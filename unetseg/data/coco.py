"""COCO annotations as masks: polygons and run lengths, drawn by pycocotools."""

import importlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetseg.config import Mode
from unetseg.data.splits import SPLITS, Sample, Split, draw_split, read_lists
from unetseg.errors import DataError, abridged, first_line

__all__ = ["CocoMaskReader", "Shapes", "category_names", "find_coco_samples", "read_annotations"]

_KEYS = {
    "images": ("id", "file_name", "height", "width"),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id", "name"),
}
_FAR = 10**6  # pixels; pycocotools' memory for a shape grows with its outline, and overflows


@dataclass(frozen=True)
class Shapes:
    """What is drawn on an image.

    Attributes:
        size: (H, W) of the image that it was drawn on.
        shapes: category's name and COCO segmentation of each.
        where: what an error calls it.
    """

    size: tuple[int, int]
    shapes: tuple[tuple[str, Any], ...]
    where: str


@dataclass(frozen=True)
class CocoMaskReader:
    """Draws the shapes of an image.

    With one class a pixel, small shapes lie on large ones, and what no shape covers has the first class; shapes of
    categories that aren't classes are left out. With several, a pixel has those of all shapes that cover it. Crowds
    (``iscrowd``) are shapes like others.

    Args:
        classes: names of the classes.
        mode: ``multiclass``, or ``multilabel``, where no class stands for "no shape".
    """

    classes: Sequence[str]
    mode: Mode = "multiclass"

    def __call__(self, mask: Shapes, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Draw a mask, see `unetseg.data.masks.MaskReader`; one of another size than the image's is empty."""
        if mask.size != size:  # it will be refused, and may claim a size for which there is no memory
            planes = (len(self.classes),) if self.mode == "multilabel" else ()
            return np.broadcast_to(np.uint8(0), (*mask.size, *planes))
        coder = _coder()
        index = {name: i for i, name in enumerate(self.classes)}
        drawn: list[tuple[int, int, NDArray[np.int64]]] = []  # area, class, run lengths
        for name, segmentation in mask.shapes:
            if name in index:
                try:
                    counts = _run_lengths(segmentation, size, coder)
                    drawn.append((int(counts[1::2].sum()), index[name], counts))
                except Exception as error:  # of whatever is wrong with it
                    raise DataError(f"{mask.where}: a shape of {name} can't be drawn: {first_line(error)}") from error
        if self.mode == "multilabel":
            planes_of = np.zeros((len(self.classes), size[1] * size[0]), np.uint8)
            for _, i, counts in drawn:
                _paint(planes_of[i], counts, 1)
            return np.ascontiguousarray(planes_of.reshape(-1, size[1], size[0]).transpose(2, 1, 0))
        classes = np.zeros(size[1] * size[0], np.uint8)
        for _, i, counts in sorted(drawn, key=lambda shape: -shape[0]):
            _paint(classes, counts, i)
        return np.ascontiguousarray(classes.reshape(size[1], size[0]).T)


def category_names(annotations: Mapping[str, Any]) -> list[str]:
    """Names of the categories, in the order of their ids; several categories may have one name."""
    by_id = sorted(annotations["categories"], key=lambda category: (isinstance(category["id"], str), category["id"]))
    return [category["name"] for category in by_id]


def read_annotations(path: Path) -> dict[str, Any]:
    """Read a COCO JSON file.

    Raises:
        DataError: if it can't be read, or isn't one.
    """
    _coder()  # rather now than in a worker
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise DataError(f"--data.coco {path}: {reason}") from error
    for part, keys in _KEYS.items():
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise DataError(f"--data.coco {path}: isn't a COCO file, which has lists of {', '.join(_KEYS)}")
        for row in rows:
            if lacking := next((key for key in keys if not isinstance(row, dict) or key not in row), None):
                raise DataError(
                    f"--data.coco {path}: an entry of {part} has no {lacking}; each needs {', '.join(keys)}"
                )
            if wrong := next((key for key in keys if not _is_valid(key, row[key])), None):
                raise DataError(
                    f"--data.coco {path}: an entry of {part} has the {wrong} {row[wrong]!r}; ids are numbers or words, "
                    f"names words, and sizes whole numbers from 1 to a million"
                )
        ids = [row["id"] for row in rows]
        if part != "annotations" and (twice := _first_repeated(ids)) is not None:
            raise DataError(f"--data.coco {path}: two entries of {part} have the id {twice!r}; ids must differ")
    return dict(content)


def _is_valid(key: str, value: object) -> bool:
    if key in ("file_name", "name"):
        return isinstance(value, str) and bool(value)
    if key in ("height", "width"):
        return type(value) in (int, float) and 0 < value <= _FAR and value % 1 == 0  # type: ignore[operator]  # a number
    return type(value) in (int, float, str)


def _first_repeated(values: Iterable[Any]) -> Any:
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def find_coco_samples(
    files: Mapping[str, Path] | Path, annotations: Mapping[Path, Mapping[str, Any]], root: Path, *, split_seed: int = 0
) -> dict[Split, list[Sample]]:
    """Find the images that COCO files annotate; those without a shape are pairs, too.

    Args:
        files: the file of each split; or one file, which the lists in ``root`` split, or a draw, as
            `unetseg.data.splits` says.
        annotations: what `read_annotations` read of each.
        root: folder of the data set. An image is looked for beside its JSON file, in ``root``, in ``root/images``, and
            in the folder of ``root`` that is called as the file: ``train2017`` for ``instances_train2017.json``.
        split_seed: seed of the draw.

    Raises:
        DataError: if an image isn't there, or a shape refers to none, has no category or no outline.
    """
    if isinstance(files, Path):
        samples = _samples(files, annotations[files], root)
        lists = read_lists(root)
        return draw_split(root, samples, split_seed) if lists is None else _listed(samples, lists, files, root)
    if unknown := sorted(set(files) - set(SPLITS)) or [split for split in ("train", "val") if split not in files]:
        raise DataError(
            f"--data.coco: {' and '.join(unknown)} {'is no split' if unknown[0] not in SPLITS else 'missing'}; give "
            f"'{{train: FILE.json, val: FILE.json}}', perhaps with test, or one file for all"
        )
    found = {split: _samples(files[split], annotations[files[split]], root) for split in SPLITS if split in files}
    if empty := [str(files[split]) for split, part in found.items() if not part]:
        raise DataError(f"--data.coco: {empty[0]} lists no image")
    return found


def _listed(
    samples: Sequence[Sample], lists: Mapping[Split, Sequence[str]], path: Path, root: Path
) -> dict[Split, list[Sample]]:
    """Look up the images that the lists name, with or without their suffix; others may be there."""
    stems = Counter(os.path.splitext(sample.name)[0] for sample in samples)
    known = {stem: sample for sample in samples if stems[stem := os.path.splitext(sample.name)[0]] == 1}
    known |= {sample.name: sample for sample in samples}
    if unknown := [name for listed in lists.values() for name in listed if name not in known]:
        raise DataError(f"the lists in {root} name images that {path} doesn't: {abridged(unknown)}")
    found = {split: [known[name] for name in listed] for split, listed in lists.items()}
    if twice := _first_repeated(sample.name for part in found.values() for sample in part):
        raise DataError(f"{root}: {twice} is named twice in the lists, with and without its suffix; keep one")
    return found


def _samples(path: Path, annotations: Mapping[str, Any], root: Path) -> list[Sample]:
    names = {category["id"]: category["name"] for category in annotations["categories"]}
    shapes: dict[Any, list[tuple[str, Any]]] = {image["id"]: [] for image in annotations["images"]}
    for shape in annotations["annotations"]:
        if shape["image_id"] not in shapes or shape["category_id"] not in names:
            kind = "image" if shape["image_id"] not in shapes else "category"
            raise DataError(
                f"{path}: annotation {shape['id']} is of {kind} {shape[f'{kind}_id']!r}, which isn't listed"
            )
        if not shape.get("segmentation"):
            raise DataError(
                f"{path}: annotation {shape['id']} has no segmentation, and a box alone is no outline; outline it, or "
                f"remove it"
            )
        shapes[shape["image_id"]].append((names[shape["category_id"]], shape["segmentation"]))
    folders = [path.parent, root, root / "images", root / path.stem.removeprefix("instances_")]
    samples, gone = [], []
    for image in annotations["images"]:
        name, file = _find(image["file_name"], folders)
        if file is None:
            gone.append(name)
            continue
        size = int(image["height"]), int(image["width"])
        samples.append(Sample(name, file, Shapes(size, tuple(shapes[image["id"]]), f"{path}, image {name}")))
    if gone:
        looked = ", ".join(map(str, dict.fromkeys(folders)))
        raise DataError(f"{path} lists {len(gone)} images that aren't there ({abridged(gone)}); looked in {looked}")
    if twice := _first_repeated(os.path.abspath(sample.image) for sample in samples):
        raise DataError(f"{path} lists {twice} twice among its images, each with its own shapes; keep one")
    return samples


def _find(name: str, folders: Sequence[Path]) -> tuple[str, Path | None]:
    """A file in the first folder that has it, and its name, which may have been written on Windows."""
    for spelt in (name, name.replace("\\", "/")):
        for folder in folders:
            if os.path.isfile(folder / spelt):  # of any name, even one that is too long
                return spelt, folder / spelt
    return name, None


def _run_lengths(segmentation: Any, size: tuple[int, int], coder: Any) -> NDArray[np.int64]:
    """Run lengths of any form of a segmentation: down the columns, by turns outside and inside.

    What pycocotools draws of run lengths that are too short is chance, and outlines without end stop the process, so
    both are refused here.
    """
    height, width = size
    if isinstance(segmentation, Mapping):
        given, counts = segmentation.get("size"), segmentation.get("counts")
        if given != [height, width]:
            raise ValueError(f"its run lengths are of size {given}, the image is {[height, width]}")
        counts = _uncompressed(counts) if isinstance(counts, str) else counts
        if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("its run lengths must be numbers of pixels, or these as COCO compresses them")
        if sum(counts) != height * width:
            raise ValueError(f"its run lengths are of {sum(counts)} pixels, the image has {height * width}")
        return np.array(counts, np.int64)
    polygons = []
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:  # four numbers would be a box
            got = abridged(polygon) if isinstance(polygon, list) else polygon
            raise ValueError(f"a polygon needs three points or more, [x, y, x, y, x, y, …]; got {got}")
        points = np.array(polygon, np.float64)
        if points.ndim != 1 or not (np.abs(points) < _FAR).all():  # nor is it true of what is no number
            raise ValueError(f"a polygon has points that are no numbers, or far outside: {abridged(polygon)}")
        polygons.append(points.tolist())
    merged = coder.merge(coder.frPyObjects(polygons, height, width))
    return np.array(_uncompressed(merged["counts"].decode()), np.int64)


def _paint(column: NDArray[np.uint8], counts: NDArray[np.int64], value: int) -> None:
    """Set what a shape covers, in an image that is one column after the other, without a plane for the shape."""
    ends = np.cumsum(counts)
    for start, end in zip(ends[:-1:2].tolist(), ends[1::2].tolist(), strict=True):
        column[start:end] = value


def _uncompressed(text: str) -> list[int]:
    """Run lengths of COCO's compressed form: digits to the base of 32, and differences to the run before the last."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64:
            raise ValueError(f"{character!r} isn't part of compressed run lengths")
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:  # the last digit, whose highest bit is the sign
            value -= (digit & 16) << (shift - 4)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its compressed run lengths end early")
    return counts


def _coder() -> Any:
    try:
        return importlib.import_module("pycocotools.mask")
    except ImportError as error:
        raise DataError("--data.coco needs pycocotools: pip install pycocotools") from error
