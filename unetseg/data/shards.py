"""Reading data sets that are shards: pairs in a few large files, by number, with LitData."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unetseg.data.images import ImageReader
from unetseg.data.sources import Pair
from unetseg.data.splits import SPLITS, Split
from unetseg.errors import DataError, first_line

__all__ = ["ABOUT", "FORMAT", "PAIRS", "ShardSource", "Shards", "import_litdata", "read_shards"]

FORMAT = 1
ABOUT, PAIRS, _INDEX = "unetseg.json", "pairs.npy", "index.json"  # the last is LitData's own


@dataclass(frozen=True)
class Shards:
    """What a folder of shards says of itself.

    Attributes:
        folder: where it is.
        settings: what `unetseg.data.shard_writer.write_shards` was given.
        lengths: number of pairs of each split that there is.
    """

    folder: Path
    settings: dict[str, Any]
    lengths: dict[Split, int]


def read_shards(folder: str | os.PathLike[str]) -> Shards:
    """Read what a folder of shards says of itself; it needs no LitData.

    Raises:
        DataError: if there is no such folder, or it holds no shards that this version reads.
    """
    path = Path(folder)
    how = "python -m unetseg pack --data.root FOLDER --output SHARDS writes one"
    if not path.is_dir():
        raise DataError(f"{folder}: there is no such folder; {how}")
    if not (path / ABOUT).is_file():
        raise DataError(f"{folder} is no folder of shards, for it has no {ABOUT}; {how}")
    try:
        about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
        version, settings, lengths = about["format"], dict(about["settings"]), dict(about["lengths"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path / ABOUT} can't be read: {first_line(error)} Copy the folder again") from error
    if version != FORMAT:
        raise DataError(
            f"{folder} has shards of format {version}, and this version reads {FORMAT}; pack the data again"
        )
    return Shards(path, settings, {split: lengths[split] for split in SPLITS if split in lengths})


class ShardSource:
    """Pairs of a split in shards, by number, see `unetseg.data.sources.Source`.

    It can be sent to other processes, each of which opens the shards by itself. Nothing is ever written.

    Args:
        folder: what `unetseg.data.shard_writer.write_shards` wrote.
        split: which of its splits.
        image_reader: decodes the images.

    Attributes:
        shard_sizes: number of pairs in each shard, in their order.

    Raises:
        DataError: if there is no such split, a file of it is missing or cut short, or LitData is missing.
    """

    def __init__(self, folder: str | os.PathLike[str], split: Split, image_reader: ImageReader) -> None:
        import_litdata()
        self.folder = Path(folder, split)
        self.image_reader = image_reader
        self._pairs = self._open_pairs()
        self.shard_sizes = self._check_files()
        self._opened: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return len(self._pairs)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pairs": None, "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pairs = self._open_pairs()

    def name(self, index: int) -> str:
        """What a pair is called."""
        return bytes(self._pairs[index]["name"]).decode()

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of a pair, from a table."""
        pair = self._pairs[index]
        return int(pair["height"]), int(pair["width"])

    def read(self, index: int) -> Pair:
        """Read a pair, see `unetseg.data.sources.Source`."""
        name, data, mask_data = self._stored(index)
        return self.image_reader.decode(data, self._called(name)), self._decoded_mask(index, name, mask_data), name

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        """Read a mask; the image's bytes lie beside it."""
        name, _, mask_data = self._stored(index)
        return self._decoded_mask(index, name, mask_data)

    def _stored(self, index: int) -> tuple[str, bytes, bytes]:
        """Name, image file and mask file of a pair."""
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index}: there are {len(self)}, numbered from 0")
        try:
            name, data, mask_data = self._open_shards()[int(index)]
        except Exception as error:  # of a damaged file, nearly any
            raise DataError(
                f"{self.folder}: the shard of pair {index} can't be read: {first_line(error)} Copy the folder again, "
                f"or pack the data again"
            ) from error
        return str(name), bytes(data), bytes(mask_data)

    def _called(self, name: str) -> str:
        """What an error calls a pair."""
        return f"{name} in {self.folder}"

    def _decoded_mask(self, index: int, name: str, data: bytes) -> NDArray[np.uint8]:
        return _decoded_mask(data, int(self._pairs[index]["planes"]), self._called(name))

    def _open_pairs(self) -> NDArray[Any]:
        """The table of names and sizes, which stays on disk."""
        try:
            table: NDArray[Any] = np.load(self.folder / PAIRS, mmap_mode="r")
        except FileNotFoundError as error:
            raise DataError(f"{self.folder.parent} has no {self.folder.name} split in shards") from error
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{self.folder / PAIRS} can't be read: {first_line(error)} Copy the folder again"
            ) from error
        return table

    def _open_shards(self) -> Any:
        """LitData's reader, one a process: forked ones would share the position in an open file."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), import_litdata().StreamingDataset(self.folder.absolute())
        return self._opened[1]

    def _check_files(self) -> list[int]:
        """Look that all shards are there, for LitData would wait for one that isn't; return their numbers of pairs."""
        try:
            shards = json.loads((self.folder / _INDEX).read_text(encoding="utf-8"))["chunks"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{self.folder / _INDEX} can't be read: {first_line(error)} Copy the folder again"
            ) from error
        there = {entry.name: entry.stat().st_size for entry in os.scandir(self.folder)}
        broken = [shard["filename"] for shard in shards if there.get(shard["filename"], -1) < shard["chunk_bytes"]]
        if broken:
            raise DataError(
                f"{self.folder}: {len(broken)} of {len(shards)} shards are missing or cut short (first: {broken[0]}); "
                f"copy the folder again"
            )
        sizes = [int(shard["chunk_size"]) for shard in shards]
        if sum(sizes) != len(self):
            raise DataError(
                f"{self.folder}: {_INDEX} has {sum(sizes)} pairs and {PAIRS} {len(self)}; they are of different data "
                f"sets, so pack the data again"
            )
        return sizes


def _decoded_mask(data: bytes, planes: int, name: str) -> NDArray[np.uint8]:
    """Mask (H, W) of a PNG; or (H, W, K) of one with K masks below each other, where ``planes`` is K and not 0."""
    rows = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if rows is None:
        raise DataError(f"{name}: its mask is damaged; copy the folder again")
    mask = rows.astype(np.uint8, copy=False)
    if not planes:
        return mask
    return np.ascontiguousarray(np.moveaxis(mask.reshape(planes, -1, mask.shape[1]), 0, -1))


def import_litdata() -> Any:
    """Import LitData, which is an extra, when it is needed.

    Raises:
        DataError: if it is missing.
    """
    # Before the import, which reads them: no question to PyPI, and no pairs decoded beside the one that is asked for.
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    os.environ.setdefault("LITDATA_BATCH_DECODE", "0")
    try:
        import litdata
        import litdata.streaming
    except ImportError as error:
        raise DataError(
            "shards need LitData: pip install 'litdata>=0.2.70', or -e '.[shards]' in a clone of this repository"
        ) from error
    return litdata
