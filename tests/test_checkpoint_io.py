"""A checkpoint is whole or the one before it is still there, whatever happens while it is written."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unetseg.checkpoint_io import AtomicCheckpointIO, copy_atomically
from unetseg.errors import CheckpointError

SMALL = {"weights": torch.arange(5.0), "epoch": 3}
LARGE = {"weights": torch.zeros(1_000_000), "epoch": 4}


@pytest.fixture
def _little_room():
    """Files can't grow beyond 100 kB, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def content(path: Path) -> dict[str, object]:
    return torch.load(path, weights_only=True)


@pytest.mark.usefixtures("_little_room")
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path, plugin = tmp_path / "last.ckpt", AtomicCheckpointIO()
    with pytest.raises(CheckpointError, match=r"last.ckpt couldn't be written: File too large; there is none from"):
        plugin.save_checkpoint(LARGE, path)
    assert list(tmp_path.iterdir()) == []
    plugin.save_checkpoint(SMALL, path)
    with pytest.raises(CheckpointError, match=r"File too large; the one from before is as it was. Make room"):
        plugin.save_checkpoint(LARGE, path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert content(path)["epoch"] == 3


def test_a_folder_that_is_none_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"couldn't be written: (Not a directory|File exists)"):
        AtomicCheckpointIO().save_checkpoint(SMALL, tmp_path / "file" / "last.ckpt")


def test_a_copy_is_whole(tmp_path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(SMALL, tmp_path / "a.ckpt")
    copy_atomically(tmp_path / "a.ckpt", tmp_path / "new" / "b.ckpt")
    assert (tmp_path / "new" / "b.ckpt").read_bytes() == (tmp_path / "a.ckpt").read_bytes()


def test_a_kill_while_writing_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """The system kills the process where its file reaches 100 kB."""
    path = tmp_path / "last.ckpt"
    code = f"""
import resource, signal, torch
from unetseg.checkpoint_io import AtomicCheckpointIO
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
plugin = AtomicCheckpointIO()
plugin.save_checkpoint({{"epoch": 3}}, {str(path)!r})
plugin.save_checkpoint({{"weights": torch.zeros(1_000_000)}}, {str(path)!r})
"""
    run = subprocess.run([sys.executable, "-c", code], check=False)
    assert run.returncode == -signal.SIGXFSZ
    assert (tmp_path / ".last.ckpt.part").stat().st_size > 0
    assert content(path) == {"epoch": 3}
    AtomicCheckpointIO().save_checkpoint(SMALL, path)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
