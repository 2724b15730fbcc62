"""Every pair of a data set read once, before a training: what is wrong with it, and what it holds."""

from unetseg.checking.measure import Report, check_sources

__all__ = ["Report", "check_sources"]
