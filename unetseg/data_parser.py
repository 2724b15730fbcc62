"""The options of verbs that read a data set and need no model."""

from typing import Any

from jsonargparse import SUPPRESS, ActionConfigFile  # type: ignore[attr-defined]  # public, not in __all__

from unetseg.data.datamodule import SegmentationDataModule
from unetseg.parser import ExplainingParser

__all__ = ["DataParser"]

# what a recipe and a run's config.yaml hold besides the data
_OTHER_SECTIONS = ("model", "trainer", "seed_everything", "optimizer", "lr_scheduler", "ckpt_path", "weights_only")


class DataParser(ExplainingParser):
    """Takes ``--data`` options as `fit` does, typed or from a recipe, whose other sections are passed over.

    Args:
        verb: what is typed after ``python -m unetseg``.
        description: what it does.
    """

    def __init__(self, verb: str, description: str) -> None:
        super().__init__(prog=f"python -m unetseg {verb}", description=description, allow_abbrev=False)
        self.add_argument("--config", action=ActionConfigFile, help="recipe, such as configs/camvid.yaml: its data")
        self.add_class_arguments(SegmentationDataModule, "data")
        for section in _OTHER_SECTIONS:
            nested = section in ("model", "trainer")
            self.add_argument(f"--{section}", type=dict[str, Any] | None if nested else Any, help=SUPPRESS)
