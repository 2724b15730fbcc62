"""Which images a prediction takes, and what the files that it writes for each of them are called."""

import contextlib
import os
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from unetseg.data.decoding import IMAGE_SUFFIXES
from unetseg.errors import DataError

__all__ = ["COMMON_FILES", "SUFFIXES", "SUFFIXES_OF", "image_name", "plan_outputs"]

SUFFIXES_OF: dict[str, tuple[str, str]] = {
    "mask": (".png", ".tif"),
    "overlay": (".overlay.jpg", ".overlay.tiff"),
    "probabilities": (".probabilities.npy", ".probabilities.tiff"),
    "polygons": (".geojson", ".geojson"),
}
"""What writers append to a stem: for an image, and for one that is read by windows."""

SUFFIXES = tuple(sorted({suffix for pair in SUFFIXES_OF.values() for suffix in pair}))
"""All of them. None ends with another, so files of two stems never have the same name."""

COMMON_FILES = ("_legend.json", "_legend.png", "_shares.jsonl")
"""What a prediction writes once, for all images."""


def plan_outputs(inputs: Iterable[Path], output: Path, *, class_folders: Sequence[str] = ()) -> dict[Path, Path]:
    """What the files of each image are called.

    A file's are named after it; a folder's images, found in all its subfolders, keep their path below the folder. An
    image that is found through several inputs counts once, with the longest of these paths. Hidden files and folders,
    and files inside the output folder, are no inputs unless they are given themselves; a file that is given may end in
    anything.

    Images keep their suffix where their files couldn't be told from others: a.jpg and a.png become a.jpg.png and
    a.png.png. Names that differ in case alone can't be told apart on some systems, and keep it, too.

    Args:
        inputs: Image files and folders.
        output: Folder for the files; nothing is written to it here.
        class_folders: Names of folders in it where each image has a file, too, of the same path below them.

    Returns:
        Stem of each image, a path relative to the output folder: one of ``SUFFIXES`` is appended to it as text, since
        ``with_suffix`` would take b away from a.b. In the order of the inputs, and sorted within a folder.

    Raises:
        DataError: If an input doesn't exist or can't be read, there is no image at all, images can't but share their
            files, a file would overwrite an image, or a subfolder of the output isn't a folder or is a link.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("a.b.jpg", "c.jpg", "c.png"):
        ...         Path(folder, name).touch()
        ...     stems = plan_outputs([Path(folder)], Path("masks"))
        >>> [f"{stem}.png" for stem in stems.values()]
        ['a.b.png', 'c.jpg.png', 'c.png.png']
    """
    given = list(inputs)
    root = os.path.realpath(output)
    found, exposed = _find_images(given, root)
    if not found:
        raise DataError(
            f"no images in {', '.join(map(str, given))}; image files end in {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    names = dict(found.values())
    folders = _folders(names.values())
    folders |= {os.path.join(first, folder) for first in class_folders for folder in folders} | set(class_folders)
    stems = _distinct_stems(names, folders, output)
    _check_folders(output, folders)
    _check_overwritten(exposed, stems.values(), root, class_folders)
    return {Path(source): Path(stem) for source, stem in stems.items()}


def image_name(source: Path, stem: Path) -> str:
    """An image's path below its input, with / on every system; within a plan each image has its own.

    Example:
        >>> image_name(Path("photos/deep/b.jpg"), Path("deep/b"))
        'deep/b.jpg'
    """
    return (stem.parent / source.name).as_posix()


def _find_images(inputs: Iterable[Path], root: str) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Find each image once. A link is an image of its own, with its own name.

    Returns:
        Source and path below the input, by the real path of the folder and the name; and those of these real paths
        which may lie in the output.
    """
    found: dict[str, tuple[str, str]] = {}
    exposed: list[str] = []
    real_folders: dict[str, str] = {}
    for path in inputs:
        images: Iterable[tuple[str, str, str]]
        if os.path.isdir(path):
            top = os.path.realpath(path)
            if top == root:
                raise DataError(f"{path} is --output, too, where images and masks would mix; give another --output.")
            images = ((os.path.join(top, name), os.path.join(path, name), name) for name in _walk(path, top, root))
        elif os.path.isfile(path):
            folder, name = os.path.split(path)
            if folder not in real_folders:
                real_folders[folder] = os.path.realpath(folder)
            images = [(os.path.join(real_folders[folder], name), str(path), name)]
        else:
            raise DataError(f"there is no file or folder {path}.")
        may_be_output = not os.path.isdir(path) or _is_within(os.path.realpath(path), root)
        for real, source, name in images:
            exposed += [real] if may_be_output else []
            if real not in found or len(found[real][1]) < len(name):
                found[real] = source, name
    return found, exposed


def _walk(folder: Path, top: str, root: str) -> Iterator[str]:
    """Paths of images below a folder, sorted by their parts; of the output in it, none. Links aren't walked."""
    has_output = os.path.isdir(root) and not _is_within(top, root)
    pending = [("", True)]
    while pending:
        path, is_folder = pending.pop()
        if not is_folder:
            yield path
            continue
        if has_output and os.path.join(top, path) == root:
            continue
        try:
            with os.scandir(os.path.join(folder, path)) as entries:
                below = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise DataError(
                f"the folder {os.path.join(folder, path)} can't be read: {error.strerror}. Change its permissions, or "
                f"give the files and folders beside it."
            ) from error
        for entry in sorted(below, key=lambda entry: entry.name, reverse=True):
            name = os.path.join(path, entry.name)
            if entry.is_dir(follow_symlinks=False):
                pending.append((name, True))
            elif entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file():
                is_output = has_output and entry.is_symlink() and _is_within(os.path.realpath(entry.path), root)
                pending += [] if is_output else [(name, False)]


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def _check_folders(output: Path, folders: Iterable[str]) -> None:
    """Raise an error if files would get elsewhere through a link, or a folder can't be made."""
    for folder in sorted(folders):
        path = os.path.join(output, folder)
        if os.path.islink(path):
            raise DataError(
                f"{path} is a link to {os.path.realpath(path)}, so that masks would be written outside of {output}; "
                f"remove the link, or give another --output."
            )
        if os.path.lexists(path) and not os.path.isdir(path):
            raise DataError(
                f"{path} is a file, where a folder of masks has to be; remove it, or give another --output."
            )


def _folders(names: Iterable[str]) -> set[str]:
    """All folders that the paths lie in."""
    folders: set[str] = set()
    for folder in {os.path.dirname(name) for name in names}:
        while folder and folder not in folders:
            folders.add(folder)
            folder = os.path.dirname(folder)
    return folders


def _without_suffix(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def _folded(name: str) -> str:
    """The same for names that are the same where case doesn't count, or where accents are written in one way only."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def _distinct_stems(names: Mapping[str, str], folders: Iterable[str], output: Path) -> dict[str, str]:
    """Paths without suffix; with it where that doesn't tell an image's files from all others.

    Args:
        names: Path below the input of each image.
        folders: All that will be in the output.
        output: The output folder.
    """
    places = {_folded(folder): folder for folder in folders}
    if clash := sorted(places.keys() & set(COMMON_FILES)):
        raise DataError(f"{output / places[clash[0]]} would be a folder of masks and a file of its own; rename it.")
    taken = {file.partition(".")[0] for file in COMMON_FILES}
    taken |= {place.removesuffix(suffix) for place in places for suffix in SUFFIXES if place.endswith(suffix)}
    stems = {source: _without_suffix(name) for source, name in names.items()}
    folded = {source: _folded(stem) for source, stem in stems.items()}
    while True:  # a.jpg keeps its suffix beside a.png, and so a.jpg.gif has to
        counts = Counter(folded.values())
        doubtful = [source for source, stem in folded.items() if counts[stem] > 1 or stem in taken]
        short = [source for source in doubtful if stems[source] != names[source]]
        if not short:
            break
        stems |= {source: names[source] for source in short}
        folded |= {source: _folded(names[source]) for source in short}
    if blocked := [source for source in doubtful if folded[source] in taken]:
        raise DataError(f"{blocked[0]}: files named after it would be in the place of others in {output}; rename it.")
    _check_distinct({source: stems[source] for source in doubtful}, folded, output)
    return stems


def _check_distinct(stems: Mapping[str, str], folded: Mapping[str, str], output: Path) -> None:
    """Raise an error if stems are the same, or differ in a way that the output's file system doesn't know."""
    owners: dict[str, str] = {}
    for source, stem in stems.items():
        if owners.setdefault(stem, source) != source:
            raise _same_mask(owners[stem], source)
    if not stems:
        return
    place = next(place for place in (output.absolute(), *output.absolute().parents) if place.is_dir())
    firsts: dict[str, str] = {}
    # where nothing can be written, the masks can't be either, and that is told later
    with contextlib.suppress(OSError), tempfile.TemporaryDirectory(dir=place, prefix=".names-") as scratch:
        for source, stem in stems.items():
            file = Path(scratch, f"{stem}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            first = firsts.setdefault(folded[source], source)
            try:
                file.touch(exist_ok=False)
            except FileExistsError:
                raise _same_mask(first, source) from None


def _same_mask(first: str, second: str) -> DataError:
    return DataError(f"{first} and {second} would write the same mask; predict them into separate folders.")


def _check_overwritten(images: Iterable[str], stems: Iterable[str], root: str, class_folders: Iterable[str]) -> None:
    """Raise an error if a file of the prediction would take the place of an image, or of what a linked image is."""
    if not os.path.isdir(root):
        return
    written = {_folded(stem): stem for stem in stems}
    prefixes = {_folded(folder): folder for folder in class_folders}
    for real in images:
        for place in (real, os.path.realpath(real)) if os.path.islink(real) else (real,):
            if not _is_within(place, root):
                continue
            for target in _candidates(_folded(os.path.relpath(place, root)), written, prefixes):
                path = os.path.join(root, target)
                if os.path.exists(path) and os.path.samefile(path, place):  # names may differ in case
                    raise DataError(f"the mask {path} would overwrite an image; give another --output.")


def _candidates(name: str, written: Mapping[str, str], prefixes: Mapping[str, str]) -> Iterator[str]:
    """Files of the prediction that a file of the output may be."""
    if name in COMMON_FILES:
        yield name
    for suffix in SUFFIXES:
        stem = name.removesuffix(suffix)
        if stem == name:
            continue
        if stem in written:
            yield written[stem] + suffix
        first, _, rest = stem.partition(os.sep)
        if first in prefixes and rest in written:
            yield os.path.join(prefixes[first], written[rest] + suffix)
