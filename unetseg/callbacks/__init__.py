"""What a run leaves behind, how it draws its random numbers, and what it tells the person who waits."""

from unetseg.callbacks.averaging import WeightAverage
from unetseg.callbacks.checkpointing import BestAndLastCheckpoint
from unetseg.callbacks.curves import CurvesPlot
from unetseg.callbacks.patience import Patience
from unetseg.callbacks.pictures import SamplePictures
from unetseg.callbacks.record import RunRecord
from unetseg.callbacks.seeding import StepSeed
from unetseg.callbacks.table import ScoreTable

__all__ = [
    "BestAndLastCheckpoint",
    "CurvesPlot",
    "Patience",
    "RunRecord",
    "SamplePictures",
    "ScoreTable",
    "StepSeed",
    "WeightAverage",
]
