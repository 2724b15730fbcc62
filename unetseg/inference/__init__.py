"""From a checkpoint to class maps: as a library, and as files."""

from unetseg.inference.predictor import Predictor

__all__ = ["Predictor"]
