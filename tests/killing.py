"""Command lines in processes of their own, which can kill themselves on the way."""

import itertools
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

# modules are imported once, and each process is forked from there
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["unetseg.cli", "unetseg.inference.command"])

HOOKS = (
    "on_train_batch_start",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_validation_batch_end",
    "on_validation_end",
    "on_train_epoch_end",
)


class Killer(pl.Callback):
    """Ends the process as `kill -9` does, at the first call of a hook after so many optimizer steps."""

    def __init__(self, step: int, hook: str) -> None:
        self.step = step
        setattr(self, hook, self._kill)

    def _kill(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step >= self.step and not trainer.sanity_checking:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Moment:
    """A file is put into its place by ``atomic_path``.

    Args:
        count: Which, from 1.
        after: Whether just behind it, not just before.
    """

    count: int
    after: bool = False

    def arm(self) -> None:
        """End the process there."""
        replace, left = Path.replace, itertools.count(1)

        def replace_or_die(path: Path, target: Path) -> Path:
            last = next(left) == self.count
            if last and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            done = replace(path, target)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        Path.replace = replace_or_die  # type: ignore[method-assign]


def _run(args: list[str], folder: Path, kill: tuple[int, str] | Moment | None) -> None:
    import torch

    from unetseg import cli
    from unetseg.__main__ import main

    torch.set_num_threads(1)
    os.chdir(folder)
    if isinstance(kill, Moment):
        kill.arm()
    elif kill:
        callbacks = cli.run_callbacks
        cli.run_callbacks = lambda options: [*callbacks(options), Killer(*kill)]
    with (folder / "said.txt").open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        sys.exit(main(args))


def run(args: list[str], folder: Path, kill: tuple[int, str] | Moment | None = None) -> int:
    """Run a command in a folder; return its exit code, below 0 for a signal. What it says is in said.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    process = _CONTEXT.Process(target=_run, args=(args, folder, kill))
    process.start()
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode
