"""What Lightning says to a user: nothing of what is as it should be, and of a mistake one line."""

import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_fabric.utilities.exceptions import MisconfigurationException

from unetseg.errors import UnetsegError, first_line

__all__ = ["explained", "quieten"]


def quieten() -> None:
    """Leave out what Lightning says of things that are as they should be here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for message in (
        "No seed found",  # then it is 0
        "Checkpoint directory .* exists",  # the configuration has just been written to it
        ".*LeafSpec",  # Lightning's own use of torch
        ".*smaller than the logging interval",
        "Found .* in eval mode at the start of training",  # they are frozen
        ".*does not have many workers",  # the data module chooses them by the cores
    ):
        warnings.filterwarnings("ignore", message)


@contextmanager
def explained() -> Iterator[None]:
    """Make Lightning's errors the user's: options that don't go together.

    Raises:
        UnetsegError: It is shown without a traceback.
    """
    try:
        yield
    except MisconfigurationException as error:  # Lightning's word for them
        raise UnetsegError(first_line(error)) from error
    except (ValueError, RuntimeError, TypeError) as error:  # which it isn't always
        if isinstance(error, UnetsegError) or not _raised_by_lightning(error):
            raise
        raise UnetsegError(first_line(error)) from error


def _raised_by_lightning(error: Exception) -> bool:
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith(("pytorch_lightning.", "lightning_fabric."))
