"""What the values of masks mean: names, colours and folders of classes."""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetseg.data.masks import Color
from unetseg.drawing import class_colors
from unetseg.errors import DataError
from unetseg.inference.writers import write_legend

__all__ = ["Legend"]


@dataclass(frozen=True)
class Legend:
    """Names, colours and folders of the classes.

    Attributes:
        classes: Names, in the order of their values.
        colors: One for each.
        folders: Where a pixel may have any number of classes, the folder of each one's masks; otherwise None.

    Example:
        >>> Legend.of(["left/right", "road"], multilabel=True).folders
        ('left_right', 'road')
    """

    classes: tuple[str, ...]
    colors: tuple[Color, ...]
    folders: tuple[str, ...] | None

    @classmethod
    def of(cls, classes: Sequence[str], colors: Sequence[Color] | None = None, *, multilabel: bool = False) -> "Legend":
        """With colours of its own, where none are given."""
        colors = colors or class_colors(len(classes), multilabel=multilabel)
        return cls(tuple(classes), tuple(colors), _folder_names(classes) if multilabel else None)

    @property
    def mask_colors(self) -> list[list[Color]]:
        """Colours of the values of each mask that an image has: of one, or of each class's 0 and 1."""
        return [list(self.colors)] if self.folders is None else [[(0, 0, 0), color] for color in self.colors]

    @property
    def mask_names(self) -> list[dict[int, str]]:
        """Class of each value of each mask, likewise."""
        return [dict(enumerate(self.classes))] if self.folders is None else [{1: name} for name in self.classes]

    @property
    def overlay_colors(self) -> list[Color]:
        """Colours of a class map that shows one class a pixel, see :func:`unetseg.drawing.topmost`."""
        return list(self.colors) if self.folders is None else [(0, 0, 0), *self.colors]

    def write(self, folder: Path) -> None:
        """Write it as ``_legend.json`` and ``_legend.png``."""
        write_legend(folder, self.classes, self.colors, class_folders=self.folders)

    def check(self, folder: Path) -> None:
        """Refuse a folder whose masks mean something else.

        Raises:
            DataError: If its legend has other classes.
        """
        try:
            rows: list[dict[str, Any]] = json.loads((folder / "_legend.json").read_text(encoding="utf-8"))
            names = [row["name"] for row in rows]
        except (OSError, ValueError, KeyError, TypeError):
            return
        if names != list(self.classes):
            raise DataError(
                f"--skip_existing: the masks in {folder} have the classes {', '.join(names)}, those of this model are "
                f"{', '.join(self.classes)}; give another --output."
            )


def _folder_names(classes: Sequence[str]) -> tuple[str, ...]:
    """A folder's name for each class: its own where it can be, and another for each."""
    names: list[str] = []
    for name in classes:
        plain = re.sub(r'^[. ]+|[\\/:*?"<>|\x00-\x1f]|[. ]+$', "_", name)  # what no system's file names hold
        taken = {other.casefold() for other in names}
        free = (f"{plain}_{i}" for i in itertools.count(2))
        names.append(plain if plain.casefold() not in taken else next(n for n in free if n.casefold() not in taken))
    return tuple(names)
