"""What a user can do wrong, one class a domain: the command line prints these without a traceback."""

__all__ = [
    "AlignmentError",
    "CheckpointError",
    "DataError",
    "EncoderError",
    "ImageError",
    "OptionError",
    "UnetsegError",
]


class UnetsegError(ValueError):
    """A mistake in what was asked for; the message says what was got, what is allowed and the fix."""


class AlignmentError(UnetsegError):
    """A transposed convolution can't reach the size that was asked of it."""


class OptionError(UnetsegError):
    """An option of a network doesn't exist, or has a value that it doesn't take."""


class EncoderError(UnetsegError):
    """An encoder doesn't exist, or can't do what was asked of it."""


class DataError(UnetsegError):
    """A folder, a pair of files, or a mask isn't as a data set must be."""


class ImageError(UnetsegError):
    """An image can't be read, or isn't one that the model takes."""


class CheckpointError(UnetsegError):
    """A file isn't a checkpoint of this project, or disagrees with what was asked beside it."""
