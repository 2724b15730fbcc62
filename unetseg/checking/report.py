"""A report on a data set as text: what is wrong, then tables of what it holds."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from unetseg.checking.findings import PROBLEMS, WARNINGS, Finding
from unetseg.checking.measure import Report
from unetseg.columns import WIDTH, align
from unetseg.errors import abridged

__all__ = ["render_report", "summary"]

_FINDINGS_SHOWN = 20  # of a kind
_NAMES_SHOWN = 5
_SIZES_SHOWN = 5
_NAMED_ALONE = ("ignored_mask", "empty_mask")  # kinds whose reason is the same for every pair
_INDENTED: dict[str, Any] = {"initial_indent": "  ", "subsequent_indent": "  "}
_SHARES = "Share of the pixels that aren't ignored, and number of images in which the class occurs."
_IGNORED_SHARE = 'The line "ignored" is of all pixels.'
_MODEL = (
    "Mean and standard deviation of the training images, of values in [0, 1], as a recipe takes them; leave them out "
    "with a pretrained encoder, which brings its own."
)


def render_report(report: Report) -> str:
    """What ``check-data`` prints, but for its last line.

    Args:
        report: what was found.

    Returns:
        Lines of at most 110 characters, but for those that name files or many splits.
    """
    blocks = [
        *_findings("problem", PROBLEMS, report.problems),
        *_findings("warning", WARNINGS, report.warnings),
        _split_lines(report),
        _class_lines(report),
        _model_lines(report),
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def summary(report: Report) -> str:
    """The last line: how many problems and warnings there are."""
    return f"{_number(len(report.problems), 'problem')}{_and_warnings(report)} in {_number(report.pairs, 'pair')}"


def _findings(word: str, titles: dict[str, str], found: Sequence[Finding]) -> Iterable[list[str]]:
    for kind, title in titles.items():
        group = [finding for finding in found if finding.kind == kind]
        if group and kind in _NAMED_ALONE:
            names = abridged((f"{pair.split}/{pair.name}" for finding in group for pair in finding.pairs), _NAMES_SHOWN)
            yield [f"{word}: {title}, {group[0].reason} ({len(group)})", *textwrap.wrap(names, WIDTH, **_INDENTED)]
        elif group:
            more = [f"and {len(group) - _FINDINGS_SHOWN} more; --json FILE lists all"] * (len(group) > _FINDINGS_SHOWN)
            shown = [finding.reason for finding in group[:_FINDINGS_SHOWN]]
            yield [f"{word}: {title} ({len(group)})", *(f"  {line}" for line in [*shown, *more])]


def _split_lines(report: Report) -> list[str]:
    rows = [["split", "pairs", "width", "height", "images of each size (width x height)"]]
    for split, figures in report.splits.items():
        pairs = str(figures.pairs) if figures.read == figures.pairs else f"{figures.read} of {figures.pairs} read"
        widths, heights = [size.width for size in figures.sizes], [size.height for size in figures.sizes]
        counts = (f"{size.width}x{size.height}: {size.images}" for size in figures.sizes)
        rows.append([split, pairs, _range(widths), _range(heights), abridged(counts, limit=_SIZES_SHOWN)])
    return align(rows, left={0, 4})


def _range(values: Sequence[int]) -> str:
    if not values:
        return "-"
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)}..{max(values)}"


def _class_lines(report: Report) -> list[str]:
    splits = list(report.splits.values())
    rows = [["class", *(cell for split in report.splits for cell in (split, "images"))]]
    for of_class in zip(*(figures.classes for figures in splits), strict=True):
        cells = [cell for entry in of_class for cell in (_percent(entry.share), str(entry.images))]
        rows.append([of_class[0].name, *cells])
    notes = _SHARES
    if any(figures.ignored_share for figures in splits):
        notes += f" {_IGNORED_SHARE}"
        rows.append(["ignored", *(cell for figures in splits for cell in (_percent(figures.ignored_share), ""))])
    return [*align(rows, left={0}), *textwrap.wrap(notes, WIDTH)]


def _model_lines(report: Report) -> list[str]:
    if report.mean is None or report.std is None:
        return []
    channels = {"mean": report.mean, "std": report.std}
    lines = [f"  {name}: [{', '.join(map(_decimal, values))}]" for name, values in channels.items()]
    return [*textwrap.wrap(_MODEL, WIDTH), "model:", *lines]


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    return "<0.01 %" if 0 < share < 0.00005 else f"{100 * share:.2f} %"


def _decimal(value: float) -> str:
    """Four significant digits without an exponent, which YAML may take for a word."""
    return np.format_float_positional(value, precision=4, unique=False, fractional=False, trim="0")


def _and_warnings(report: Report) -> str:
    return f" and {_number(len(report.warnings), 'warning')}" if report.warnings else ""


def _number(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
