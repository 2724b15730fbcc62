"""Small data sets on disk, and files that no library at hand writes."""

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image


@pytest.fixture
def make_pairs(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes pairs below a folder, by name or with a mask given for each name."""

    def write(
        pairs: Sequence[str] | Mapping[str, np.ndarray],
        folder: str = "data",
        *,
        image_suffix: str = ".png",
        mask_suffix: str = "",
        size: tuple[int, int] = (7, 5),
    ) -> Path:
        rng = np.random.default_rng(0)
        masks = pairs if isinstance(pairs, Mapping) else {name: np.eye(*size, dtype=np.uint8) for name in pairs}
        for name, mask in masks.items():
            image_path = tmp_path / folder / "images" / f"{name}{image_suffix}"
            mask_path = tmp_path / folder / "masks" / f"{name}{mask_suffix}.png"
            image_path.parent.mkdir(parents=True, exist_ok=True)
            mask_path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (*mask.shape[:2], 3), dtype=np.uint8)).save(image_path)
            Image.fromarray(mask).save(mask_path)
        return tmp_path / folder

    return write


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _write_png(
    path: Path,
    samples: np.ndarray,
    *,
    depth: int,
    palette: np.ndarray | None = None,
    before: Mapping[bytes, bytes] | None = None,
    behind: Mapping[bytes, bytes] | None = None,
) -> Path:
    height, width, channels = samples.shape
    colour_type = 3 if palette is not None else {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    if depth < 8:
        bits = samples[..., None] >> np.arange(depth)[::-1] & 1
        rows = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    else:
        rows = samples.astype(f">u{depth // 8}").reshape(height, -1).view(np.uint8)
    lines = np.pad(rows, ((0, 0), (1, 0)))  # each behind a zero, for "no filter"
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *(before or {}).items()]
    if palette is not None:
        chunks.append((b"PLTE", palette.astype(np.uint8).tobytes()))
    chunks += [(b"IDAT", zlib.compress(lines.tobytes())), *(behind or {}).items(), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks))
    return path


@pytest.fixture
def write_png() -> Callable[..., Path]:
    """Return a function that writes samples (H, W, C) as a PNG of a depth, with chunks before and behind the pixels."""
    return _write_png


@pytest.fixture
def exif_bytes() -> Callable[[int], bytes]:
    """Return a function that makes the content of an EXIF block that holds an orientation."""

    def make(orientation: int) -> bytes:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        return exif.tobytes()

    return make
