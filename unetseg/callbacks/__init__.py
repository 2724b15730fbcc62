"""What a run leaves behind, and what it tells the person who waits."""

from unetseg.callbacks.checkpointing import BestAndLastCheckpoint
from unetseg.callbacks.curves import CurvesPlot
from unetseg.callbacks.pictures import SamplePictures
from unetseg.callbacks.table import IoUTable

__all__ = ["BestAndLastCheckpoint", "CurvesPlot", "IoUTable", "SamplePictures"]
