"""From a checkpoint to a file that runs without this package: compared with the network before it appears."""

from unetseg.export.exporting import Exported, export

__all__ = ["Exported", "export"]
