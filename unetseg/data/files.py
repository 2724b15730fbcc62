"""Data sets of files: from what was said of them to labels and sources."""

from collections.abc import Mapping
from pathlib import Path

from unetseg.data.coco import CocoMaskReader, category_names, find_coco_samples, read_annotations
from unetseg.data.folder import find_samples
from unetseg.data.images import ImageReader
from unetseg.data.labels import ClassNames, Labels, MaskFormat, ValueMap, parse_labels
from unetseg.data.manifest import read_manifest
from unetseg.data.sources import FileSource
from unetseg.data.splits import Sample, Split
from unetseg.data.survey import missing_classes
from unetseg.errors import DataError

__all__ = ["open_files"]

BACKGROUND = "background"


def open_files(
    root: str,
    classes: ClassNames | None,
    image_reader: ImageReader,
    *,
    mask_format: MaskFormat,
    ignore_index: int,
    value_map: ValueMap | None,
    mask_suffix: str,
    manifest: str | None,
    coco: str | Mapping[str, str] | None,
    split_seed: int,
) -> tuple[Labels, dict[Split, FileSource]]:
    """Find the pairs of a data set and what their masks mean.

    Args:
        root: folder of the data set.
        classes: see `unetseg.data.labels.parse_labels`, also for the next three. None: a COCO file's categories, after
            "background" where a pixel has one class; or the folders of multilabel masks.
        image_reader: reads the images.
        mask_format: what the values of a mask file are.
        ignore_index: value of pixels that belong to no class.
        value_map: class of each mask value.
        mask_suffix: see `unetseg.data.folder.find_samples`.
        manifest: see `unetseg.data.manifest.read_manifest`.
        coco: see `unetseg.data.coco.find_coco_samples`.
        split_seed: seed of the split that is drawn where nobody has split the data.

    Raises:
        DataError: if there is no such data set, or what was said doesn't go together.
    """
    folder = Path(root)
    if manifest is not None and coco is not None:
        raise DataError("--data.manifest and --data.coco both say where the masks are; leave one of them out")
    if mask_suffix and (manifest or coco):
        raise DataError("--data.mask_suffix is for masks in folders; leave it, or --data.manifest and --data.coco, out")
    if coco is not None:
        if mask_format == "binary" or value_map is not None or isinstance(classes, Mapping):
            raise DataError(
                "--data.coco has no mask files; leave out mask_format binary, value_map and colours of classes"
            )
        return _open_coco(folder, classes, image_reader, mask_format, ignore_index, coco, split_seed)
    multilabel = mask_format == "multilabel"
    if manifest is None and classes is None and multilabel:
        classes = _mask_folders(folder)
    labels = None
    if classes is not None:
        labels = parse_labels(classes, mask_format=mask_format, ignore_index=ignore_index, value_map=value_map)
    if manifest is not None:
        samples = read_manifest(_below(folder, manifest), folder)
        _check_manifest_masks(manifest, samples, labels, multilabel)
    else:
        mask_classes = labels.classes if labels and multilabel else None
        samples = find_samples(root, split_seed=split_seed, mask_suffix=mask_suffix, mask_classes=mask_classes)
    if labels is None:
        if multilabel:
            raise DataError("--data.classes is missing: a manifest of multilabel masks needs the names of the classes")
        raise missing_classes(root, [sample for part in samples.values() for sample in part])
    reader = labels.mask_reader()
    return labels, {split: FileSource(part, image_reader, reader) for split, part in samples.items()}


def _open_coco(
    folder: Path,
    classes: ClassNames | None,
    image_reader: ImageReader,
    mask_format: MaskFormat,
    ignore_index: int,
    coco: str | Mapping[str, str],
    split_seed: int,
) -> tuple[Labels, dict[Split, FileSource]]:
    files = (
        _below(folder, coco) if isinstance(coco, str) else {name: _below(folder, file) for name, file in coco.items()}
    )
    annotations = {path: read_annotations(path) for path in (files.values() if isinstance(files, dict) else [files])}
    names: dict[str, None] = dict.fromkeys(name for content in annotations.values() for name in category_names(content))
    ground = [] if mask_format == "multilabel" else [BACKGROUND]
    if classes is None:
        classes = [*ground, *(name for name in names if name not in ground)]
    labels = parse_labels(classes, mask_format=mask_format, ignore_index=ignore_index)
    if ground and labels.classes[0] in names and labels.classes[0] != BACKGROUND:
        raise DataError(
            f"--data.classes: the first class is what no shape covers, and {labels.classes[0]} is a category; put "
            f"another name before it: [{BACKGROUND}, {', '.join(labels.classes)}]"
        )
    if unknown := [name for name in labels.classes[len(ground) :] if name not in names]:
        first = f"; the first class, {labels.classes[0]}, is what no shape covers" if ground else ""
        raise DataError(f"--data.classes: {unknown[0]} is no category; there are {', '.join(names)}{first}")
    samples = find_coco_samples(files, annotations, folder, split_seed=split_seed)
    reader = CocoMaskReader(labels.classes, labels.mode)
    return labels, {split: FileSource(part, image_reader, reader) for split, part in samples.items()}


def _below(folder: Path, file: str) -> Path:
    """A file as it was typed, or below the data set's folder."""
    return Path(file) if Path(file).is_file() else folder / file


def _mask_folders(folder: Path) -> list[str] | None:
    """Names of the folders of multilabel masks."""
    masks = next((path for path in (folder / "masks", folder / "train" / "masks") if path.is_dir()), None)
    if masks is None:
        return None
    return sorted(path.name for path in masks.iterdir() if path.is_dir() and not path.name.startswith(".")) or None


def _check_manifest_masks(
    manifest: str, samples: Mapping[Split, list[Sample]], labels: Labels | None, multilabel: bool
) -> None:
    for sample in (sample for part in samples.values() for sample in part):
        if isinstance(sample.mask, Mapping) != multilabel:
            has, fix = (
                ("one mask", "a mask a class") if multilabel else ("a mask a class", "--data.mask_format multilabel")
            )
            raise DataError(f"{manifest}: {sample.name} has {has}; with this --data.mask_format it needs {fix}")
        if labels and multilabel and (unknown := sorted(set(sample.mask) - set(labels.classes))):
            raise DataError(
                f"{manifest}: {sample.name} has a mask for {unknown[0]}; the classes are {', '.join(labels.classes)}"
            )
