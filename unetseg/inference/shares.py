"""Which share of each image its classes have: counted as class maps come, kept as JSON lines."""

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from unetseg.atomic import atomic_path
from unetseg.errors import DataError, first_line

__all__ = ["NO_DATA", "ClassCounter", "SharesFile"]

NO_DATA = 255
"""Value of pixels without data in class maps."""


class ClassCounter:
    """Counts the classes of an image whose class map comes in blocks.

    Args:
        classes: Their names.
        multilabel: Whether pixels have any number of classes.

    Example:
        >>> counter = ClassCounter(["background", "road"])
        >>> counter.add(np.array([[0, 0, 1]], dtype=np.uint8))
        >>> counter.add(np.array([[0, 255, 255]], dtype=np.uint8))
        >>> counter.shares()
        {'background': 0.75, 'road': 0.25}
    """

    def __init__(self, classes: Sequence[str], *, multilabel: bool = False) -> None:
        self.classes = tuple(classes)
        self.multilabel = multilabel
        self._pixels = np.zeros(len(classes), np.int64)  # with data, for each class
        self._counts = np.zeros(len(classes), np.int64)

    def add(self, block: NDArray[np.uint8]) -> None:
        """Count a block.

        Args:
            block: (h, w) uint8 class indices, or for multilabel (classes, h, w) uint8 of 0 and 1; ``NO_DATA`` where
                there is no data.
        """
        if self.multilabel:
            values = np.stack([_value_counts(plane) for plane in block])
            self._pixels += values[:, 0] + values[:, 1]
            self._counts += values[:, 1]
        else:
            counts = _value_counts(block)[: len(self.classes)]
            self._pixels += counts.sum()
            self._counts += counts

    def shares(self) -> dict[str, float | None]:
        """Share of each class in the pixels with data, to six digits; None where no pixel has data.

        Of one class a pixel they sum to 1, of any number to anything up to the number of classes.
        """
        pairs = zip(self.classes, self._counts.tolist(), self._pixels.tolist(), strict=True)
        # digits, not decimals: few pixels of a large image aren't none
        return {name: float(f"{count / pixels:.6g}") if pixels else None for name, count, pixels in pairs}


def _value_counts(block: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(256,) pixels of each value. Counting pairs of neighbours takes half the time."""
    flat = np.ascontiguousarray(block).reshape(-1)  # planes of channels-last maps have steps
    even = flat.size // 2 * 2
    pairs = np.bincount(flat[:even].view(np.uint16), minlength=2**16).reshape(256, 256)
    counts: NDArray[np.int64] = pairs.sum(axis=0, dtype=np.int64) + pairs.sum(axis=1, dtype=np.int64)
    counts[flat[even:]] += 1
    return counts


class SharesFile:
    """``_shares.jsonl`` of an output folder: a line of JSON for each image, in ASCII.

    While images are predicted, each process adds lines to a file of its own, ``_shares.{start}.{process}.part``, where
    they outlive a kill. At the end one process merges these files, those of killed runs among them.

    Args:
        folder: The output folder.
        process: Number of this process; each of a run has its own.
        start: When the run began, as ``time.time_ns`` tells it; where runs had the same image, the latest counts.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name, SharesFile(Path(name)) as shares:
        ...     shares.add("deep/b.jpg", 5, 61, {"background": 0.75, "road": 0.25})
        ...     shares.merge(["deep/b.jpg"])
        ...     print((Path(name) / "_shares.jsonl").read_text(), end="")
        {"image": "deep/b.jpg", "height": 5, "width": 61, "classes": {"background": 0.75, "road": 0.25}}
    """

    def __init__(self, folder: Path, process: int = 0, *, start: int | None = None) -> None:
        self.folder = folder
        self.path = folder / "_shares.jsonl"
        start = time.time_ns() if start is None else start
        self._part = folder / f"_shares.{start:020}.{process:06}.part"  # sorted by names, the newest is the last
        self._file: BinaryIO | None = None
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the part file; it stays until it is merged."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def add(self, image: str, height: int, width: int, shares: Mapping[str, float | None]) -> None:
        """Add an image's line at once, so that a kill costs the one that is being written at most. Threads may do so.

        Args:
            image: Its name, as ``inputs.image_name`` makes it.
            height: In pixels.
            width: In pixels.
            shares: Of each class, None where no pixel has data.

        Raises:
            OSError: If it can't be written.
        """
        record = {"image": image, "height": height, "width": width, "classes": dict(shares)}
        # ASCII holds every name, even one that is no valid Unicode, and each of its lines ends with \n alone
        line = json.dumps(record, allow_nan=False).encode("ascii") + b"\n"
        with self._turn:
            if self._file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._file = self._part.open("ab")
            self._file.write(line)
            self._file.flush()

    def known(self) -> set[str]:
        """Images that have a line already, merged or not.

        Raises:
            DataError: If ``_shares.jsonl`` isn't such a file, or a file can't be read.
        """
        return {image for image, _ in self._lines(self._parts())}

    def merge(self, order: Iterable[str]) -> None:
        """Unite all parts with what ``_shares.jsonl`` holds, when no process adds lines any more.

        Args:
            order: Names of images, in the order that their lines get. Images that aren't among them follow.

        Raises:
            DataError: If ``_shares.jsonl`` isn't such a file, or a file can't be read.
            OSError: If it can't be written; the parts stay.
        """
        self.close()
        parts = self._parts()
        if not parts and not self.path.exists():
            return
        lines = dict(self._lines(parts))  # the last of an image is the newest
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            file.writelines(lines.pop(image) for image in order if image in lines)
            file.writelines(lines.values())
        for part in parts:
            part.unlink()

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("_shares.*.*.part"))

    def _lines(self, parts: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
        """Names and lines, the oldest first."""
        for path in (self.path, *parts):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise DataError(f"{path} can't be read: {first_line(error)} Give another --output.") from error
            for number, line in enumerate(content.split(b"\n"), start=1):
                image = _image_of(line)
                if image is not None:
                    yield image, line + b"\n"
                elif line and path == self.path:  # parts alone may end in a torn line
                    raise DataError(
                        f"{path}, line {number}, isn't the class shares of an image; move the file away, or give "
                        f"another --output."
                    )


def _image_of(line: bytes) -> str | None:
    """The image that a line is about; None for another line, or one that is cut off."""
    with contextlib.suppress(ValueError):
        record = json.loads(line)
        if isinstance(record, dict) and isinstance(record.get("image"), str):
            return str(record["image"])
    return None
