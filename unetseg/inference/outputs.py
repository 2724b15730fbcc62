"""What prediction leaves behind for an image: masks and, if wanted, an overlay, probabilities, polygons, shares."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from unetseg.config import check_choice
from unetseg.data.images import Pixels
from unetseg.drawing import topmost
from unetseg.errors import OptionError, UnetsegError, first_line
from unetseg.inference.description import ModelDescription
from unetseg.inference.gdal import has_rasterio
from unetseg.inference.inputs import SUFFIXES_OF, image_name
from unetseg.inference.legend import Legend
from unetseg.inference.polygons import PolygonWriter
from unetseg.inference.prediction import Block, Prediction
from unetseg.inference.raster_outputs import write_raster_outputs
from unetseg.inference.raster_reading import RasterImage
from unetseg.inference.shares import ClassCounter, SharesFile
from unetseg.inference.writers import write_mask, write_overlay, write_probabilities

__all__ = ["OutputWriter", "Save"]

Save = Literal["mask", "overlay", "probabilities", "polygons", "shares"]
"""What can be written for an image."""


class OutputWriter:
    """Writes what belongs to images, each file whole or not at all.

    With one class a pixel, an image has one mask of class indices. With any number, it has a mask of 0 and 1 in a
    folder for each class, as `unetseg.data.folder.find_samples` reads them.

    Args:
        folder: Folder of the outputs.
        description: Of the network that predicts; its colours are used if it has some.
        save: What to write.

    Raises:
        OptionError: If nothing is to be written, or something that doesn't exist.
    """

    def __init__(self, folder: Path, description: ModelDescription, save: Sequence[Save] = ("mask",)) -> None:
        for kind in save:
            check_choice("save", kind, Save)
        if not save:
            raise OptionError(f"save is empty; it can be any of {', '.join(get_args(Save))}.")
        if "polygons" in save and not has_rasterio():
            raise OptionError("polygons need rasterio, which isn't installed: pip install -e '.[raster]'")
        self.folder = folder
        self.save = set(save)
        self.multilabel = description.mode == "multilabel"
        self.legend = Legend.of(description.classes, description.colors, multilabel=self.multilabel)
        self._shares: SharesFile | None = None
        self._known: set[str] = set()

    @property
    def wants_probabilities(self) -> bool:
        """Whether a prediction must come with them."""
        return "probabilities" in self.save

    def begin(self, process: int, start: int) -> None:
        """Write what stands for all images, in the first process; look for what is there.

        Args:
            process: Number of this process.
            start: When the run began, of all processes the same: see ``SharesFile``.
        """
        if process == 0:
            self.legend.write(self.folder)
        if "shares" in self.save:
            self._shares = SharesFile(self.folder, process, start=start)
            self._known = self._shares.known()

    def end(self, images: Sequence[str]) -> None:
        """Bring together what several processes wrote; one does, when the others are done.

        Args:
            images: Names of all, in their order.
        """
        if self._shares is not None:
            self._shares.merge(images)

    def close(self) -> None:
        """Close what is open, however the run ended."""
        if self._shares is not None:
            self._shares.close()

    def is_done(self, source: Path, stem: Path) -> bool:
        """Whether all that is to be written for an image is there."""
        kinds = [kind for kind in self.save if kind != "shares"]
        ways = zip(*(SUFFIXES_OF[kind] for kind in kinds), strict=True)  # a raster's, or another image's
        there = not kinds or any(
            all(
                path.is_file()
                for kind, suffix in zip(kinds, way, strict=True)
                for path in self._paths(kind, stem, suffix)
            )
            for way in ways
        )
        return there and ("shares" not in self.save or image_name(source, stem) in self._known)

    def _paths(self, kind: str, stem: Path, suffix: str) -> list[Path]:
        folders = self.legend.folders if kind == "mask" and self.legend.folders is not None else [""]
        return [self.folder / name / f"{stem}{suffix}" for name in folders]

    def _path(self, kind: str, stem: Path, *, raster: bool = False) -> Path:
        return self._paths(kind, stem, SUFFIXES_OF[kind][raster])[0]

    def write(self, source: Path, stem: Path, image: Pixels, prediction: Prediction) -> None:
        """Write what belongs to an image.

        Args:
            source: Its file.
            stem: Its outputs' path below the folder, without suffix.
            image: (H, W, C), uint8 or float32 in [0, 1].
            prediction: What the predictor made of it.

        Raises:
            UnetsegError: If that can't be written, as on a full disk.
        """
        with self._named(source):
            self._write(source, stem, image, prediction)

    @contextmanager
    def _named(self, source: Path) -> Iterator[None]:
        """Say which image's outputs can't be written, as errors of files often have no name."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or first_line(error).rstrip(".")
            raise UnetsegError(f"the outputs of {source} can't be written to {self.folder}: {reason}.") from error

    def _write(self, source: Path, stem: Path, image: Pixels, prediction: Prediction) -> None:
        classes = prediction.classes
        planes = classes if self.multilabel else classes[None]
        if "overlay" in self.save:
            shown = topmost(classes) if self.multilabel else classes
            write_overlay(self._path("overlay", stem), image, shown, self.legend.overlay_colors)
        if prediction.probabilities is not None:
            write_probabilities(self._path("probabilities", stem), prediction.probabilities)
        if "polygons" in self.save:
            with PolygonWriter(self._path("polygons", stem)) as polygons:
                for plane, names in zip(planes, self.legend.mask_names, strict=True):
                    polygons.add(plane, names)
        if "mask" in self.save:
            paths = self._paths("mask", stem, SUFFIXES_OF["mask"][0])
            for path, plane, colors in zip(paths, planes, self.legend.mask_colors, strict=True):
                write_mask(path, plane, colors)
        counter = ClassCounter(self.legend.classes, multilabel=self.multilabel)
        self._count(counter, planes)
        self._add_shares(source, stem, image.shape[0], image.shape[1], counter)

    def write_raster(
        self,
        source: Path,
        stem: Path,
        raster: RasterImage,
        blocks: Iterable[Block],
        on_rows: Callable[[int], object] | None = None,
    ) -> None:
        """Write what belongs to an image with coordinates, or one that is read by windows, as its parts are predicted.

        Args:
            source: Its file.
            stem: As above.
            raster: The image.
            blocks: What the predictor makes of it, as ``Predictor.blocks`` gives it.
            on_rows: Told how many rows more are done.

        Raises:
            ImageError: If it is damaged, or doesn't fit the network.
            UnetsegError: If something can't be written.
        """
        with self._named(source):
            self._write_raster(source, stem, raster, blocks, on_rows)

    def _write_raster(
        self,
        source: Path,
        stem: Path,
        raster: RasterImage,
        blocks: Iterable[Block],
        on_rows: Callable[[int], object] | None,
    ) -> None:
        counter = ClassCounter(self.legend.classes, multilabel=self.multilabel)
        with ExitStack() as files:
            masks = self._paths("mask", stem, SUFFIXES_OF["mask"][1])
            if "mask" not in self.save:  # which polygons are made from
                masks = [files.enter_context(_passing(path)) for path in masks] if "polygons" in self.save else []
            for planes in write_raster_outputs(
                raster,
                blocks,
                self.legend,
                masks=masks,
                probabilities=self._path("probabilities", stem, raster=True) if self.wants_probabilities else None,
                overlays=self._path("overlay", stem, raster=True) if "overlay" in self.save else None,
            ):
                self._count(counter, planes)
                if on_rows is not None:
                    on_rows(planes.shape[1])
            if "polygons" in self.save:
                with PolygonWriter(self._path("polygons", stem)) as polygons:
                    for path, names in zip(masks, self.legend.mask_names, strict=True):
                        polygons.add_file(path, names)
        self._add_shares(source, stem, raster.height, raster.width, counter)

    def _count(self, counter: ClassCounter, planes: NDArray[np.uint8]) -> None:
        if self._shares is not None:
            counter.add(planes if self.multilabel else planes[0])

    def _add_shares(self, source: Path, stem: Path, height: int, width: int, counter: ClassCounter) -> None:
        if self._shares is not None:
            self._shares.add(image_name(source, stem), height, width, counter.shares())


@contextmanager
def _passing(path: Path) -> Iterator[Path]:
    """A hidden file beside one that isn't wanted, for a while."""
    hidden = path.with_name(f".{path.name}")
    try:
        yield hidden
    finally:
        hidden.unlink(missing_ok=True)
