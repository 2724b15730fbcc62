"""Data sets as a table: a CSV or JSON file with the image, the mask and the split of each pair."""

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetseg.data.splits import SPLITS, Sample, Split
from unetseg.errors import DataError, abridged, first_line

__all__ = ["read_manifest"]

_COLUMNS = ("image", "mask", "split")
_EXAMPLE = "image,mask,split (train, val or test)"


def read_manifest(path: Path, root: Path) -> dict[Split, list[Sample]]:
    r"""Read the pairs that a manifest lists; their order is kept.

    Args:
        path: ``.csv`` with the header ``image,mask,split``, or ``.json``, a list of objects with these keys. Other
            columns are passed over. For multilabel data, JSON's mask is an object with a file for each class that
            occurs.
        root: folder that its paths are relative to, with ``/`` or ``\`` in them; absolute ones are taken as they are.

    Raises:
        DataError: if the file can't be read, lacks a column, names a file that isn't there, an image twice or an
            unknown split, or leaves train or val empty.
    """
    if path.suffix.lower() not in (".csv", ".json"):
        raise DataError(f"--data.manifest {path}: must be a .csv file with the header {_EXAMPLE}, or a .json file")
    rows = _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path)
    samples: dict[Split, list[Sample]] = {}
    seen: dict[str, str] = {}
    gone: list[str] = []
    for where, row in rows:
        missing = [column for column in _COLUMNS if row.get(column) in (None, "")]
        if missing:
            raise DataError(f"{path}, {where}: {' and '.join(missing)} not given; each pair needs {_EXAMPLE}")
        split = next((split for split in SPLITS if split == row["split"]), None)
        if split is None:
            raise DataError(f"{path}, {where}: split {row['split']!r}; it can be {', '.join(SPLITS)}")
        name = _spelt(root, row["image"])
        image, mask = root / name, _resolve_mask(root, row["mask"])
        files = [image, *(mask.values() if isinstance(mask, dict) else [mask])]
        gone += [str(file) for file in files if not os.path.isfile(file)]  # any name, even one that is too long
        file = os.path.abspath(image)
        if file in seen:
            raise DataError(f"{path}, {where}: {name} is listed before, in {seen[file]}; keep one")
        seen[file] = where
        samples.setdefault(split, []).append(Sample(name, image, mask))
    if gone:
        raise DataError(
            f"{path} lists {len(gone)} files that aren't there ({abridged(gone)}); paths are relative to {root}"
        )
    if empty := [split for split in ("train", "val") if split not in samples]:
        raise DataError(f"{path} lists no pair for {' and none for '.join(empty)}; each pair needs {_EXAMPLE}")
    return {split: samples[split] for split in SPLITS if split in samples}


def _csv_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # Windows editors write the signature
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [(f"line {reader.line_num}", _stripped(row)) for row in reader]
            header = list(_stripped(dict.fromkeys(reader.fieldnames or ())))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"--data.manifest {path}: {_reason(error)}") from error
    if missing := [column for column in _COLUMNS if column not in header]:
        raise DataError(
            f"{path} has the columns {', '.join(header) or 'none'}, not {' and '.join(missing)}; its first line must "
            f"be a header with {_EXAMPLE}, separated by commas"
        )
    return rows


def _stripped(row: Mapping[str, Any]) -> dict[str, Any]:
    """Cells by column, without spaces around either, and without those beyond the header."""
    return {
        column.strip(): cell.strip() if isinstance(cell, str) else cell
        for column, cell in row.items()
        if isinstance(column, str)
    }


def _json_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"--data.manifest {path}: {_reason(error)}") from error
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DataError(f"--data.manifest {path}: must be a JSON list of objects with {_EXAMPLE}")
    return [(f"entry {i}", row) for i, row in enumerate(content)]


def _reason(error: Exception) -> str:
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else first_line(error)


def _spelt(root: Path, file: object) -> str:
    """A file's name as it is here, where it may be spelt as on Windows."""
    return str(file) if os.path.isfile(root / str(file)) else str(file).replace("\\", "/")


def _resolve_mask(root: Path, mask: object) -> Any:
    if isinstance(mask, Mapping):
        return {str(name): root / _spelt(root, file) for name, file in mask.items() if file not in (None, "")}
    return root / _spelt(root, mask)
