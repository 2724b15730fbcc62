"""How good a segmentation is: all figures of a whole data set, by name and as a table."""

from unetseg.metrics.report import named_scores, score_table
from unetseg.metrics.segmentation import SegmentationMetrics

__all__ = ["SegmentationMetrics", "named_scores", "score_table"]
