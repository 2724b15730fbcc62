"""Where pairs are, and what their masks mean: built-in scenes, files or shards, as the data module's options say."""

from collections.abc import Mapping
from typing import Any

from unetseg.data.built_in import built_in_sources
from unetseg.data.files import open_files
from unetseg.data.images import ImageReader
from unetseg.data.labels import ClassNames, Labels, class_names, parse_labels
from unetseg.data.shards import ShardSource, read_shards
from unetseg.data.sources import Source
from unetseg.data.splits import Split
from unetseg.data.synthetic import CLASSES
from unetseg.errors import DataError

__all__ = ["missing_split", "open_sources", "shard_settings"]


def open_sources(
    root: str | None,
    shards: str | None,
    classes: ClassNames | None,
    *,
    in_channels: int,
    max_value: float | None,
    ignore_index: int,
    synthetic_length: int,
    split_seed: int,
    **file_options: Any,
) -> tuple[Labels, ImageReader, dict[Split, Source]]:
    """Find the pairs of a data set, what their masks mean, and how images are read.

    Args:
        root: folder of files.
        shards: folder of shards; without either, the built-in scenes.
        classes: what was said of the classes.
        in_channels: channels of the images.
        max_value: value that stands for full brightness.
        ignore_index: value of pixels that belong to no class.
        synthetic_length: built-in scenes for training.
        split_seed: seed of a split that is drawn.
        **file_options: those that files alone have, see `unetseg.data.files.open_files`.

    Raises:
        DataError: if there is no such data set, or what was said doesn't go together.
    """
    if root is not None and shards is not None:
        raise DataError(
            f"--data.root {root} and --data.shards {shards} both say where the data is; leave one of them out, or set "
            f"the one that a checkpoint brings to null"
        )
    reader = ImageReader(in_channels, max_value)
    if root is not None:
        labels, files = open_files(
            root, classes, reader, ignore_index=ignore_index, split_seed=split_seed, **file_options
        )
        return labels, reader, dict(files)
    # a mapping is of colours, which a checkpoint knows of shards, too
    given = None if classes is None else list(class_names(classes))
    if shards is None:
        unlike = {"max_value": max_value, "in_channels": None if in_channels == 3 else in_channels}
        _refuse(
            file_options | unlike,
            "the built-in data is RGB, with one class a pixel; leave it out, or give your folder as --data.root",
        )
        if given is not None and given != list(CLASSES):
            raise DataError(
                f"--data.classes [{', '.join(given)}] without --data.root: the built-in data has the classes "
                f"{', '.join(CLASSES)}; leave out --data.classes, or give your folder as --data.root"
            )
        return parse_labels(CLASSES, ignore_index=ignore_index), reader, dict(built_in_sources(synthetic_length))
    return _open_shards(shards, given, reader, ignore_index, file_options)


def shard_settings(labels: Labels, reader: ImageReader) -> dict[str, Any]:
    """What shards must say of themselves, so that they can be opened without other options."""
    return {
        "classes": labels.plain_classes,
        "mask_format": "multilabel" if labels.mode == "multilabel" else "index",
        "ignore_index": labels.ignore_index,
        "in_channels": reader.in_channels,
        "max_value": reader.max_value,
    }


def missing_split(
    split: Split, root: str | None, *, shards: str | None, manifest: str | None, coco: str | Mapping[str, str] | None
) -> DataError:
    """Make the error for a split that there isn't: it says how one is added to such data."""
    if manifest:
        fix = f"give some of the pairs in {manifest} this split"
    elif isinstance(coco, Mapping):
        fix = f"add its file to --data.coco: '{{..., {split}: FILE.json}}'"
    elif root:
        fix = f"add {split}.txt{'' if coco else f', or {split}/ beside the others'}"
    else:
        fix = "pack data that has one"
    return DataError(f"{root or shards} has no {split} split; {fix}")


def _open_shards(
    folder: str, given: list[str] | None, reader: ImageReader, ignore_index: int, file_options: Mapping[str, Any]
) -> tuple[Labels, ImageReader, dict[Split, Source]]:
    shards = read_shards(folder)
    settings = shards.settings
    labels = parse_labels(
        settings["classes"], mask_format=settings["mask_format"], ignore_index=settings["ignore_index"]
    )
    if given is not None and given != list(labels.classes):
        raise DataError(
            f"--data.classes [{', '.join(given)}]: {folder} was packed with {', '.join(labels.classes)}; leave the "
            f"option out, or pack the data again"
        )
    if file_options["mask_format"] == labels.mask_format:  # a checkpoint says it again
        file_options = {**file_options, "mask_format": "index"}
    _refuse(file_options, "the shards know what their masks mean; leave it out, or pack the data again")
    for name, value in {"in_channels": reader.in_channels, "ignore_index": ignore_index}.items():
        if value != settings[name]:
            raise DataError(
                f"--data.{name} is {value}: {folder} was packed with {settings[name]}; give "
                f"--data.{name} {settings[name]}"
            )
    if reader.max_value not in (None, settings["max_value"]):
        raise DataError(
            f"--data.max_value is {reader.max_value}: {folder} was packed with {settings['max_value']}; leave it out"
        )
    reader = ImageReader(settings["in_channels"], settings["max_value"])
    return labels, reader, {split: ShardSource(shards.folder, split, reader) for split in shards.lengths}


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Refuse options that say something; None, "" and "index" don't."""
    if given := [name for name, value in options.items() if value not in (None, "", "index")]:
        raise DataError(f"--data.{given[0]} {options[given[0]]} without --data.root: {why}")
