"""A prediction of many files, which Lightning deals to its processes: read, predict and write at one time."""

import errno
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from tqdm import tqdm

from unetseg.data.images import Pixels
from unetseg.errors import ImageError, OptionError, UnetsegError
from unetseg.inference.inputs import image_name
from unetseg.inference.loading import grouped, load_ahead
from unetseg.inference.outputs import OutputWriter
from unetseg.inference.predictor import Block, Prediction, Predictor
from unetseg.inference.raster_reading import RasterImage, open_raster

__all__ = ["Outcome", "predict_files"]

# a process may have much larger images than another, which then waits for it
_PATIENCE = timedelta(days=2)
_LARGE = 64 * 2**20  # bytes of an image whose outputs are written before the next is predicted
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)  # no image after it can be written


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


def predict_files(
    predictor: Predictor,
    writer: OutputWriter,
    plan: Mapping[Path, Path],
    *,
    batch_size: int,
    threads: int,
    skip_existing: bool,
    trainer_options: Mapping[str, Any],
) -> Outcome | None:
    """Predict every file, each in one of the processes, and write what belongs to it.

    Args:
        predictor: What predicts.
        writer: What writes.
        plan: Each file's name below the output's folder, without suffix.
        batch_size: Most images of one size that are predicted together.
        threads: How many read, and how many write.
        skip_existing: Whether to pass over files whose outputs are there.
        trainer_options: Lightning's accelerator, devices and num_nodes.

    Returns:
        What became of the files of all processes; None in all processes but the first.
    """
    options = _as_launched(trainer_options)
    trainer = pl.Trainer(
        **options,
        strategy=DDPStrategy(process_group_backend="gloo", timeout=_PATIENCE) if _several(options) else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    job = _Job(predictor, writer, plan, batch_size=batch_size, threads=threads, skip_existing=skip_existing)
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix="outputs") as job.writers:
            trainer.predict(job, return_predictions=False)
    except SystemExit as error:  # that is what Lightning makes of Ctrl-C
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    finally:
        writer.close()
    return job.outcome


def _as_launched(options: Mapping[str, Any]) -> dict[str, Any]:
    """With as many processes and machines as torchrun has started, where nothing else is said."""
    launched = {"devices": os.environ.get("LOCAL_WORLD_SIZE"), "num_nodes": os.environ.get("GROUP_WORLD_SIZE")}
    defaults = {"devices": "auto", "num_nodes": 1}
    own = {name: int(count) for name, count in launched.items() if count and options[name] == defaults[name]}
    return {**options, **own}


def _several(options: Mapping[str, Any]) -> bool:
    """Whether there will be several processes; they exchange no tensors, so their group needs no NCCL."""
    if options["devices"] == "auto":
        gpus = torch.cuda.device_count() if options["accelerator"] in ("auto", "gpu", "cuda") else 0
        return gpus > 1 or options["num_nodes"] > 1
    return str(options["devices"]) != "1" or options["num_nodes"] > 1


@dataclass(frozen=True)
class _Loaded:
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


class _Job(pl.LightningModule):
    """Files as a loader of groups, a group as a step."""

    writers: ThreadPoolExecutor
    outcome: Outcome | None = None

    def __init__(
        self,
        predictor: Predictor,
        writer: OutputWriter,
        plan: Mapping[Path, Path],
        *,
        batch_size: int,
        threads: int,
        skip_existing: bool,
    ) -> None:
        super().__init__()
        self.network = predictor.network  # so that Lightning moves it
        self.predictor = predictor
        self.writer = writer
        self.plan = list(plan.items())
        self.batch_size, self.threads, self.skip_existing = batch_size, threads, skip_existing
        self.failures: dict[int, str] = {}
        self.written = self.skipped = 0
        self.pending: deque[tuple[_Loaded, Future[None]]] = deque()

    def setup(self, stage: str) -> None:
        """Let the first process decide which files there are, as the folders may be growing."""
        self.plan, start = self.trainer.strategy.broadcast((self.plan, time.time_ns()))
        self.writer.begin(self.trainer.global_rank, start)

    def predict_dataloader(self) -> "_Groups":
        """This process's share of the files."""
        return _Groups(self)

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """The predictor does that."""
        return batch

    def on_predict_start(self) -> None:
        """Follow the network to its device."""
        self.predictor.to(self.device)

    def predict_step(self, batch: list[_Loaded], batch_idx: int) -> int:
        """Predict a group, and leave the writing to the threads.

        Returns:
            How many files it had; Lightning warns of nothing.
        """
        try:
            self._predict(batch)
        except UnetsegError as error:
            if len(batch) == 1:
                self._failed(batch[0], error)
            else:  # together they may be too large
                for loaded in batch:
                    self.predict_step([loaded], batch_idx)
        self._finish(0 if sum(_bytes(loaded.image) for loaded in batch) > _LARGE else 2 * self.threads)
        return len(batch)

    def _predict(self, batch: list[_Loaded]) -> None:
        first = batch[0]
        if isinstance(first.image, ImageError):
            raise first.image
        if isinstance(first.image, RasterImage):
            self._finish(0)  # so that what is kept is one image's
            # of its rows, as it may take hours
            quiet = None if self.trainer.is_global_zero else True
            with (
                first.image,
                tqdm(total=first.image.height, desc=first.source.name, unit="row", leave=False, disable=quiet) as bar,
            ):
                blocks = self.predictor.blocks(first.image, probabilities=self.writer.wants_probabilities)
                self.writer.write_raster(first.source, first.stem, first.image, blocks, bar.update)
            self.written += 1
            return
        images: list[Any] = [loaded.image for loaded in batch]  # grouped by kind
        predictions = self.predictor.predict(images, probabilities=self.writer.wants_probabilities)
        for loaded, image, prediction in zip(batch, images, predictions, strict=True):
            self.pending.append((loaded, self.writers.submit(self._write, loaded, image, prediction)))

    def _write(self, loaded: _Loaded, image: Pixels, prediction: Prediction) -> None:
        if loaded.raster is None:
            self.writer.write(loaded.source, loaded.stem, image, prediction)
            return
        with loaded.raster:
            blocks = [Block(prediction.classes, prediction.probabilities)]
            self.writer.write_raster(loaded.source, loaded.stem, loaded.raster, blocks)

    def _finish(self, left: int) -> None:
        """Wait until no more than so many writings are under way."""
        while len(self.pending) > left:
            loaded, writing = self.pending.popleft()
            try:
                writing.result()
                self.written += 1
            except UnetsegError as error:
                self._failed(loaded, error)
            except MemoryError:
                self._failed(loaded, ImageError("too little memory to write it; --save less."))

    def _failed(self, loaded: _Loaded, error: UnetsegError) -> None:
        """Note what is wrong with an image; but where nothing more can be written, that is the end."""
        if isinstance(error, OptionError) or getattr(error.__cause__, "errno", None) in _HOPELESS:
            raise error
        if loaded.raster is not None:
            loaded.raster.close()
        self.failures[loaded.number] = _about(loaded.source, error)

    def on_predict_end(self) -> None:
        """Bring together what became of the files."""
        self._finish(0)
        own = (self.written, self.skipped, self.failures)
        shares: list[Any] = [own]
        if self.trainer.world_size > 1:
            shares = [None] * self.trainer.world_size
            dist.all_gather_object(shares, own)
        if self.trainer.is_global_zero:
            failures = {number: text for share in shares for number, text in share[2].items()}
            self.outcome = Outcome(
                sum(share[0] for share in shares),
                sum(share[1] for share in shares),
                [failures[number] for number in sorted(failures)],
            )
            self.writer.end([image_name(source, stem) for source, stem in self.plan])


class _Groups:
    """Groups of files that are predicted together, as a loader; it has no length, as sizes are met on the way."""

    def __init__(self, job: _Job) -> None:
        self.job = job

    def __iter__(self) -> Iterator[list[_Loaded]]:
        job = self.job
        rank, processes = job.trainer.global_rank, job.trainer.world_size
        share = [(number, *names) for number, names in enumerate(job.plan)][rank::processes]
        # over the first process's share, which is as large as another's
        bar = tqdm(total=len(share), desc="predict", unit="image", disable=None if rank == 0 else True)
        loaded = load_ahead(self._load, self._left(share, bar), threads=job.threads, ahead=2 * job.threads)
        with bar:
            for group in grouped(loaded, lambda one: one.kind, job.batch_size):
                yield group
                bar.update(len(group))

    def _left(self, share: list[tuple[int, Path, Path]], bar: Any) -> Iterator[tuple[int, Path, Path]]:
        for item in share:
            if self.job.skip_existing and self.job.writer.is_done(*item[1:]):
                self.job.skipped += 1
                bar.update()
            else:
                yield item

    def _load(self, item: tuple[int, Path, Path]) -> _Loaded:
        source, predictor = item[1], self.job.predictor
        try:
            raster = open_raster(source, predictor.read)
            if raster is not None:
                if predictor.is_tiled(raster.height, raster.width):
                    return _Loaded(*item, raster)
                if raster.georeference or raster.nodata is not None:
                    image = raster.read(0, 0, raster.height, raster.width)
                    return _Loaded(*item, image, (image.shape, image.dtype), raster)
                raster.close()
            image = predictor.read(source)
            return _Loaded(*item, image, None if predictor.is_tiled(*image.shape[:2]) else (image.shape, image.dtype))
        except ImageError as error:
            return _Loaded(*item, error)
        except MemoryError:
            return _Loaded(*item, ImageError("too little memory to read it; read fewer at once (--num_workers 1)."))


def _bytes(image: Pixels | RasterImage | ImageError) -> int:
    return image.nbytes if isinstance(image, np.ndarray) else 0


def _about(source: Path, error: UnetsegError) -> str:
    text = str(error)
    return text if str(source) in text else f"{source}: {text}"
