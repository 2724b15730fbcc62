"""The training loss: a weighted sum of terms that are chosen by name."""

from unetseg.losses.terms import LossTerms, default_terms
from unetseg.losses.weighted_sum import SegmentationLoss, build_loss

__all__ = ["LossTerms", "SegmentationLoss", "build_loss", "default_terms"]
