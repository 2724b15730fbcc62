"""Training from shards: each pair once an epoch, over workers and processes, and across an interruption."""

import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from unetseg.data.built_in import SceneSource
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.data.dataset import SegmentationDataset, collate
from unetseg.data.images import ImageReader
from unetseg.data.labels import parse_labels
from unetseg.data.opening import shard_settings
from unetseg.data.shard_writer import write_shards
from unetseg.data.shards import ShardSource
from unetseg.data.streaming import ShardLoader, ShardSampler, epoch_order, training_loader
from unetseg.data.synthetic import CLASSES, SyntheticScenes
from unetseg.data.transforms import TrainingTransform, initialise_worker
from unetseg.errors import DataError
from unetseg.task import SegmentationTask

PAIRS, BATCH = 13, 4
SETTINGS = shard_settings(parse_labels(CLASSES), ImageReader())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 13 scenes, two or three in each."""
    output = tmp_path_factory.mktemp("shards") / "s"
    write_shards({"train": SceneSource(SyntheticScenes(PAIRS, seed=0))}, output, SETTINGS, shard_mb=0.07)
    return output


def make(folder: Path, *, workers: int = 0, batch_size: int = BATCH, **options: Any) -> ShardLoader:
    source = ShardSource(folder, "train", ImageReader())
    assert len(source.shard_sizes) > 4
    return training_loader(
        SegmentationDataset(source, TrainingTransform(crop_size=16, ignore_index=255)),
        source.shard_sizes,
        batch_size=batch_size,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=partial(initialise_worker, rank=options.get("rank", 0)),
        **options,
    )


def names(batches: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [tuple(batch["name"]) for batch in batches]


@pytest.mark.parametrize("sizes", [[1], [7], [3, 3, 3], [5, 1, 4, 2, 6, 3, 1, 1, 9]])
def test_an_epoch_is_a_permutation_that_seed_and_number_decide(sizes: list[int]):
    orders = [epoch_order(sizes, seed=seed, epoch=epoch).tolist() for seed in (0, 1) for epoch in range(3)]
    assert all(sorted(order) == [*range(sum(sizes))] for order in orders)
    assert orders[1] == epoch_order(sizes, seed=0, epoch=1).tolist()
    if sum(sizes) > 6:
        assert len({*map(tuple, orders)}) == 6


def test_few_shards_are_read_at_a_time_and_all_positions_are_possible():
    sizes, window = [10] * 12, 3
    firsts = set()
    for epoch in range(200):
        shards = epoch_order(sizes, seed=0, epoch=epoch, window=window) // 10
        parts = shards.reshape(4, -1)
        assert all(len(set(part)) == window for part in parts.tolist())
        assert all((np.diff(part) == 0).mean() < 0.9 for part in parts)  # their pairs are mixed
        firsts.add(int(shards[0]))
    assert firsts == {*range(12)}


SHARES = list(itertools.product([[1], [3, 3], [5, 5, 3], [7, 2, 9, 4, 1]], [1, 2, 4, 30], [1, 2, 3]))


@pytest.mark.parametrize(("sizes", "batch_size", "processes"), SHARES)
@pytest.mark.parametrize("drop_last", [False, True])
def test_processes_share_an_epoch_evenly(sizes: list[int], batch_size: int, processes: int, drop_last: bool):
    options: dict[str, Any] = {"batch_size": batch_size, "drop_last": drop_last, "num_replicas": processes}
    parts = [ShardSampler(sizes, rank=rank, **options) for rank in range(processes)]
    shares = [list(part) for part in parts]
    total, seen = sum(sizes), [index for share in shares for index in share]
    assert {len(share) for share in shares} == {len(parts[0])}
    if drop_last and total >= batch_size * processes:
        assert len(shares[0]) % batch_size == 0
        assert len(seen) == len(set(seen)) > total - batch_size * processes
    else:
        assert set(seen) == {*range(total)}
        assert len(seen) < total + processes


def test_processes_read_shards_of_their_own():
    sizes = [10] * 40
    shares = [ShardSampler(sizes, batch_size=2, num_replicas=2, rank=rank) for rank in (0, 1)]
    first, second = ({index // 10 for index in share} for share in shares)
    assert len(first) == len(second) == 20


@pytest.mark.parametrize("workers", [0, 2])
def test_each_pair_comes_once_an_epoch(folder: Path, workers: int):
    loader = make(folder, workers=workers, drop_last=False)
    epochs = [names(loader) for _ in range(3)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [4, 4, 4, 1]
        assert sorted(itertools.chain(*epoch)) == [f"{index:05d}" for index in range(PAIRS)]
    assert len({*map(tuple, epochs)}) == 3
    assert len(loader) == 4
    assert [names(make(folder, workers=2 - workers, drop_last=False))] == epochs[:1]
    assert names(make(folder, seed=1, drop_last=False)) != epochs[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_augmented_crops(folder: Path, workers: int):
    loader = make(folder, workers=workers)
    batches = list(loader)
    assert len(batches) == len(loader) == PAIRS // BATCH
    for batch in batches:
        assert (batch["image"].shape, batch["image"].dtype) == ((BATCH, 3, 16, 16), torch.uint8)
        assert (batch["mask"].shape, batch["mask"].dtype) == ((BATCH, 16, 16), torch.uint8)


def test_set_epoch_names_the_next_pass(folder: Path):
    loader = make(folder)
    epochs = [names(loader) for _ in range(3)]
    loader.sampler.set_epoch(1)
    assert [names(loader), names(loader)] == epochs[1:]


@pytest.mark.parametrize(("workers", "later_workers"), [(0, 0), (2, 2), (2, 0)])
@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_the_rest_of_an_epoch_follows_an_interruption(folder: Path, workers: int, later_workers: int, done: int):
    whole = make(folder, seed=3)
    _, second, third = (names(whole) for _ in range(3))
    loader = make(folder, workers=workers, seed=3)
    list(loader)
    assert names(itertools.islice(loader, done)) == second[:done]
    state = json.loads(json.dumps(loader.sampler.state_dict()))
    resumed = make(folder, workers=later_workers)  # the seed is the state's
    resumed.sampler.load_state_dict(state)
    assert len(resumed) == len(second) == 3  # as Lightning counts
    if done < 3:
        assert names(resumed) == second[done:]
    assert names(resumed) == third


def test_an_interruption_of_the_rest_is_followed_too(folder: Path):
    epoch = names(make(folder, batch_size=2))
    state: dict[str, int] = {}
    seen = []
    for count in (1, 2, 3):
        loader = make(folder, batch_size=2)
        if state:
            loader.sampler.load_state_dict(state)
        seen += names(itertools.islice(loader, count))
        state = loader.sampler.state_dict()
    assert seen == epoch


def test_a_checkpoint_of_another_epoch_is_no_start(folder: Path):
    whole = make(folder)
    epochs = [names(whole) for _ in range(2)]
    loader = make(folder)
    names(itertools.islice(loader, 2))
    resumed = make(folder)
    resumed.sampler.load_state_dict(loader.sampler.state_dict())
    resumed.sampler.set_epoch(1)  # limit_train_batches has ended the first
    assert names(resumed) == epochs[1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 2}, "within an epoch of 1 x 4 pairs a step .*, and this run has 1 x 2: which pairs"),
        ({"num_replicas": 2}, "within an epoch of 1 x 4 pairs a step .*, and this run has 2 x 4: which pairs"),
    ],
)
def test_what_changes_the_rest_of_an_epoch_is_refused(folder: Path, changed: dict[str, int], message: str):
    loader = make(folder)
    names(itertools.islice(loader, 1))
    resumed = make(folder, **changed)
    resumed.sampler.load_state_dict(loader.sampler.state_dict())
    with pytest.raises(DataError, match=message):
        next(iter(resumed))
    names(itertools.islice(loader, 3))
    resumed = make(folder, **changed)
    resumed.sampler.load_state_dict(loader.sampler.state_dict())  # of the epoch's end
    next(iter(resumed))


def test_other_shards_of_the_same_pairs_are_refused_within_an_epoch(folder: Path, tmp_path: Path):
    sampler = ShardSampler([5, 5, 3], batch_size=4)
    list(sampler)
    sampler.count_batch()
    other = ShardSampler([6, 6, 1], batch_size=4)
    other.load_state_dict(sampler.state_dict())
    with pytest.raises(DataError, match="this run has 1 x 4, of other shards: which pairs are left"):
        iter(other)


class Noting(LightningModule):
    """A model of one weight that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, tuple[str, ...]]] = []

    def training_step(self, batch: dict[str, Any]) -> torch.Tensor:
        """Note a batch."""
        self.seen.append((self.current_epoch, tuple(batch["name"])))
        return self.weight**2

    def validation_step(self, batch: torch.Tensor) -> None:
        """Do nothing."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return plain descent; ask for the number of steps, as a schedule does, before the loop is restored."""
        assert self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(SegmentationDataModule):
    """Shards for training, and something for validation."""

    def __init__(self, folder: Path, workers: int) -> None:
        super().__init__(shards=str(folder), crop_size=16, batch_size=2, num_workers=workers)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return one batch."""
        return DataLoader(torch.zeros(1, 1))  # type: ignore[arg-type]


def fit(folder: Path, workers: int = 0, *, ckpt_path: Path | None = None, **options: Any) -> list[Any]:
    """Train for three epochs of six batches, and return what was seen."""
    model = Noting()
    defaults = {"max_epochs": 3, "num_sanity_val_steps": 0, "accelerator": "cpu", "devices": 1, "logger": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    if "callbacks" not in options:
        quiet["enable_checkpointing"] = False
    Trainer(**(defaults | quiet | options)).fit(model, Data(folder, workers), ckpt_path=ckpt_path)
    return model.seen


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("saved", "stop", "both"),
    [
        ({"every_n_train_steps": 4}, {"max_steps": 10}, {}),
        ({"every_n_train_steps": 6}, {"max_steps": 7}, {}),
        ({"save_on_train_epoch_end": True}, {"max_epochs": 1}, {}),
        ({"save_on_train_epoch_end": False}, {"max_epochs": 2}, {}),
        ({"save_on_train_epoch_end": False}, {"max_steps": 9}, {"val_check_interval": 2}),
        ({"save_on_train_epoch_end": True}, {"max_epochs": 1}, {"limit_train_batches": 4}),
    ],
    ids=["within an epoch", "last step", "epoch's end", "validation", "validation within", "limited"],
)
@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path., callbacks")
def test_a_resumed_run_sees_what_an_unbroken_one_does(
    folder: Path, tmp_path: Path, workers: int, saved: dict[str, Any], stop: dict[str, Any], both: dict[str, Any]
):
    unbroken = fit(folder, **both)
    checkpoint = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **saved)
    fit(folder, workers, callbacks=[checkpoint], **(both | stop))
    last = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    steps = torch.load(last, weights_only=True)["global_step"]
    assert 0 < steps < len(unbroken)
    assert fit(folder, workers, ckpt_path=last, **both) == unbroken[steps:]


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path., callbacks")
def test_a_task_resumes_within_an_epoch(folder: Path, tmp_path: Path):
    """The real one, whose schedule asks for the number of steps before anything is restored."""

    class Task(SegmentationTask):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            seen.append((self.current_epoch, tuple(batch["name"])))
            return super().training_step(batch, batch_idx)

    def train(**options: Any) -> list[Any]:
        seen.clear()
        task = Task(list(CLASSES), encoder_depth=3, decoder_channels=[8, 8, 8])
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        ckpt_path = options.pop("ckpt_path", None)
        Trainer(max_epochs=2, limit_val_batches=0, **quiet, **options).fit(task, Data(folder, 0), ckpt_path=ckpt_path)
        return list(seen)

    seen: list[Any] = []
    unbroken = train(enable_checkpointing=False)
    train(max_steps=5, callbacks=[ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=4)])
    resumed = train(ckpt_path=tmp_path / "step=4.ckpt", enable_checkpointing=False)
    assert len(unbroken) == 12
    assert resumed == unbroken[4:]


def test_overfitting_repeats_its_batches(folder: Path):
    with pytest.warns(UserWarning, match="turning off the train dataloader shuffling"):
        seen = fit(folder, overfit_batches=2)
    assert [batch for _, batch in seen[:2]] * 3 == [batch for _, batch in seen]


@pytest.mark.slow
def test_spawned_workers_read_shards(folder: Path):
    loader = make(folder, workers=2, drop_last=False, multiprocessing_context="spawn")
    assert names(loader) == names(make(folder, drop_last=False))


GLOO = """
import json, sys
import torch.distributed as dist
from unetseg.data.dataset import SegmentationDataset, collate
from unetseg.data.images import ImageReader
from unetseg.data.shards import ShardSource
from unetseg.data.streaming import training_loader

if __name__ == "__main__":
    folder, workers, drop_last, output = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "drop", sys.argv[4]
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    source = ShardSource(folder, "train", ImageReader())
    loader = training_loader(
        SegmentationDataset(source), source.shard_sizes, batch_size=1, drop_last=drop_last, num_replicas=2, rank=rank,
        collate_fn=collate, num_workers=workers,
    )
    seen = []
    for _ in range(2):
        for batch in loader:
            dist.barrier()  # as training steps do: with fewer batches on one side, it would never end
            seen += batch["name"]
    with open(f"{output}/{rank}.json", "w") as file:
        json.dump(seen, file)
    dist.destroy_process_group()
"""


def launch(script: str, folder: Path, arguments: list[str]) -> list[Any]:
    """Run a script in two processes of a group, and return what each has written."""
    (folder / "run.py").write_text(script)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in ("0", "1"):
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}
        command = [sys.executable, folder / "run.py", *arguments, folder]
        processes.append(subprocess.Popen(command, env=os.environ | group, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "drop"), [(0, "keep"), (2, "drop")])
def test_two_processes_see_each_pair_once(folder: Path, tmp_path: Path, workers: int, drop: str):
    first, second = launch(GLOO, tmp_path, [str(folder), str(workers), drop])
    assert len(first) == len(second) == (PAIRS // 2 + (drop == "keep")) * 2
    for epoch in (0, 1):
        parts = [seen[epoch * len(seen) // 2 : (epoch + 1) * len(seen) // 2] for seen in (first, second)]
        count = len({*parts[0], *parts[1]})
        assert count == (PAIRS if drop == "keep" else PAIRS - 1)


DDP = """
import json, logging, os, sys, warnings
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.task import SegmentationTask

class Task(SegmentationTask):
    def training_step(self, batch, index):
        self.seen = [*getattr(self, "seen", []), [self.current_epoch, batch["name"]]]
        return super().training_step(batch, index)

if __name__ == "__main__":
    steps, checkpoint, output = int(sys.argv[3]), sys.argv[4], sys.argv[5]
    data = SegmentationDataModule(shards=sys.argv[1], crop_size=16, batch_size=2, num_workers=int(sys.argv[2]))
    model = Task(data.classes, encoder_depth=3, decoder_channels=[8, 8, 8])
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=3, max_steps=steps, logger=False,
        limit_val_batches=0,
        enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(output, filename="{step}", every_n_train_steps=2, save_top_k=-1)],
    )
    trainer.fit(model, data, ckpt_path=checkpoint or None)
    with open(f"{output}/{trainer.global_rank}.json", "w") as file:
        json.dump(model.seen, file)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_resume_within_an_epoch(folder: Path, tmp_path: Path, workers: int):
    for name in ("whole", "broken", "resumed"):
        (tmp_path / name).mkdir()
    whole = launch(DDP, tmp_path / "whole", [str(folder), str(workers), "-1", ""])
    broken = launch(DDP, tmp_path / "broken", [str(folder), str(workers), "5", ""])
    checkpoint = tmp_path / "broken/step=4.ckpt"  # one step of the second epoch; each has three
    resumed = launch(DDP, tmp_path / "resumed", [str(folder), str(workers), "-1", str(checkpoint)])
    for rank in (0, 1):
        assert [epoch for epoch, _ in whole[rank]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert broken[rank] == whole[rank][:5]
        assert resumed[rank] == whole[rank][4:]
    for epoch in range(3):
        seen = [name for part in whole for number, batch in part for name in batch if number == epoch]
        assert len(seen) == len(set(seen)) == 12
