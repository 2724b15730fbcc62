"""Writing checkpoints so that a killed run or a full disk costs the new one at most, never the one before."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

from unetseg.atomic import atomic_path
from unetseg.errors import CheckpointError, first_line

__all__ = ["AtomicCheckpointIO", "copy_atomically"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's file format, written beside the target and put into its place when it is whole and on the disk.

    Lightning builds the file in memory first, and its temporary file may lie on another disk, from which it is copied.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     AtomicCheckpointIO().save_checkpoint({"epoch": 3}, f"{folder}/last.ckpt")
        ...     print(os.listdir(folder), AtomicCheckpointIO().load_checkpoint(f"{folder}/last.ckpt"))
        ['last.ckpt'] {'epoch': 3}
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: Its content.
            path: The file; addresses such as ``s3://`` are left to Lightning.
            storage_options: None.

        Raises:
            CheckpointError: If it can't be written; a file that was there is as it was.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            _write(Path(path), lambda file: torch.save(checkpoint, file))


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a checkpoint.

    Raises:
        CheckpointError: If it can't be written; a file that was there is as it was.
    """
    with source.open("rb") as content:
        _write(target, lambda file: shutil.copyfileobj(content, file))


def _write(target: Path, write: Callable[[BinaryIO], object]) -> None:
    try:
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a write that failed
        cause = next((cause for cause in (error, error.__context__) if isinstance(cause, OSError)), None)
        if cause is None:
            raise
        kept = "the one from before is as it was" if target.is_file() else "there is none from before"
        reason = cause.strerror or first_line(cause).rstrip(".")
        raise CheckpointError(
            f"the checkpoint {target} couldn't be written: {reason}; {kept}. Make room, or write elsewhere with "
            f"--run.folder."
        ) from error
