"""A file is whole, or the one from before is still there, and nothing lies beside it."""

import subprocess
import sys
from pathlib import Path

import pytest

from unetseg.atomic import atomic_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_in_place_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.b.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("all")
        assert temporary == tmp_path / "new" / "deep" / ".a.b.txt.part"
        assert not path.exists()
    assert path.read_text() == "all"
    assert names(path.parent) == ["a.b.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("begun", [True, False])
def test_a_failure_leaves_the_file_before(tmp_path: Path, error: BaseException, begun: bool) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def write() -> None:
        with atomic_path(path) as temporary:
            if begun:
                temporary.write_text("half")
            raise error

    with pytest.raises(type(error)) as raised:
        write()
    assert raised.value is error
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "before"


def test_a_file_that_cannot_take_its_place_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match="Is a directory"), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("all")
    assert names(tmp_path) == ["a.txt"]


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    code = f"""
import os, signal
from pathlib import Path
from unetseg.atomic import atomic_path
with atomic_path(Path({str(path)!r})) as temporary:
    temporary.write_text("half of a long text")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert names(tmp_path) == [".a.txt.part", "a.txt"]
    assert path.read_text() == "before"
    with atomic_path(path) as temporary:
        temporary.write_text("all")
    assert names(tmp_path) == ["a.txt"]
    assert path.read_text() == "all"
