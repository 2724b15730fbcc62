"""All pairs of a data set: read by several threads, counted by split, and what is wrong with them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

from unetseg.checking.findings import (
    PROBLEMS,
    WARNINGS,
    Finding,
    PairName,
    about_classes,
    about_copies,
    about_failure,
    about_range,
    about_zero_and_255,
    name_pair,
)
from unetseg.checking.pair import PairFigures, measure_pair
from unetseg.checking.tally import SplitFigures, Tally
from unetseg.data.labels import Labels
from unetseg.data.sources import FileSource, Source
from unetseg.data.splits import Split
from unetseg.errors import UnetsegError

__all__ = ["Report", "check_sources"]

_AHEAD = 4  # pairs a thread that may be read before their turn: bounds what is kept of them

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Report:
    """What all pairs of a data set say.

    Attributes:
        pairs: number of pairs.
        problems: what must be mended, in the order of `unetseg.checking.findings.PROBLEMS`.
        warnings: what may be as it should be, in the order of `unetseg.checking.findings.WARNINGS`.
        splits: figures of each split.
        mean: mean of each channel over all pixels of the training images, of values in [0, 1]; None if none could be
            read, as for the next two.
        std: standard deviation of the same.
        value_range: least and greatest of these values.
    """

    pairs: int
    problems: list[Finding]
    warnings: list[Finding]
    splits: dict[str, SplitFigures]
    mean: list[float] | None
    std: list[float] | None
    value_range: tuple[float, float] | None


def check_sources(
    sources: Mapping[Split, Source],
    labels: Labels,
    *,
    num_threads: int = 1,
    on_pair: Callable[[], object] = lambda: None,
) -> Report:
    """Read every pair once and tell what is wrong.

    Threads are faster here than processes, which would import torch first: decoders, numpy and hashes let each other
    run. No figure depends on their number.

    Args:
        sources: pairs of each split.
        labels: what the masks mean.
        num_threads: how many pairs are read at once.
        on_pair: called after each pair.

    Example:
        >>> from unetseg.data.datamodule import SegmentationDataModule
        >>> data = SegmentationDataModule(synthetic_length=8)
        >>> report = check_sources(data.sources, data.labels)
        >>> report.pairs, report.problems, report.splits["train"].read
        (10, [], 8)
    """
    tallies = {split: Tally(len(source), labels) for split, source in sources.items()}
    found: list[Finding] = []
    copies: dict[bytes, list[tuple[PairName, bytes]]] = {}

    # files can be read by several threads; shards can't, nor perhaps what else there may be
    one_by_one = any(not isinstance(source, FileSource) for source in sources.values())
    turn: AbstractContextManager[Any] = Lock() if one_by_one else nullcontext()

    def measure(job: tuple[Split, int]) -> PairFigures | UnetsegError:
        split, index = job
        try:
            with turn:
                pair = sources[split].read(index)
            return measure_pair(pair, labels, with_moments=split == "train")
        except UnetsegError as error:
            return error

    jobs = ((split, index) for split, source in sources.items() for index in range(len(source)))
    with ThreadPoolExecutor(num_threads) as threads:
        try:
            for (split, index), figures in _in_order(threads, measure, jobs, ahead=_AHEAD * num_threads):
                pair = name_pair(sources[split], split, index)
                if isinstance(figures, UnetsegError):
                    found.append(about_failure(pair, figures))
                else:
                    tallies[split].add(pair, figures)
                    copies.setdefault(figures.image_digest, []).append((pair, figures.mask_digest))
                on_pair()
        finally:  # after Ctrl-C nothing more is read
            threads.shutdown(wait=False, cancel_futures=True)
    for same in copies.values():
        found += about_copies(same)
    found += _about_masks(tallies, labels)
    moments = tallies["train"].moments if "train" in tallies else None
    if moments is not None:
        found += about_range(moments.low, moments.high)
    return Report(
        pairs=sum(map(len, sources.values())),
        problems=[finding for kind in PROBLEMS for finding in found if finding.kind == kind],
        warnings=[finding for kind in WARNINGS for finding in found if finding.kind == kind],
        splits={split: tally.figures() for split, tally in tallies.items()},
        mean=None if moments is None else moments.mean.tolist(),
        std=None if moments is None else moments.std.tolist(),
        value_range=None if moments is None else (moments.low, moments.high),
    )


def _about_masks(tallies: Mapping[Split, Tally], labels: Labels) -> list[Finding]:
    found = [finding for tally in tallies.values() for finding in tally.stray]
    trapped = [split for split, tally in tallies.items() if tally.only_zero_and_255]
    if trapped:
        found.append(about_zero_and_255(trapped, labels))
    # in a split where a class is taken for ignored pixels, these would follow from it
    found += [finding for split, tally in tallies.items() if split not in trapped for finding in tally.empty]
    if "train" in tallies and tallies["train"].read and "train" not in trapped:
        found += about_classes({split: tally.class_images.tolist() for split, tally in tallies.items()}, labels)
    return found


def _in_order(
    threads: ThreadPoolExecutor, function: Callable[[Job], Result], jobs: Iterable[Job], *, ahead: int
) -> Iterator[tuple[Job, Result]]:
    """Results in the order of the jobs; so many jobs at most are begun before their turn."""
    begun: deque[tuple[Job, Future[Result]]] = deque()
    for job in jobs:
        begun.append((job, threads.submit(function, job)))
        if len(begun) > ahead:
            first, future = begun.popleft()
            yield first, future.result()
    for first, future in begun:
        yield first, future.result()
