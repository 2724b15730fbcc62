"""Procedural pond scenes: a segmentation data set without a file, a download or a random surprise."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

__all__ = ["CLASSES", "SyntheticScenes"]

CLASSES: tuple[str, ...] = ("background", "reed", "leaf", "pebble", "fish")

_SIDES = (90, 141)  # half-open range of a side in pixels
_SHADOW = 2  # pixels down and right, at which a thing darkens what lies under it

# float64 throughout: after rounding to uint8, the last bits in which machines may differ are gone
_Floats = NDArray[np.float64]
_Bytes = NDArray[np.uint8]


class _Look(NamedTuple):
    """What a thing looks like on the pixels of its patch."""

    distance: _Floats  # (h, w), about the signed distance to the outline in pixels, negative inside
    blend: _Floats  # (h, w) in [0, 1], from the first of its two colours to the second
    light: _Floats  # (h, w), factor on the colour


_Draw = Callable[[_Floats, _Floats, float, np.random.Generator], _Look]


class SyntheticScenes(Dataset[tuple[_Bytes, _Bytes]]):
    """Ponds seen from above, each made when it is asked for: reeds, leaves, pebbles and fish on water.

    It exists so that a fresh clone can train something that means something. Every scene has its own
    colours, shared by things and taken without regard to their class, so a pixel's colour tells nothing:
    what does is shape (a leaf's notch, a fish's tail), texture (veins, stripes, plain), size, and thin
    structure (reeds are 4 to 7 pixels wide). Things hide one another and cast shadows; light and noise
    differ from scene to scene, and so do the sides.

    The same seed and index give the same scene in any process and on any machine.
    Use different seeds for training, validation and test.

    Args:
        length: number of scenes, at least 1.
        seed: which series of scenes, at least 0.

    Raises:
        ValueError: if ``length`` is below 1 or ``seed`` below 0.

    Example:
        >>> scenes = SyntheticScenes(8, seed=0)
        >>> image, mask = scenes[3]
        >>> image.shape[:2] == mask.shape, image.dtype, mask.dtype
        (True, dtype('uint8'), dtype('uint8'))
    """

    def __init__(self, length: int, *, seed: int) -> None:
        if length < 1 or seed < 0:
            raise ValueError(f"length {length}, seed {seed}: length must be at least 1 and seed at least 0")
        self.length = length
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[_Bytes, _Bytes]:
        """Return ``render(index)``."""
        return self.render(index)

    def render(self, index: int) -> tuple[_Bytes, _Bytes]:
        """Make one scene.

        Args:
            index: which scene, 0 to ``len(self) - 1``.

        Returns:
            The image, (H, W, 3) uint8 RGB, and its mask, (H, W) uint8 indices into ``CLASSES``; H and W
            differ from each other and are 90 to 140.

        Raises:
            IndexError: if ``index`` is out of range; negative ones are.
        """
        rng = self._generator(index)
        height, width = _sides(rng)
        palette = _palette(rng)
        image = _water(height, width, palette, rng)
        mask = np.zeros((height, width), np.uint8)
        crowd = _crowd(rng)
        for kind, place in zip(crowd, _places(len(crowd), rng), strict=True):
            _put(image, mask, kind, place * mask.shape, palette, rng)
        return _photograph(image, rng), mask

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of a scene, without making it.

        Raises:
            IndexError: if ``index`` is out of range; negative ones are.
        """
        return _sides(self._generator(index))

    def _generator(self, index: int) -> np.random.Generator:
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index}: there are {self.length}, numbered from 0")
        return np.random.default_rng((self.seed, index))


def _sides(rng: np.random.Generator) -> tuple[int, int]:
    """Height and width of a scene, its first draw."""
    height, width = (int(side) for side in rng.choice(np.arange(*_SIDES), 2, replace=False))
    return height, width


def _palette(rng: np.random.Generator) -> _Floats:
    """Colours of a scene, (6, 3) in [0, 1]: the water's, which is dark, then five of any brighter kind."""
    water = rng.uniform(0.05, 0.4, (1, 3))
    colours = rng.uniform(0.05, 1, (5, 3))
    return np.concatenate([water, colours * (rng.uniform(0.7, 1, (5, 1)) / colours.max(1, keepdims=True))])


def _water(height: int, width: int, palette: _Floats, rng: np.random.Generator) -> _Floats:
    """Water with ripples, (H, W, 3) in about [0, 1]."""
    ripples = np.zeros((height, width))
    for _ in range(2):
        turn, phase = rng.uniform(0, 2 * np.pi, 2)
        step = 2 * np.pi / rng.uniform(14, 40)
        y = np.arange(height)[:, None] * (step * np.sin(turn)) + phase
        x = np.arange(width) * (step * np.cos(turn))
        ripples += np.sin(y) * np.cos(x) + np.cos(y) * np.sin(x)  # sin(x + y), without a sine a pixel
    image: _Floats = palette[0] + 0.035 * ripples[..., None]
    return image


def _photograph(image: _Floats, rng: np.random.Generator) -> _Bytes:
    """Light that falls off to one side, and noise; (H, W, 3) in about [0, 1] to uint8."""
    height, width = image.shape[:2]
    turn = rng.uniform(0, 2 * np.pi)
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = rng.uniform(0.8, 1.1) * (1 + 0.2 * (x * np.cos(turn) + y * np.sin(turn)))
    noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(0.01, 0.03)
    photo = image * light[..., None]
    photo += noise
    photo *= 255  # in place: this is the largest array
    pixels: _Bytes = np.rint(np.clip(photo, 0, 255, out=photo)).astype(np.uint8)
    return pixels


def _reed(u: _Floats, v: _Floats, size: float, rng: np.random.Generator) -> _Look:
    """A thin bent stalk of length ``2 * size``, darker on one side."""
    bend = rng.uniform(-0.35, 0.35) / size
    across = (v - bend * u * u) / np.sqrt(1 + (2 * bend * u) ** 2)
    half = rng.uniform(2.3, 3.3) * (1 - 0.2 * np.clip(u / size, -1, 1))  # it tapers
    return _Look(np.maximum(np.abs(across) - half, np.abs(u) - size), 0 * u, np.where(across > 0, 0.8, 1.1))


def _leaf(u: _Floats, v: _Floats, size: float, rng: np.random.Generator) -> _Look:
    """A water lily's leaf: a disc with a notch, and veins from its centre."""
    notch = rng.uniform(0.2, 0.45)
    distance = np.maximum(np.hypot(u, v) - size, np.cos(notch) * -np.abs(v) + np.sin(notch) * u)
    veins = np.abs(np.cos(rng.integers(4, 7) * np.arctan2(v, u))) ** 6
    return _Look(distance, 0.8 * veins, 1 - 0.1 * u / size)


def _pebble(u: _Floats, v: _Floats, size: float, rng: np.random.Generator) -> _Look:
    """A rounded stone with dots, lit from one side."""
    radius = np.hypot(u, v / rng.uniform(0.7, 0.95))
    step = 2 * np.pi / rng.uniform(6.0, 8.0)
    dots = np.clip(3 * (np.cos(step * u) + np.cos(step * v)) - 2, 0, 1)
    return _Look(0.85 * (radius - size), dots, 1.0 - 0.15 * u / size)


def _fish(u: _Floats, v: _Floats, size: float, rng: np.random.Generator) -> _Look:
    """A striped body with a tail, and an eye; its head is at positive ``u``."""
    height = rng.uniform(0.4, 0.55) * size
    body = (np.hypot((u - 0.2 * size) / (0.8 * size), v / height) - 1) * height
    tail = np.maximum(0.8 * np.abs(v) + 0.6 * (u + 0.45 * size), -u - size)
    stripes = 0.5 + 0.5 * np.clip(3 * np.sin(u * (2 * np.pi / rng.uniform(6.0, 9.0))), -1, 1)
    eye = np.hypot(u - 0.65 * size, np.abs(v) - 0.15 * size) < 1.2
    return _Look(np.minimum(body, tail), stripes, np.where(eye, 0.1, 1.0))


class _Kind(NamedTuple):
    """How a class is drawn, how many a scene has and how large they are (both ranges half-open)."""

    label: int
    draw: _Draw
    number: tuple[int, int]
    size: tuple[float, float]


_KINDS = (
    _Kind(CLASSES.index("reed"), _reed, (2, 5), (25, 50)),
    _Kind(CLASSES.index("leaf"), _leaf, (1, 4), (14, 24)),
    _Kind(CLASSES.index("pebble"), _pebble, (2, 5), (9, 15)),
    _Kind(CLASSES.index("fish"), _fish, (1, 4), (17, 26)),
)


def _crowd(rng: np.random.Generator) -> list[_Kind]:
    """The kinds of a scene's things, from the lowest to the topmost."""
    things = [kind for kind in _KINDS for _ in range(rng.integers(*kind.number))]
    return [things[i] for i in rng.permutation(len(things))]


def _places(number: int, rng: np.random.Generator) -> _Floats:
    """Where things go, (number, 2) in [0, 1]: one in each of 16 cells at most, lest they pile up."""
    cells = rng.permutation(16)[:number]
    return (np.stack([cells // 4, cells % 4], axis=1) + rng.uniform(0, 1, (number, 2))) / 4


def _put(
    image: _Floats, mask: _Bytes, kind: _Kind, centre: _Floats, palette: _Floats, rng: np.random.Generator
) -> None:
    """Draw one thing at ``centre``, (y, x) in pixels, over what ``image`` and ``mask`` hold."""
    size, turn = rng.uniform(*kind.size), rng.uniform(0, 2 * np.pi)
    first = palette[rng.integers(1, len(palette))]
    second = palette[1 + np.linalg.norm(palette[1:] - first, axis=1).argmax()]  # so that texture shows
    reach = 1.1 * size + _SHADOW  # only the pixels that it can touch
    top, left = (max(int(c - reach), 0) for c in centre)
    bottom, right = (int(c + reach) + 2 for c in centre)
    patch, labels = image[top:bottom, left:right], mask[top:bottom, left:right]
    y, x = np.ogrid[top : top + patch.shape[0], left : left + patch.shape[1]]
    y, x = y - centre[0], x - centre[1]
    cos, sin = np.cos(turn), np.sin(turn)
    look = kind.draw(x * cos + y * sin, y * cos - x * sin, size, rng)

    cover = np.clip(0.5 - look.distance, 0, 1)  # soft over the pixel that the outline crosses
    _shade(patch[_SHADOW:, _SHADOW:], cover[:-_SHADOW, :-_SHADOW])
    seen = cover > 0  # few of a reed's patch: the rest needs no arithmetic
    colour = (first + look.blend[seen, None] * (second - first)) * look.light[seen, None]
    colour *= 1 - 0.35 * np.clip(look.distance[seen, None] + 1.5, 0, 1)  # a darker rim, about a pixel
    patch[seen] += cover[seen, None] * (colour - patch[seen])
    labels[look.distance < 0] = kind.label


def _shade(patch: _Floats, cover: _Floats) -> None:
    """Darken ``patch``, (h, w, 3), where ``cover``, (h, w) in [0, 1], keeps the light from it."""
    dark = cover > 0
    patch[dark] *= 1 - 0.25 * cover[dark, None]
