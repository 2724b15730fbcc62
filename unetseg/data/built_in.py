"""The built-in scenes as sources of pairs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetseg.data.sources import Pair
from unetseg.data.splits import Split
from unetseg.data.synthetic import SyntheticScenes

__all__ = ["SceneSource", "built_in_sources"]

_SEEDS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True)
class SceneSource:
    """Pairs from the built-in scenes, named by number, see `unetseg.data.sources.Source`."""

    scenes: SyntheticScenes

    def __len__(self) -> int:
        return len(self.scenes)

    def name(self, index: int) -> str:
        """The scene's number."""
        return f"{index:05d}"

    def read(self, index: int) -> Pair:
        """Render a pair."""
        return *self.scenes.render(index), self.name(index)

    def read_mask(self, index: int) -> NDArray[np.uint8]:
        """Render a pair, for its mask."""
        return self.scenes.render(index)[1]

    def size(self, index: int) -> tuple[int, int]:
        """(H, W) of a scene."""
        return self.scenes.size(index)


def built_in_sources(length: int) -> dict[Split, SceneSource]:
    """So many scenes for training, and an eighth as many for validation and for test."""
    held_out = max(1, length // 8)
    lengths = {"train": length, "val": held_out, "test": held_out}
    return {split: SceneSource(SyntheticScenes(lengths[split], seed=seed)) for split, seed in _SEEDS.items()}
