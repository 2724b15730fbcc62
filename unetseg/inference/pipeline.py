"""Files in, their outputs written: read, predict and write at one time, in one process."""

import errno
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unetseg.data.images import Pixels
from unetseg.errors import ImageError, OptionError, UnetsegError
from unetseg.inference.base import BasePredictor
from unetseg.inference.inputs import image_name
from unetseg.inference.loading import grouped, load_ahead
from unetseg.inference.outputs import OutputWriter
from unetseg.inference.prediction import Block, Prediction
from unetseg.inference.progress import Bar, progress_bar
from unetseg.inference.raster_reading import RasterImage, open_raster

__all__ = ["FilePipeline", "Loaded", "Outcome", "Tally", "predict_here"]

_LARGE = 64 * 2**20  # bytes of an image whose outputs are written before the next is predicted
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # no image after it can be written

Tally = tuple[int, int, dict[int, str]]
"""Of a process: how many images were predicted, how many had been before, and what is wrong with the others, by their
place in the plan."""


@dataclass(frozen=True)
class Outcome:
    """What became of the files.

    Attributes:
        written: How many images were predicted.
        skipped: How many had been before.
        failures: What is wrong with each of the others, in the order of the inputs.
    """

    written: int
    skipped: int
    failures: list[str]

    @classmethod
    def of(cls, tallies: Sequence[Tally]) -> "Outcome":
        """From those of all processes.

        Example:
            >>> Outcome.of([(2, 0, {3: "b.png: empty"}), (1, 1, {0: "a.png: empty"})])
            Outcome(written=3, skipped=1, failures=['a.png: empty', 'b.png: empty'])
        """
        failures = {number: text for tally in tallies for number, text in tally[2].items()}
        return cls(
            written=sum(tally[0] for tally in tallies),
            skipped=sum(tally[1] for tally in tallies),
            failures=[failures[number] for number in sorted(failures)],
        )


@dataclass(frozen=True)
class Loaded:
    """A file as it was found.

    Attributes:
        number: Place in the plan.
        source: The file.
        stem: Its outputs' path, without suffix.
        image: Its pixels; or itself, to be read by windows; or what is wrong with it.
        kind: Equal for images that can be predicted together; None for one that stays alone.
        raster: What gives its outputs their coordinates.
    """

    number: int
    source: Path
    stem: Path
    image: Pixels | RasterImage | ImageError
    kind: object | None = None
    raster: RasterImage | None = None


class FilePipeline:
    """Predicts a process's share of the files, and writes what belongs to them.

    Args:
        predictor: What predicts.
        writer: What writes.
        plan: Each file, and its outputs' path without suffix.
        batch_size: Most images of one size that are predicted together.
        threads: How many read, and how many write.
        skip_existing: Whether to pass over files whose outputs are there.

    Attributes:
        writers: Threads that write, open for as long as ``predict`` is called.
    """

    writers: ThreadPoolExecutor

    def __init__(
        self,
        predictor: BasePredictor,
        writer: OutputWriter,
        plan: Mapping[Path, Path],
        *,
        batch_size: int,
        threads: int,
        skip_existing: bool,
    ) -> None:
        self.predictor = predictor
        self.writer = writer
        self.plan = list(plan.items())
        self.batch_size, self.threads, self.skip_existing = batch_size, threads, skip_existing
        self._failures: dict[int, str] = {}
        self._written = self._skipped = 0
        self._pending: deque[tuple[Loaded, Future[None]]] = deque()
        self._shows_bars = True

    def groups(self, process: int = 0, processes: int = 1) -> Iterator[list[Loaded]]:
        """Read the share of a process.

        Args:
            process: Its number; the first shows how far it is.
            processes: How many there are.

        Returns:
            Files that are predicted together; sizes are met on the way, so nobody knows how many groups there are.
        """
        self._shows_bars = process == 0
        share = [(number, *names) for number, names in enumerate(self.plan)][process::processes]
        # over the first process's share, which is as large as another's
        with progress_bar(len(share), "predict", "image", shown=self._shows_bars) as bar:
            loaded = load_ahead(self._load, self._left(share, bar), threads=self.threads, ahead=2 * self.threads)
            for group in grouped(loaded, lambda one: one.kind, self.batch_size):
                yield group
                bar.update(len(group))

    def predict(self, group: list[Loaded]) -> None:
        """Predict files that were read together, and leave the writing to the threads.

        Raises:
            UnetsegError: If nothing more can be written.
        """
        try:
            self._predict(group)
        except UnetsegError as error:
            if len(group) == 1:
                self._failed(group[0], error)
            else:  # together they may be too large
                for loaded in group:
                    self.predict([loaded])
        self.finish(0 if sum(_bytes(loaded.image) for loaded in group) > _LARGE else 2 * self.threads)

    def finish(self, left: int = 0) -> Tally:
        """Wait until no more than so many writings are under way, and tell what became of the files so far."""
        while len(self._pending) > left:
            loaded, writing = self._pending.popleft()
            try:
                writing.result()
                self._written += 1
            except UnetsegError as error:
                self._failed(loaded, error)
            except MemoryError:
                self._failed(loaded, ImageError("too little memory to write it; --save less."))
        return self._written, self._skipped, self._failures

    def end(self) -> None:
        """Bring together what several processes wrote; one does, when the others are done."""
        self.writer.end([image_name(source, stem) for source, stem in self.plan])

    def _predict(self, group: list[Loaded]) -> None:
        first = group[0]
        if isinstance(first.image, ImageError):
            raise first.image
        if isinstance(first.image, RasterImage):
            self.finish()  # so that what is kept is one image's
            # of its rows, as it may take hours
            bar = progress_bar(first.image.height, first.source.name, "row", shown=self._shows_bars, leave=False)
            with first.image, bar:
                blocks = self.predictor.blocks(first.image, probabilities=self.writer.wants_probabilities)
                self.writer.write_raster(first.source, first.stem, first.image, blocks, bar.update)
            self._written += 1
            return
        images: list[Any] = [loaded.image for loaded in group]  # grouped by kind
        predictions = self.predictor.predict(images, probabilities=self.writer.wants_probabilities)
        for loaded, image, prediction in zip(group, images, predictions, strict=True):
            self._pending.append((loaded, self.writers.submit(self._write, loaded, image, prediction)))

    def _write(self, loaded: Loaded, image: Pixels, prediction: Prediction) -> None:
        if loaded.raster is None:
            self.writer.write(loaded.source, loaded.stem, image, prediction)
            return
        with loaded.raster:
            blocks = [Block(prediction.classes, prediction.probabilities)]
            self.writer.write_raster(loaded.source, loaded.stem, loaded.raster, blocks)

    def _failed(self, loaded: Loaded, error: UnetsegError) -> None:
        """Note what is wrong with an image; but where nothing more can be written, that is the end."""
        if isinstance(error, OptionError) or getattr(error.__cause__, "errno", None) in _HOPELESS:
            raise error
        if loaded.raster is not None:
            loaded.raster.close()
        self._failures[loaded.number] = _about(loaded.source, error)

    def _left(self, share: list[tuple[int, Path, Path]], bar: Bar) -> Iterator[tuple[int, Path, Path]]:
        for item in share:
            if self.skip_existing and self.writer.is_done(*item[1:]):
                self._skipped += 1
                bar.update()
            else:
                yield item

    def _load(self, item: tuple[int, Path, Path]) -> Loaded:
        source, predictor = item[1], self.predictor
        try:
            raster = open_raster(source, predictor.read)
            if raster is not None:
                if predictor.is_tiled(raster.height, raster.width):
                    return Loaded(*item, raster)
                if raster.georeference or raster.nodata is not None:
                    image = raster.read(0, 0, raster.height, raster.width)
                    return Loaded(*item, image, (image.shape, image.dtype), raster)
                raster.close()
            image = predictor.read(source)
            return Loaded(*item, image, None if predictor.is_tiled(*image.shape[:2]) else (image.shape, image.dtype))
        except ImageError as error:
            return Loaded(*item, error)
        except MemoryError:
            return Loaded(*item, ImageError("too little memory to read it; read fewer at once (--num_workers 1)."))


def _bytes(image: Pixels | RasterImage | ImageError) -> int:
    return image.nbytes if isinstance(image, np.ndarray) else 0


def _about(source: Path, error: UnetsegError) -> str:
    text = str(error)
    return text if str(source) in text else f"{source}: {text}"


def predict_here(pipeline: FilePipeline) -> Outcome:
    """Predict all files in this process.

    Args:
        pipeline: What is to be done.
    """
    try:
        pipeline.writer.begin(0, time.time_ns())
        with ThreadPoolExecutor(pipeline.threads, thread_name_prefix="outputs") as pipeline.writers:
            for group in pipeline.groups():
                pipeline.predict(group)
            tally = pipeline.finish()
        pipeline.end()
    finally:
        pipeline.writer.close()
    return Outcome.of([tally])
