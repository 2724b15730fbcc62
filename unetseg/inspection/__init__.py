"""What a network does to sizes: measured at one image size, as a table and as a drawing."""

from unetseg.inspection.measure import Inspection, inspect_model

__all__ = ["Inspection", "inspect_model"]
