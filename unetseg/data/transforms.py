"""Augmentation of training pairs: a built-in one, or one of albumentations' own transforms."""

import math
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from lightning_fabric.utilities.seed import pl_worker_init_function
from numpy.typing import NDArray

from unetseg.data.pipeline import A, build_pipeline
from unetseg.errors import DataError, first_line

__all__ = ["TrainingTransform", "initialise_worker"]


class TrainingTransform:
    """Random scale, crop, flips and colours for an image and its mask, or other transforms before the crop.

    A call follows from its seed alone, in whatever process. Without one, it draws a seed from torch's global
    generator, for albumentations' own generators would be the same in all workers and, where workers are
    started anew, in all epochs. Torch's differ in both, and ``torch.manual_seed`` repeats them.

    Masks are only ever sampled, never blended; pixels that padding adds to them are ``ignore_index``.

    Args:
        crop_size: side of the square crop in pixels; smaller pairs are padded to it.
        ignore_index: value of padding in the mask, 0 to 255; in the image it is 0, black.
        scale_range: smallest and largest factor on the size before the crop.
        horizontal_flip: mirror left and right half of the time.
        vertical_flip: mirror top and bottom half of the time.
        color_jitter: strength in [0, 1]: brightness, contrast and saturation are multiplied by factors in
            1 ± this, and the hue turns by at most a sixth of this part of the colour circle. Images that aren't RGB
            have no saturation and no hue. Any strength above 0 clips float32 images to [0, 1].
        transforms: transforms in place of scale, flips and colours, as `unetseg.data.pipeline.build_pipeline` reads
            them; the crop follows them. None: scale, flips and colours.
        in_channels: channels of the images.
        rank: number of the process in distributed training; without seeds, ranks share torch's, but not the draws.

    Raises:
        DataError: if a number is out of its range, or ``transforms`` can't be built.

    Example:
        >>> transform = TrainingTransform(crop_size=32, ignore_index=255)
        >>> image, mask = transform(np.zeros((37, 11, 3), np.uint8), np.zeros((37, 11), np.uint8))
        >>> image.shape, np.unique(mask).tolist()
        ((32, 32, 3), [0, 255])
    """

    def __init__(
        self,
        *,
        crop_size: int,
        ignore_index: int,
        scale_range: Sequence[float] = (0.6, 1.6),
        horizontal_flip: bool = True,
        vertical_flip: bool = False,
        color_jitter: float = 0.3,
        transforms: Sequence[Mapping[str, Any] | str] | None = None,
        in_channels: int = 3,
        rank: int = 0,
    ) -> None:
        if crop_size < 1:
            raise DataError(f"crop_size {crop_size}: must be at least 1")
        if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1] < math.inf:
            raise DataError(f"scale_range {list(scale_range)}: must be two numbers, 0 < smallest <= largest")
        if not 0 <= color_jitter <= 1:
            raise DataError(f"color_jitter {color_jitter}: must be in 0..1")
        if in_channels < 1:
            raise DataError(f"in_channels {in_channels}: must be at least 1")
        self.rank = rank
        self._builtin = transforms is None
        first = [] if transforms is None else build_pipeline(transforms, ignore_index=ignore_index)
        last: list[A.BasicTransform] = []
        with warnings.catch_warnings():
            # An argument that it doesn't know is only warned of: a renamed one would pad masks with class 0.
            warnings.simplefilter("error", UserWarning)
            if self._builtin:
                first = _scale(scale_range, ignore_index)
                last = [*_flips(horizontal_flip, vertical_flip), *_colours(color_jitter, in_channels)]
            crop = [_pad(crop_size, ignore_index), A.RandomCrop(crop_size, crop_size)]
            self._compose = A.Compose([*first, *crop, *last])  # colours last, on the crop alone

    def __call__(
        self, image: NDArray[Any], mask: NDArray[np.uint8], *, seed: int | None = None
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Augment a pair.

        Args:
            image: (H, W, C) uint8, or float32 in [0, 1].
            mask: (H, W) uint8, or (H, W, K) uint8 with a mask for each of K classes.
            seed: of all random choices, at least 0. None: torch's generator and the rank decide.

        Returns:
            The image, (S, S, C), and the mask, (S, S) or (S, S, K), of the same types; S is ``crop_size``.

        Raises:
            DataError: if one of ``transforms`` fails on this pair, or changes the image's channels or type.
        """
        self._reseed(seed)
        # Of a mask with channels, OpenCV would fill only the first with `ignore_index`, and others with 0.
        masks = {"mask": mask} if mask.ndim == 2 else {"masks": np.ascontiguousarray(np.moveaxis(mask, -1, 0))}
        try:
            augmented = self._compose(image=image, **masks)
        except Exception as error:  # a transform may raise anything
            if self._builtin:
                raise
            raise DataError(
                f"data.transforms failed on an image of {_described(image)}: {first_line(error)}"
            ) from error
        result = augmented["image"]
        if result.ndim == 2:
            result = result[..., np.newaxis]
        if (result.shape[2], result.dtype) != (image.shape[2], image.dtype):
            raise DataError(
                f"data.transforms made {_described(result)} of an image of {_described(image)}; channels and type must "
                "stay as they are"
            )
        if mask.ndim == 2:
            return result, augmented["mask"]
        return result, np.ascontiguousarray(np.moveaxis(augmented["masks"], 0, -1))

    def _reseed(self, seed: int | None) -> None:
        """Give all steps one generator, of a seed or of torch's generator and the rank."""
        entropy = [int(torch.randint(2**63 - 1, ())), self.rank] if seed is None else [seed]
        generator = np.random.default_rng(entropy)
        # Not `set_random_seed`: it seeds each step alike, and the two flips would always agree.
        self._compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))


def initialise_worker(worker_id: int, *, rank: int = 0) -> None:
    """Prepare a worker process of a data loader: its generators, and no threads of OpenCV's own.

    Args:
        worker_id: number of the worker.
        rank: number of the process in distributed training.
    """
    pl_worker_init_function(worker_id, rank)  # Lightning installs it only where there is no other
    cv2.setNumThreads(0)  # workers already fill the cores, and OpenCV's threads may hang after a fork


def _pad(side: int, ignore_index: int) -> A.PadIfNeeded:
    """Pad both sides to at least ``side`` pixels, with the content at a random place."""
    return A.PadIfNeeded(
        min_height=side,
        min_width=side,
        position="random",
        border_mode=cv2.BORDER_CONSTANT,
        fill=0,
        fill_mask=ignore_index,
    )


def _scale(scale_range: Sequence[float], ignore_index: int) -> list[A.DualTransform]:
    """Scale by a random factor; pairs so small that a side would vanish are padded first."""
    smallest, largest = scale_range
    if smallest == largest == 1:
        return []
    scale = A.RandomScale(
        scale_limit=(smallest - 1, largest - 1),
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST_EXACT,  # plain nearest moves the mask by up to half a pixel
        area_for_downscale="image",
        p=1.0,
    )
    return [_pad(math.ceil(1 / smallest) + 1, ignore_index), scale]


def _flips(horizontal: bool, vertical: bool) -> list[A.DualTransform]:
    """Flip half of the time."""
    return [*([A.HorizontalFlip(p=0.5)] if horizontal else []), *([A.VerticalFlip(p=0.5)] if vertical else [])]


def _colours(strength: float, channels: int) -> list[A.ImageOnlyTransform]:
    """Change colours as far as images of so many channels have them."""
    if not strength:
        return []
    if channels not in (1, 3):  # it knows grey and RGB only
        # the mean rather than the largest value, which is far from those of dark bands
        return [A.RandomBrightnessContrast(strength, strength, brightness_by_max=False, p=1.0)]
    factor, hue = (1 - strength, 1 + strength), (-strength / 6, strength / 6)
    return [A.ColorJitter(brightness=factor, contrast=factor, saturation=factor, hue=hue, p=1.0)]


def _described(image: NDArray[Any]) -> str:
    """Size, channels and type, for an error message."""
    return f"{image.shape[0]}×{image.shape[1]} pixels, {image.shape[2]} channels, {image.dtype}"
