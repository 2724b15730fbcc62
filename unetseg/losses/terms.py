"""The names of the loss's terms, their options, and the mapping that chooses among them."""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from unetseg.config import Mode, plain
from unetseg.errors import OptionError, did_you_mean

__all__ = ["TERMS", "LossTerms", "default_terms", "read_terms"]

LossTerms = Mapping[str, float | Mapping[str, float]]
"""Each term's weight, or its weight and other options: ``{"ce": 1.0, "tversky": {"weight": 0.5, "beta": 0.8}}``."""


class _Option(NamedTuple):
    """A number of a term: what it is where none is given, and what it may be."""

    default: float
    accepts: Callable[[float], bool]
    range: str


_WEIGHT = _Option(1.0, lambda value: value >= 0, "at least 0")
_SMOOTHING = _Option(0.0, lambda value: 0 <= value < 1, "at least 0 and below 1")

TERMS: dict[str, dict[str, _Option]] = {
    "ce": {"label_smoothing": _SMOOTHING},
    "bce": {"label_smoothing": _SMOOTHING},
    "dice": {},
    "focal": {"gamma": _Option(2.0, lambda value: value >= 0, "at least 0")},
    "lovasz": {},
    "tversky": {
        "alpha": _Option(0.3, lambda value: value >= 0, "at least 0"),
        "beta": _Option(0.7, lambda value: value >= 0, "at least 0"),
        "gamma": _Option(1.0, lambda value: value > 0, "above 0"),
    },
    "boundary": {},
}
"""Every term, and its options besides the weight."""


def default_terms(mode: Mode) -> dict[str, float | Mapping[str, float]]:
    """Cross-entropy, which gives every pixel a gradient, and Dice, which counts a small class as much as a large one.

    Example:
        >>> default_terms("multiclass"), default_terms("multilabel")
        ({'ce': 1.0, 'dice': 1.0}, {'bce': 1.0, 'dice': 1.0})
    """
    return {"ce" if mode == "multiclass" else "bce": 1.0, "dice": 1.0}


def read_terms(terms: LossTerms, mode: Mode) -> dict[str, dict[str, float]]:
    """Every term that was asked for with its weight and all its options.

    Args:
        terms: By name a weight, or a mapping of options, of which ``weight`` is one.
        mode: What a pixel can be.

    Raises:
        OptionError: If a term or an option doesn't exist, isn't for this mode, or has a value that it doesn't take; or
            if nothing has a weight.

    Example:
        >>> read_terms({"dice": 2, "focal": {"gamma": 3}}, "binary")
        {'dice': {'weight': 2.0}, 'focal': {'weight': 1.0, 'gamma': 3.0}}
    """
    try:
        return _read(terms, mode)
    except OptionError as error:
        raise OptionError(f"loss is {plain(terms)!r}; {error}") from None


def _read(terms: LossTerms, mode: Mode) -> dict[str, dict[str, float]]:
    example = f"such as {default_terms(mode)}"
    other = "bce" if mode == "multiclass" else "ce"  # the cross-entropy of other modes
    allowed = [name for name in TERMS if name != other]
    if not isinstance(terms, Mapping):
        raise OptionError(f"it must be a mapping of terms to weights, {example}. The terms are {', '.join(allowed)}.")
    if not terms:
        raise OptionError(f"it needs a term at least, {example}. The terms are {', '.join(allowed)}.")
    if other in terms:
        own = next(iter(default_terms(mode)))
        raise OptionError(f"{other} is not for mode {mode!r}: use {own}. The terms are {', '.join(allowed)}.")
    _refuse_unknown("a term", terms, allowed)
    read = {name: _read_term(name, given) for name, given in terms.items()}
    if not any(term["weight"] for term in read.values()):
        raise OptionError("all its weights are 0, so that nothing could be learned. Give a term a weight above 0.")
    return read


def _read_term(name: str, given: float | Mapping[str, float]) -> dict[str, float]:
    options = {"weight": _WEIGHT, **TERMS[name]}
    values = given if isinstance(given, Mapping) else {"weight": given}
    _refuse_unknown(f"an option of {name}", values, options)
    read = {
        option: _number(f"the {option} of {name}", values.get(option, known.default), known)
        for option, known in options.items()
    }
    if name == "tversky" and not read["alpha"] + read["beta"]:
        raise OptionError("alpha and beta of tversky are both 0, so that no mistake counts. Give one a value above 0.")
    return read


def _refuse_unknown(kind: str, names: Iterable[object], allowed: Iterable[str]) -> None:
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            raise OptionError(f"{name!r} is not {kind}: {', '.join(allowed)}.{did_you_mean(name, allowed)}")


def _number(label: str, value: Any, option: _Option) -> float:
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise OptionError(f"{label} is {number!r}; it must be a number, {option.range}.")
    # an integer may be too large for a float
    if not (abs(number) <= sys.float_info.max and option.accepts(number)):
        raise OptionError(f"{label} is {number!r}; it must be finite, {option.range}.")
    return float(number)
