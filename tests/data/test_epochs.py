"""Epochs of files and of shards: each pair once, the same with any workers, and across an interruption."""

import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from unetseg.data.built_in import SceneSource
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.data.dataset import SegmentationDataset
from unetseg.data.epochs import EpochSampler, epoch_order, epoch_seeds
from unetseg.data.images import ImageReader
from unetseg.data.labels import parse_labels
from unetseg.data.loading import TrainingLoader, training_loader
from unetseg.data.opening import shard_settings
from unetseg.data.shard_writer import write_shards
from unetseg.data.shards import ShardSource
from unetseg.data.sources import Source
from unetseg.data.synthetic import CLASSES, SyntheticScenes
from unetseg.data.transforms import TrainingTransform
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


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of 13 scenes for training, two for validation."""
    root = tmp_path_factory.mktemp("files")
    for name in ("images", "masks"):
        (root / name).mkdir()
    scenes = SyntheticScenes(PAIRS + 2, seed=0)
    for index in range(PAIRS + 2):
        for kind, pixels in zip(("images", "masks"), scenes[index], strict=True):
            Image.fromarray(pixels).save(root / kind / f"{index:05d}.png")
    (root / "train.txt").write_text("\n".join(f"{index:05d}" for index in range(PAIRS)))
    (root / "val.txt").write_text("\n".join(f"{index:05d}" for index in range(PAIRS, PAIRS + 2)))
    return root


@pytest.fixture(params=["shards", "files", "scenes"])
def source(request: pytest.FixtureRequest) -> Source:
    """The same 13 pairs, from each place that they can come from."""
    if request.param == "shards":
        shards = ShardSource(request.getfixturevalue("folder"), "train", ImageReader())
        assert len(shards.shard_sizes) > 4
        return shards
    if request.param == "files":
        root = str(request.getfixturevalue("files"))
        return SegmentationDataModule(root, list(CLASSES)).sources["train"]
    return SceneSource(SyntheticScenes(PAIRS, seed=0))


def make(source: Source, *, workers: int = 0, batch_size: int = BATCH, **options: Any) -> TrainingLoader:
    return training_loader(
        SegmentationDataset(source, TrainingTransform(crop_size=16, ignore_index=255)),
        source.shard_sizes if isinstance(source, ShardSource) else [len(source)],
        batch_size=batch_size,
        num_workers=workers,
        **options,
    )


def names(batches: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [tuple(batch["name"]) for batch in batches]


def contents(batches: Iterable[dict[str, Any]]) -> list[tuple[tuple[str, ...], bytes, bytes]]:
    """All that batches hold, to the last bit."""
    return [(tuple(b["name"]), b["image"].numpy().tobytes(), b["mask"].numpy().tobytes()) for b in batches]


@pytest.mark.parametrize("sizes", [[1], [7], [3, 3, 3], [5, 1, 4, 2, 6, 3, 1, 1, 9]])
def test_an_epoch_is_a_permutation_that_seed_and_number_decide(sizes: list[int]):
    orders = [epoch_order(sizes, seed=seed, epoch=epoch).tolist() for seed in (0, 1) for epoch in range(3)]
    assert all(sorted(order) == [*range(sum(sizes))] for order in orders)
    assert orders[1] == epoch_order(sizes, seed=0, epoch=1).tolist()
    if sum(sizes) > 6:
        assert len({*map(tuple, orders)}) == 6


def test_all_pairs_of_one_shard_are_mixed():
    firsts = {int(epoch_order([40], seed=seed, epoch=epoch)[0]) for seed in range(20) for epoch in range(20)}
    assert firsts == {*range(40)}
    order = epoch_order([1000], seed=0, epoch=0)
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1


def test_each_place_of_each_epoch_has_a_seed_of_its_own():
    seeds = np.concatenate(
        [epoch_seeds(10_000, seed=seed, epoch=epoch) for seed in (0, 1, 2**64 - 1) for epoch in (0, 1)]
    )
    assert len(np.unique(seeds)) == seeds.size
    assert seeds.min() >= 0
    assert (seeds / 2**63).mean() == pytest.approx(0.5, abs=0.01)


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
    parts = [EpochSampler(sizes, rank=rank, **options) for rank in range(processes)]
    shares = [[draw.pair for draw in part] for part in parts]
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
    shares = [EpochSampler(sizes, batch_size=2, num_replicas=2, rank=rank) for rank in (0, 1)]
    first, second = ({draw.pair // 10 for draw in share} for share in shares)
    assert len(first) == len(second) == 20


def test_an_augmentation_does_not_depend_on_the_number_of_processes():
    """A pair at a place of the epoch has its seed there, whichever process reads it."""
    alone = list(EpochSampler([12], batch_size=2, seed=5))
    shared = [list(EpochSampler([12], batch_size=2, num_replicas=3, rank=rank, seed=5)) for rank in range(3)]
    assert [*itertools.chain(*shared)] == alone
    assert len({draw.seed for draw in alone}) == 12


def test_a_pair_that_makes_up_for_a_missing_one_is_augmented_anew():
    first, second = (list(EpochSampler([3], batch_size=4, num_replicas=2, rank=rank)) for rank in (0, 1))
    assert first[0].pair == second[1].pair
    assert first[0].seed != second[1].seed


@pytest.mark.parametrize("workers", [0, 2])
def test_each_pair_comes_once_an_epoch(source: Source, workers: int):
    loader = make(source, workers=workers, drop_last=False)
    epochs = [names(loader) for _ in range(3)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [4, 4, 4, 1]
        assert sorted(itertools.chain(*epoch)) == [f"{index:05d}" for index in range(PAIRS)]
    assert len({*map(tuple, epochs)}) == 3
    assert len(loader) == 4
    assert names(make(source, seed=1, drop_last=False)) != epochs[0]


def test_two_processes_share_an_epoch(source: Source):
    loaders = [make(source, batch_size=2, num_replicas=2, rank=rank, drop_last=False) for rank in (0, 1)]
    for _ in range(2):
        seen = sorted(name for loader in loaders for batch in names(loader) for name in batch)
        assert len(seen) == PAIRS + 1
        assert {*seen} == {f"{index:05d}" for index in range(PAIRS)}


def test_batches_are_the_same_with_any_number_of_workers(source: Source):
    def epochs(workers: int, chance: int) -> list[Any]:
        torch.manual_seed(chance)  # of no account
        loader = make(source, workers=workers, seed=7)
        return [contents(loader) for _ in range(2)]

    alone = epochs(0, chance=0)
    assert alone == epochs(2, chance=1) == epochs(1, chance=2)
    crops = [image for epoch in alone for _, image, _ in epoch]
    assert len({*crops}) == len(crops) == 6


def test_loaders_leave_the_generator_of_torch_alone(source: Source):
    before = torch.get_rng_state()
    for workers in (0, 1):
        contents(make(source, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_augmented_crops(source: Source, workers: int):
    loader = make(source, workers=workers)
    batches = list(loader)
    assert len(batches) == len(loader) == PAIRS // BATCH
    for batch in batches:
        assert (batch["image"].shape, batch["image"].dtype) == ((BATCH, 3, 16, 16), torch.uint8)
        assert (batch["mask"].shape, batch["mask"].dtype) == ((BATCH, 16, 16), torch.uint8)


def test_set_epoch_names_the_next_pass(source: Source):
    loader = make(source)
    epochs = [contents(loader) for _ in range(3)]
    loader.sampler.set_epoch(1)
    assert [contents(loader), contents(loader)] == epochs[1:]


@pytest.mark.parametrize(("workers", "later_workers"), [(0, 2), (2, 0)])
@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_the_rest_of_an_epoch_follows_an_interruption(source: Source, workers: int, later_workers: int, done: int):
    whole = make(source, seed=3)
    _, second, third = (contents(whole) for _ in range(3))
    loader = make(source, workers=workers, seed=3)
    list(loader)
    assert contents(itertools.islice(loader, done)) == second[:done]
    state = json.loads(json.dumps(loader.sampler.state_dict()))
    resumed = make(source, workers=later_workers)  # the seed is the state's
    resumed.sampler.load_state_dict(state)
    assert len(resumed) == len(second) == 3  # as Lightning counts
    if done < 3:
        assert contents(resumed) == second[done:]
    assert contents(resumed) == third


def test_an_interruption_of_the_rest_is_followed_too(source: Source):
    epoch = contents(make(source, batch_size=2))
    state: dict[str, int] = {}
    seen = []
    for count in (1, 2, 3):
        loader = make(source, batch_size=2)
        if state:
            loader.sampler.load_state_dict(state)
        seen += contents(itertools.islice(loader, count))
        state = loader.sampler.state_dict()
    assert seen == epoch


def test_a_checkpoint_of_another_epoch_is_no_start(source: Source):
    whole = make(source)
    epochs = [contents(whole) for _ in range(2)]
    loader = make(source)
    names(itertools.islice(loader, 2))
    resumed = make(source)
    resumed.sampler.load_state_dict(loader.sampler.state_dict())
    resumed.sampler.set_epoch(1)  # limit_train_batches has ended the first
    assert contents(resumed) == epochs[1]


WHOLE = r"within an epoch of 13 training pairs with --data\.batch_size 4 on 1 process, and this run has "
CHANGES = [
    (
        {"batch_size": 2},
        r"13 training pairs with --data\.batch_size 2 on 1 process: which pairs are left can't",
    ),
    (
        {"num_replicas": 2},
        r"13 .* 4 on 2 processes: .* with the same data, --data\.batch_size and --trainer\.devices",
    ),
    ({"shard_sizes": [12]}, r"12 training pairs with --data\.batch_size 4 on 1 process: which"),
    ({"shard_sizes": [6, 6, 1]}, r"13 .* on 1 process, in other shards: .* or from a checkpoint of an epoch's end"),
]


@pytest.mark.parametrize(("changed", "message"), CHANGES)
def test_what_changes_the_rest_of_an_epoch_is_refused(changed: dict[str, Any], message: str):
    sampler = EpochSampler([13], batch_size=4)
    list(sampler)
    sampler.count_batch()
    resumed = EpochSampler(**({"shard_sizes": [13], "batch_size": 4} | changed))
    resumed.load_state_dict(sampler.state_dict())
    with pytest.raises(DataError, match=WHOLE + message):
        iter(resumed)
    sampler.count_batch()
    sampler.count_batch()
    resumed.load_state_dict(sampler.state_dict())  # of the epoch's end
    assert len(list(resumed)) == len(resumed)


def test_what_a_state_of_before_does_not_say_is_not_compared():
    sampler = EpochSampler([5, 8], batch_size=4)
    whole = list(sampler)
    sampler.count_batch()
    state = sampler.state_dict()
    del state["pairs"]
    resumed = EpochSampler([5, 8], batch_size=4)
    resumed.load_state_dict(state)
    assert list(resumed) == whole[4:]


class Noting(LightningModule):
    """A model of one weight that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, Any]] = []

    def training_step(self, batch: dict[str, Any]) -> torch.Tensor:
        """Note a batch."""
        self.seen.append((self.current_epoch, *contents([batch])))
        return self.weight**2

    def validation_step(self, batch: torch.Tensor) -> None:
        """Do nothing."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return plain descent; ask for the number of steps, as a schedule does, before the loop is restored."""
        assert self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(SegmentationDataModule):
    """Shards or files for training, and something for validation."""

    def __init__(self, folder: Path, workers: int) -> None:
        packed = (folder / "unetseg.json").exists()
        place = {"shards": str(folder)} if packed else {"root": str(folder), "classes": list(CLASSES)}
        super().__init__(**place, crop_size=16, batch_size=2, num_workers=workers)

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


@pytest.mark.parametrize(("place", "workers"), [("folder", 0), ("files", 0), ("files", 2)])
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
    request: pytest.FixtureRequest,
    tmp_path: Path,
    place: str,
    workers: int,
    saved: dict[str, Any],
    stop: dict[str, Any],
    both: dict[str, Any],
):
    folder = request.getfixturevalue(place)
    torch.manual_seed(1)
    unbroken = fit(folder, **both)
    checkpoint = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **saved)
    torch.manual_seed(1)
    fit(folder, workers, callbacks=[checkpoint], **(both | stop))
    last = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    steps = torch.load(last, weights_only=True)["global_step"]
    assert 0 < steps < len(unbroken)
    torch.manual_seed(2)  # the seed is the checkpoint's
    assert fit(folder, workers, ckpt_path=last, **both) == unbroken[steps:]


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path., callbacks")
@pytest.mark.parametrize("place", ["folder", "files"])
def test_a_task_resumes_within_an_epoch(request: pytest.FixtureRequest, tmp_path: Path, place: str):
    """The real one, whose schedule asks for the number of steps before anything is restored, comes to the same end."""

    class Killed(Exception):  # noqa: N818 - no fault
        pass

    class Task(SegmentationTask):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if len(seen) == last:
                raise Killed
            seen.append((self.current_epoch, *contents([batch])))
            return super().training_step(batch, batch_idx)

    def train(*, workers: int = 0, seed: int = 0, **options: Any) -> tuple[list[Any], dict[str, torch.Tensor]]:
        seen.clear()
        torch.manual_seed(seed)
        task = Task(list(CLASSES), encoder_depth=3, decoder_channels=[8, 8, 8])
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        ckpt_path = options.pop("ckpt_path", None)
        trainer = Trainer(max_epochs=2, limit_val_batches=0, **quiet, **options)
        trainer.fit(task, Data(request.getfixturevalue(place), workers), ckpt_path=ckpt_path)
        return list(seen), task.state_dict()

    seen: list[Any] = []
    last = 12
    unbroken, weights = train(enable_checkpointing=False)
    last = 5
    with pytest.raises(Killed):
        train(callbacks=[ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=4)])
    last = 12
    checkpoint = {"ckpt_path": tmp_path / "step=4.ckpt", "enable_checkpointing": False}
    resumed, same_weights = train(workers=2, seed=1, **checkpoint)
    assert len(unbroken) == 12
    assert resumed == unbroken[4:]
    assert all(torch.equal(value, same_weights[name]) for name, value in weights.items())


@pytest.mark.parametrize("place", ["folder", "files"])
def test_overfitting_repeats_its_batches(request: pytest.FixtureRequest, place: str):
    with pytest.warns(UserWarning, match="turning off the train dataloader shuffling"):
        seen = fit(request.getfixturevalue(place), overfit_batches=2)
    pairs = [pairs for _, (pairs, _, _) in seen]
    assert pairs == pairs[:2] * 3
    assert len({image for _, (_, image, _) in seen}) == 6  # augmented anew each time, of torch's generator


@pytest.mark.slow
def test_spawned_workers_read_the_same(source: Source):
    loader = make(source, workers=2, drop_last=False, multiprocessing_context="spawn")
    assert contents(loader) == contents(make(source, drop_last=False))


GLOO = """
import json, sys
import torch.distributed as dist
from unetseg.data.dataset import SegmentationDataset
from unetseg.data.images import ImageReader
from unetseg.data.loading import training_loader
from unetseg.data.shards import ShardSource

if __name__ == "__main__":
    folder, workers, drop_last, output = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "drop", sys.argv[4]
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    source = ShardSource(folder, "train", ImageReader())
    loader = training_loader(
        SegmentationDataset(source), source.shard_sizes, batch_size=1, drop_last=drop_last, num_replicas=2, rank=rank,
        num_workers=workers,
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
from unetseg.data.synthetic import CLASSES
from unetseg.task import SegmentationTask

class Task(SegmentationTask):
    def training_step(self, batch, index):
        self.seen = [*getattr(self, "seen", []), [self.current_epoch, batch["name"]]]
        return super().training_step(batch, index)

if __name__ == "__main__":
    steps, checkpoint, output = int(sys.argv[3]), sys.argv[4], sys.argv[5]
    place = {"root": sys.argv[1], "classes": list(CLASSES)} if "files" in sys.argv[1] else {"shards": sys.argv[1]}
    data = SegmentationDataModule(**place, crop_size=16, batch_size=2, num_workers=int(sys.argv[2]))
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
@pytest.mark.parametrize(("place", "workers"), [("folder", 2), ("files", 0)])
def test_two_processes_resume_within_an_epoch(request: pytest.FixtureRequest, tmp_path: Path, place: str, workers: int):
    folder = request.getfixturevalue(place)
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
