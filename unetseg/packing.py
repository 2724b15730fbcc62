"""The verb pack: a data set written into a few large files, for training from a slow or a shared disk."""

import sys
from collections.abc import Sequence
from pathlib import Path

from unetseg.data.built_in import SceneSource
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.data.shard_writer import write_shards
from unetseg.data_parser import DataParser
from unetseg.errors import DataError

__all__ = ["main"]

_DESCRIPTION = """Write the pairs of a data set into shards, which `fit --data.shards` trains from: the image files as
they are, masks as class indices. Any --data option of `fit` that says where pairs are and what masks mean can be given;
what masks mean is then part of the shards. Needs LitData."""


def main(args: Sequence[str]) -> None:
    """Write shards.

    Args:
        args: options of the verb.

    Raises:
        UnetsegError: if there is no such data set, a pair can't be read, or the shards can't be written there.
        SystemExit: with code 2, for options that can't be parsed (already explained), or 0 for ``--help``.
    """
    parser = DataParser("pack", _DESCRIPTION)
    parser.add_argument("--output", type=Path, required=True, help="folder for the shards; new, or empty")
    parser.add_argument("--shard_mb", type=float, default=64.0, help="size of a shard in MiB")
    options = parser.parse_args(list(args))
    data = SegmentationDataModule(**options.data)
    if any(isinstance(source, SceneSource) for source in data.sources.values()):
        raise DataError("pack writes your own data into shards: give its folder as --data.root")
    sys.stdout.write(f"{data.description}\n")
    sys.stdout.flush()  # before the bar
    write_shards(
        data.sources, options.output, data.shard_settings, num_workers=data.num_workers, shard_mb=options.shard_mb
    )
    # what the model must know before the shards are opened
    unusual = "" if data.in_channels == 3 else f" --data.in_channels {data.in_channels}"
    unusual += "" if data.labels.ignore_index == 255 else f" --data.ignore_index {data.labels.ignore_index}"
    sys.stdout.write(
        f"packed into {options.output}\nnext: python -m unetseg fit --data.shards {options.output}{unusual}\n"
    )
