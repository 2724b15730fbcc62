"""Writing data sets as shards: all pairs in a few large files, with LitData."""

import io
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from unetseg.data.decoding import read_bytes
from unetseg.data.images import Pixels
from unetseg.data.shards import ABOUT, FORMAT, PAIRS, import_litdata
from unetseg.data.sources import FileSource, Source
from unetseg.data.splits import Split
from unetseg.data.transforms import initialise_worker
from unetseg.errors import DataError, UnetsegError

__all__ = ["write_shards"]

_LARGEST_SHARD_MB = 1024  # LitData counts a shard's bytes with 32 bits
_MASK_CODEC = [cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]
_MOST_ROWS, _MOST_PIXELS = 2**20, 2**30  # that OpenCV decodes


def write_shards(
    sources: Mapping[Split, Source],
    output: str | os.PathLike[str],
    settings: Mapping[str, Any],
    *,
    num_workers: int = 0,
    shard_mb: float = 64,
) -> None:
    """Write the pairs of each split into shards, all or nothing.

    Image files go in as they are, and images that come from no file as PNG; masks as PNG of class indices, and those of
    multilabel data as one PNG with a class below the other. Pairs of the training split are shuffled once, so that
    neighbours, such as the frames of a video, come into different shards. A run that is killed leaves a hidden folder
    beside ``output``, which can be removed.

    Args:
        sources: where the pairs come from.
        output: the folder to write; it mustn't exist, or be empty.
        settings: plain values that whoever reads the shards needs.
        num_workers: processes that read and encode pairs.
        shard_mb: size of a shard in 2^20 bytes; a larger pair has one for itself.

    Raises:
        DataError: if ``output`` can't be that folder, LitData is missing, or a mask can't be read.
        ImageError: if an image can't be read.
    """
    engine = import_litdata()
    folder = Path(output).absolute()
    _check_output(folder, output)
    if empty := [split for split, source in sources.items() if not len(source)]:
        raise DataError(f"the {empty[0]} split has no pairs; there must be one in each split")
    if not 0 < shard_mb <= _LARGEST_SHARD_MB:
        raise DataError(f"shard_mb {shard_mb}: must be above 0 and at most {_LARGEST_SHARD_MB}")
    # LitData would wait for the shards of the other processes.
    if (processes := int(os.environ.get("WORLD_SIZE") or 1)) > 1:
        raise DataError(f"shards are written by one process, and this is one of {processes}; start it without torchrun")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    lengths = {split: len(source) for split, source in sources.items()}
    about = {"format": FORMAT, "settings": dict(settings), "lengths": lengths}
    try:
        partial.mkdir(parents=True)
        (partial / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        with tqdm(total=sum(lengths.values()), desc="pack", unit="pair", disable=None) as bar:
            for split, source in sources.items():
                cache = engine.streaming.Cache(partial / split, chunk_bytes=max(1, round(shard_mb * 2**20)))
                pairs = _Encoded(source, shuffled=split == "train")
                _write_split(cache, pairs, partial / split / PAIRS, num_workers, bar)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except BaseException:  # an interruption, too
        shutil.rmtree(partial, ignore_errors=True)
        raise


class _Encoded(Dataset[Any]):
    """Pairs as they go into shards, with their size; an error in place of a pair that can't be read.

    Raised in a worker, the error would bring a traceback along.
    """

    def __init__(self, source: Source, *, shuffled: bool) -> None:
        self.source = source
        count = np.arange(len(source))
        self.order = np.random.default_rng(0).permutation(count) if shuffled else count

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[tuple[str, bytes, bytes], tuple[int, ...]] | UnetsegError:
        index, source = int(self.order[position]), self.source
        try:
            image, mask, name = source.read(index)
            if isinstance(source, FileSource):
                data = read_bytes(source.samples[index].image)
            else:
                data = _encoded_image(image, name)
            return (name, data, _encoded_mask(mask, name)), mask.shape
        except UnetsegError as error:
            return error


def _write_split(cache: Any, pairs: _Encoded, table: Path, num_workers: int, bar: Any) -> None:
    """Fill LitData's shards in order, and write names and sizes beside them."""
    loader: DataLoader[Any] = DataLoader(
        pairs, batch_size=None, num_workers=num_workers, collate_fn=_as_it_is, worker_init_fn=initialise_worker
    )
    rows = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "An item was larger than the target chunk size")
        for index, pair in enumerate(loader):
            if isinstance(pair, UnetsegError):
                raise pair
            # A tuple: LitData writes a dictionary in another way where pyarrow is installed.
            cache[index], (height, width, *planes) = pair
            rows.append((pair[0][0].encode(), height, width, *(planes or [0])))
            bar.update()
        cache.done()
        cache.merge()
    numbers = [(field, "<i4") for field in ("height", "width", "planes")]  # planes: 0 for masks of one class a pixel
    np.save(table, np.array(rows, [("name", f"S{max(len(row[0]) for row in rows)}"), *numbers]))


def _as_it_is(pair: Any) -> Any:
    return pair


def _check_output(folder: Path, typed: str | os.PathLike[str]) -> None:
    """Refuse what shards can't be written to."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{typed} is a file; name a new folder for the shards")
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{typed} exists and isn't empty; name a new folder for the shards, or remove this one")
    if folder.is_mount():  # what is written beside it would be on another disk
        raise DataError(f"{typed} is where a disk is mounted; name a new folder in it")


def _encoded_image(image: Pixels, name: str) -> bytes:
    """An image that comes from no file, (H, W, C), as PNG."""
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        raise DataError(f"{name}: {image.dtype} of {image.shape[2]} channels; without a file, only 8-bit grey or RGB")
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(file, "PNG")
    return file.getvalue()


def _encoded_mask(mask: NDArray[np.uint8], name: str) -> bytes:
    """A mask, (H, W), or the masks of K classes, (H, W, K), as a grey PNG of H or K * H rows."""
    rows = mask if mask.ndim == 2 else np.concatenate(np.moveaxis(mask, -1, 0))
    if rows.shape[0] > _MOST_ROWS or rows.size > _MOST_PIXELS:
        raise DataError(f"{name}: masks of {rows.size} pixels are too many for a pair in shards; cut it into tiles")
    done, data = cv2.imencode(".png", rows, _MASK_CODEC)
    if not done:
        raise DataError(f"{name}: its mask can't be encoded as PNG")
    return data.tobytes()
