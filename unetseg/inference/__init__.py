"""From a checkpoint or an exported file to class maps: as a library, and as files."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unetseg.inference.exported import ExportedPredictor
    from unetseg.inference.predictor import Predictor

__all__ = ["ExportedPredictor", "Predictor"]

_HOMES = {"ExportedPredictor": "unetseg.inference.exported", "Predictor": "unetseg.inference.predictor"}


def __getattr__(name: str) -> Any:  # PEP 562: an exported file is predicted without torch
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
