"""Files that appear whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["atomic_path"]


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside a file, put into the file's place when the block ends.

    If the block fails or is interrupted, what was written is removed, and a file that was there is as it was. A process
    that is killed leaves the temporary file. Its name is always the same, so the next to write the file writes over it;
    two processes mustn't write the same file at once.

    Args:
        path: The file; its folder is made.

    Yields:
        The path to write to, ``.{name}.part`` in the same folder.

    Raises:
        OSError: If the folder can't be made, or the file can't be put into its place.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_path(Path(folder, "a.txt")) as temporary:
        ...         _ = temporary.write_text("all of it")
        ...         print(temporary.name)
        ...     print([file.name for file in Path(folder).iterdir()])
        .a.txt.part
        ['a.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:  # an interruption, too
        with contextlib.suppress(OSError):  # the reason why it failed is the one to report
            temporary.unlink()
        raise
