"""Options of a verb that has nothing to do with Lightning's: a mistake in them is explained in one line."""

import argparse
from typing import NoReturn

__all__ = ["VerbParser", "count"]


class VerbParser(argparse.ArgumentParser):
    """Explains a mistake in one line instead of a page of usage.

    Args:
        verb: Name of the verb.
        description: What it does.
    """

    def __init__(self, verb: str, description: str) -> None:
        super().__init__(prog=f"python -m unetseg {verb}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit with code 2."""
        self.exit(2, f"error: {message}. See `{self.prog} --help`.\n")


def count(text: str) -> int:
    """A whole number from 1 on, as it was typed.

    Example:
        >>> count("3")
        3
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)
