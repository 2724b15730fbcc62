"""The verb check-data: every pair of a data set read before a training, and what is wrong with it."""

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tqdm import tqdm

from unetseg.atomic import atomic_path
from unetseg.checking.measure import Report, check_sources
from unetseg.checking.report import render_report, summary
from unetseg.data.built_in import SceneSource
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.data_parser import DataParser
from unetseg.errors import DataError, OptionError

__all__ = ["main"]

_MAX_THREADS = 16  # a picture is in memory for each

_DESCRIPTION = """Read every pair of image and mask, and say what is wrong before a training finds out. Problems, with
exit code 1: images and masks that can't be used, masks of another size, values or colours of no class, the same image
(pixel by pixel) in two splits, or twice in one with different masks, and masks of 0 and 255 where 255 is ignored.
Warnings, with exit code 0: the same pair twice in a split, masks that are empty or ignored altogether, classes that no
training mask shows, values far from [0, 1]. Then: sizes, class frequencies, mean and standard deviation. Any --data
option of `fit` can be given; --data.num_workers is the number of threads, by default two a core."""


def main(args: Sequence[str]) -> int:
    """Print what is wrong with a data set, and what it holds.

    Args:
        args: options of the verb.

    Returns:
        0, or 1 if anything must be mended.

    Raises:
        UnetsegError: if there is no such data set, or the report can't be written where it shall.
        SystemExit: with code 2, for options that can't be parsed (already explained), or 0 for ``--help``.
    """
    options = _parser().parse_args(list(args))
    if options.json is not None:
        _check_json_file(options.json)
    data = SegmentationDataModule(**options.data)
    if any(isinstance(source, SceneSource) for source in data.sources.values()):
        raise DataError("check-data reads your own data: give its folder as --data.root")
    sys.stdout.write(f"{data.description}\n\n")
    sys.stdout.flush()  # before the bar
    total = sum(map(len, data.sources.values()))
    threads = _default_threads() if options.data.num_workers is None else max(1, data.num_workers)
    with tqdm(total=total, desc="check-data", unit="pair", leave=False, disable=None) as bar:
        report = check_sources(data.sources, data.labels, num_threads=threads, on_pair=bar.update)
    sys.stdout.write(f"{render_report(report)}\n")
    if options.json is not None:
        _write_json(options.json, data.description, report)
        sys.stdout.write(f"everything is in {options.json}\n")
    sys.stdout.write(f"{summary(report)}\n")
    return 1 if report.problems else 0


class _Parser(DataParser):
    examples: ClassVar[dict[str, str]] = DataParser.examples | {"json": "report.json"}


def _parser() -> _Parser:
    parser = _Parser("check-data", _DESCRIPTION)
    parser.add_argument("--json", type=Path | None, metavar="FILE", help="write everything that was found as JSON, too")
    return parser


def _check_json_file(path: Path) -> None:
    if not path.parent.is_dir():
        raise OptionError(f"--json is {path}; there is no folder {path.parent}.")
    if path.is_dir():
        raise OptionError(f"--json is {path}, which is a folder; give the name of a file in it.")


def _write_json(path: Path, description: str, report: Report) -> None:
    """Write the report, whole or not at all."""
    counts = {"num_problems": len(report.problems), "num_warnings": len(report.warnings)}
    content = {"data": description.removeprefix("data: ")} | counts | dataclasses.asdict(report)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _default_threads() -> int:
    """Two for each core that this process may use: one decodes while the other waits for its turn."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MAX_THREADS, 2 * cores)
