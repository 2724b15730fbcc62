"""How the weights move: any optimizer of torch in two groups, on any of its schedules."""

from unetseg.optimization.optimizers import build_optimizer
from unetseg.optimization.schedules import Interval, OneCycle, build_scheduler
from unetseg.optimization.specs import Spec

__all__ = ["Interval", "OneCycle", "Spec", "build_optimizer", "build_scheduler"]
