"""A run that was killed and resumed is the run that was not killed: weights, optimizer and curves, bit for bit."""

import csv
import itertools
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import HOOKS, run
from small_jobs import TINY

EPOCHS, STEPS = 4, 5  # steps an epoch

JOB = [
    "--data.classes=[background, square]",
    "--seed_everything=3",
    "--model.block.dropout=0.2",
    "--model.lr=0.01",
    f"--trainer.max_epochs={EPOCHS}",
    "--run.pictures=0",
    *TINY,
    "--data.batch_size=1",
]

Rows = list[dict[str, str]]


@pytest.fixture
def data(squares: Path) -> Path:
    """Five training pairs, so that an epoch has five steps."""
    for folder, name in itertools.product(("images", "masks"), ("val_1.png",)):
        content = (squares / folder / name).read_bytes()
        (squares / folder / "train_4.png").write_bytes(content)
    with (squares / "train.txt").open("a") as file:
        file.write("\ntrain_4")
    return squares


def curves(folder: Path) -> Rows:
    """What all versions of a run logged, later ones in place of earlier."""
    rows: dict[tuple[str, bool], dict[str, str]] = {}
    for file in sorted(folder.glob("runs/version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:])):
        with file.open() as lines:
            for row in csv.DictReader(lines):
                logged = {name: value for name, value in row.items() if value}
                rows[row["epoch"], "train_loss" in logged] = logged
    return list(rows.values())


def newest(folder: Path) -> Path:
    """The last checkpoint that is there."""
    return max(folder.glob("runs/version_*/last.ckpt"), key=lambda path: int(path.parent.name[8:]))


def state(folder: Path) -> dict[str, Any]:
    content = torch.load(newest(folder), weights_only=True)
    return {name: content[name] for name in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")}


def assert_equal(one: Any, two: Any, where: str = "") -> None:
    if isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            assert_equal(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), where
        for i, pair in enumerate(zip(one, two, strict=True)):
            assert_equal(*pair, f"{where}.{i}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    else:
        assert one == two, where


def resume(folder: Path, job: list[str]) -> None:
    """Go on from the newest checkpoint, or from the start where a kill came before the first."""
    found = sorted(folder.glob("runs/version_*/last.ckpt"))
    args = ["fit", f"--ckpt_path={newest(folder)}", *TINY[-2:]] if found else job
    assert run(args, folder) == 0, (folder / "said.txt").read_text()


@pytest.mark.slow
def test_twenty_kills_at_random_steps(data: Path, tmp_path: Path) -> None:
    job = ["fit", f"--data.root={data}", *JOB, "--run.checkpoint_every_n_steps=1"]
    whole = tmp_path / "whole"
    assert run(job, whole) == 0, (whole / "said.txt").read_text()
    rng = random.Random(0)
    for number in range(20):
        kill = rng.randrange(EPOCHS * STEPS), rng.choice(HOOKS)
        folder = tmp_path / str(number)
        assert run(job, folder, kill) == -signal.SIGKILL, (kill, (folder / "said.txt").read_text())
        resume(folder, job)
        assert_equal(state(folder), state(whole), str(kill))
        assert curves(folder) == curves(whole), kill


OPTIONS = {
    "epochs alone": [],
    "two workers": ["--data.num_workers=2", "--run.checkpoint_every_n_steps=2"],
    "every other epoch": ["--trainer.check_val_every_n_epoch=2", "--run.checkpoint_every_n_steps=3"],
    "averaged weights": ["--run.ema_decay=0.5", "--run.checkpoint_every_n_steps=1"],
    "accumulated gradients": [
        "--trainer.accumulate_grad_batches=2",
        "--trainer.gradient_clip_val=0.1",
        "--run.checkpoint_every_n_steps=1",
    ],
    "plateau": [
        "--model.optimizer={SGD: {momentum: 0.9}}",
        "--model.scheduler={ReduceLROnPlateau: {patience: 0, threshold: 0.5}}",
        "--run.checkpoint_every_n_steps=1",
    ],
    "epochs of a scheduler": [
        "--model.scheduler={CosineAnnealingLR: {T_max: run}}",
        "--run.checkpoint_every_n_steps=1",
        "--model.freeze=[encoder.layer1]",
        "--run.early_stopping=2",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_options_survive_a_chain_of_kills(name: str, data: Path, tmp_path: Path) -> None:
    """The resumed runs are told nothing but the checkpoint."""
    job = ["fit", f"--data.root={data}", *JOB, *OPTIONS[name]]
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    assert run(job, whole) == 0, (whole / "said.txt").read_text()
    rng = random.Random(1)
    for steps in (4, 9):
        found = sorted(folder.glob("runs/version_*/last.ckpt"))
        args = ["fit", f"--ckpt_path={newest(folder)}", *TINY[-2:]] if found else job
        assert run(args, folder, (steps, rng.choice(HOOKS[:3]))) == -signal.SIGKILL, (folder / "said.txt").read_text()
    resume(folder, job)
    assert_equal(state(folder), state(whole))
    assert curves(folder) == curves(whole)
