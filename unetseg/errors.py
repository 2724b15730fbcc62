"""What a user can do wrong, one class a domain: the command line prints these without a traceback."""

import difflib
from collections.abc import Iterable
from itertools import islice

__all__ = [
    "AlignmentError",
    "CheckpointError",
    "DataError",
    "EncoderError",
    "ExportError",
    "ImageError",
    "LossError",
    "MaskSizeError",
    "MaskValueError",
    "OptionError",
    "UnetsegError",
    "abridged",
    "did_you_mean",
    "first_line",
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


class MaskSizeError(DataError):
    """A mask has another size than its image, or than the other masks of it."""


class MaskValueError(DataError):
    """A mask holds values or colours that are no class."""


class ImageError(UnetsegError):
    """An image can't be read, or isn't one that the model takes."""


class ExportError(UnetsegError):
    """An exported file doesn't compute what the network does."""


class LossError(UnetsegError):
    """A training loss isn't finite."""


class CheckpointError(UnetsegError):
    """A file isn't a checkpoint of this project, or disagrees with what was asked beside it."""


def first_line(error: Exception) -> str:
    """The first line of a library's message, as a sentence; its class where it says nothing.

    Example:
        >>> first_line(RuntimeError("no room")), first_line(KeyError())
        ('no room.', 'KeyError.')
    """
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text if text.endswith(".") else f"{text}."


def abridged(items: Iterable[object], limit: int = 5) -> str:
    """List the first few items for an error message and count the others.

    Example:
        >>> abridged("abc"), abridged(range(1000), limit=2)
        ('a, b, c', '0, 1 and 998 more')
    """
    remaining = iter(items)
    shown = ", ".join(str(item) for item in islice(remaining, limit))
    left = sum(1 for _ in remaining)
    return f"{shown} and {left} more" if left else shown


def did_you_mean(name: object, known: Iterable[str], count: int = 1) -> str:
    """The names that come closest, as a question that follows a sentence; nothing where none is close.

    Example:
        >>> did_you_mean("adam_w", ["AdamW", "SGD"]), did_you_mean("x", ["AdamW"])
        (" Did you mean 'AdamW'?", '')
    """
    spelt = {one.lower().replace("_", ""): one for one in known}
    close = difflib.get_close_matches(str(name).lower().replace("_", ""), spelt, count)
    return f" Did you mean {', '.join(repr(spelt[match]) for match in close)}?" if close else ""
