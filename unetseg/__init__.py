"""UNet decoders whose transposed convolutions align themselves to the skip, at any image size."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unetseg.inference.predictor import Predictor
    from unetseg.model import UNet

__all__ = ["Predictor", "UNet", "__version__"]
__version__ = "0.1.0"

_HOMES = {"Predictor": "unetseg.inference.predictor", "UNet": "unetseg.model"}


def __getattr__(name: str) -> Any:  # PEP 562: `import unetseg` costs nothing until a name is used
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
