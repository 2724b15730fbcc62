"""Batches have the promised form, their augmentations the promised differences, and checkpoints load."""

import itertools
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from pytorch_lightning import LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader, SequentialSampler

from unetseg.data import datamodule as datamodule_module
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.data.loading import TrainingLoader
from unetseg.data.synthetic import CLASSES
from unetseg.errors import DataError, ImageError, MaskValueError

MakePairs = Callable[..., Path]

SIZES = {"a": (23, 17), "b": (9, 31), "c": (40, 40), "d": (5, 5), "e": (17, 23)}


@pytest.fixture
def root(make_pairs: MakePairs) -> Path:
    """Five pairs of as many sizes with classes 0 and 1 and ignored pixels, split 3, 1 and 1."""
    rng = np.random.default_rng(0)
    folder = make_pairs({name: rng.choice([0, 1, 255], size).astype(np.uint8) for name, size in SIZES.items()})
    for split, listed in {"train": "abc", "val": "d", "test": "e"}.items():
        (folder / f"{split}.txt").write_text("\n".join(listed))
    return folder


def make(root: Path, **options: Any) -> SegmentationDataModule:
    defaults = {"classes": ["background", "cell"], "crop_size": 16, "batch_size": 2, "num_workers": 0}
    return SegmentationDataModule(str(root), **(defaults | options))


class Counting(LightningModule):
    """A model of one weight that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[str, torch.Size]] = []

    def training_step(self, batch: dict[str, Any]) -> torch.Tensor:
        """Note a batch and pull the weight towards its mean."""
        self.seen.append(("train", batch["image"].shape))
        return (self.weight - batch["image"].float().mean()) ** 2

    def validation_step(self, batch: dict[str, Any]) -> None:
        """Note an image."""
        self.seen.append(("val", batch["image"].shape))

    def test_step(self, batch: dict[str, Any]) -> None:
        """Note an image."""
        self.seen.append(("test", batch["image"].shape))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return plain descent."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_trainer(folder: Path, **options: Any) -> Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    return Trainer(default_root_dir=folder, max_epochs=1, num_sanity_val_steps=0, **(quiet | options))


def test_training_batches_are_crops(root: Path):
    (batch,) = make(root).train_dataloader()
    assert (batch["image"].shape, batch["image"].dtype) == ((2, 3, 16, 16), torch.uint8)
    assert (batch["mask"].shape, batch["mask"].dtype) == ((2, 16, 16), torch.uint8)
    assert set(batch["mask"].unique().tolist()) <= {0, 1, 255}
    assert isinstance(batch["name"], list)
    assert set(batch["name"]) < {"a", "b", "c"}


def test_held_out_images_are_whole_and_untouched(root: Path):
    data = make(root)
    for loader, name in ((data.val_dataloader(), "d"), (data.test_dataloader(), "e")):
        (batch,) = loader
        assert batch["name"] == [name]
        stored = np.asarray(Image.open(root / f"images/{name}.png"))
        np.testing.assert_array_equal(batch["image"][0].permute(1, 2, 0).numpy(), stored)
        np.testing.assert_array_equal(batch["mask"][0], np.asarray(Image.open(root / f"masks/{name}.png")))


def test_images_of_many_modes_make_one_batch(root: Path):
    Image.open(root / "images/a.png").convert("L").save(root / "images/a.png")
    Image.open(root / "images/b.png").convert("RGBA").save(root / "images/b.png")
    Image.open(root / "images/c.png").convert("P").save(root / "images/c.png")
    (batch,) = make(root, batch_size=3).train_dataloader()
    assert batch["image"].shape == (3, 3, 16, 16)


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1, 1, 1]), (2, [2]), (3, [3]), (4, [3])])
def test_last_batch_is_dropped_only_if_another_is_left(root: Path, batch_size: int, sizes: list[int]):
    loader = make(root, batch_size=batch_size).train_dataloader()
    assert [len(batch["name"]) for batch in loader] == sizes


def test_ranks_with_less_than_a_batch_keep_it(root: Path):
    data = make(root, batch_size=3)
    seen = []
    for rank in (0, 1):
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank)
        (batch,) = data.train_dataloader()
        seen += batch["name"]
    assert len(seen) == 4
    assert {*seen} == {*"abc"}


def test_built_in_data_needs_nothing():
    data = SegmentationDataModule(num_workers=0, synthetic_length=16)
    assert data.classes == list(CLASSES)
    assert data.description == f"data: built-in scenes (16 train, 2 val, 2 test images; {len(CLASSES)} classes)"
    data.setup("fit")
    batch, _ = data.train_dataloader()
    assert batch["image"].shape == (8, 3, 96, 96)
    (val, _), (test, _) = data.val_dataloader(), data.test_dataloader()
    assert val["name"] == test["name"] == ["00000"]
    assert val["image"].shape[-2:] == val["mask"].shape[-2:]
    assert val["image"].shape != test["image"].shape or (val["image"] != test["image"]).any()


def test_description_names_the_folder(root: Path):
    assert make(root).description == f"data: {root} (3 train, 1 val, 1 test images; 2 classes)"


@pytest.fixture
def alike(make_pairs: MakePairs) -> Path:
    """Eight training pairs that are one noise image, so that crops differ by their augmentation alone."""
    folder = make_pairs(["val"], "alike/val").parent
    train = make_pairs(["0"], "alike/train", size=(64, 64))
    for name, suffix in itertools.product("1234567", ("images", "masks")):
        os.link(train / suffix / "0.png", train / suffix / f"{name}.png")
    return folder


def crops(
    root: Path, *, workers: int, persistent: bool = True, seeded: bool = True, rank: int = 0
) -> list[list[bytes]]:
    """Return two epochs of crops of a process of two; without seeds, as where Lightning has replaced the sampler."""
    seed_everything(11, workers=True, verbose=False)
    data = make(root, crop_size=8, num_workers=workers)
    data.trainer = SimpleNamespace(world_size=2, global_rank=rank)
    loader = data.train_dataloader()
    if not persistent or not seeded:
        loader = TrainingLoader(
            dataset=loader.dataset,
            batch_size=2,
            sampler=loader.sampler if seeded else SequentialSampler(loader.dataset),
            num_workers=workers,
            persistent_workers=persistent and workers > 0,
            worker_init_fn=loader.worker_init_fn,
            collate_fn=loader.collate_fn,
            generator=loader.generator,
        )
    return [[crop.numpy().tobytes() for batch in loader for crop in batch["image"]] for _ in range(2)]


@pytest.mark.parametrize("seeded", [True, False])
@pytest.mark.parametrize(("workers", "persistent"), [(0, True), (2, False), (2, True)])
def test_augmentations_differ_between_workers_epochs_and_ranks_and_repeat(
    alike: Path, monkeypatch: pytest.MonkeyPatch, workers: int, persistent: bool, seeded: bool
):
    for variable in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(variable, "0")  # seed_everything leaves them behind
    options = {"workers": workers, "persistent": persistent, "seeded": seeded}
    first, second = crops(alike, **options)
    other_rank = crops(alike, **options, rank=1)
    assert len({*first, *second, *other_rank[0], *other_rank[1]}) == 4 * (4 if seeded else 8)
    assert crops(alike, **options) == [first, second]


def order(root: Path, **options: Any) -> list[str]:
    return [name for batch in make(root, batch_size=1, **options).train_dataloader() for name in batch["name"]]


def test_the_seed_of_the_order_is_the_one_that_was_given(alike: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    orders = []
    for seed in (1, 1, 2**64 - 1):
        torch.manual_seed(seed)
        orders.append(order(alike))
        torch.rand(())  # what was drawn since is of no account
        assert order(alike) == orders[-1]
    assert orders[0] == orders[1] != orders[2]
    torch.seed()
    assert order(alike) not in orders
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert order(alike) == orders[0]


def test_processes_that_nobody_has_seeded_agree(alike: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    seen = []
    for rank in (0, 1):
        torch.seed()  # each its own
        data = make(alike)
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank)
        seen += [name for batch in data.train_dataloader() for name in batch["name"]]
    assert sorted(seen) == [*"01234567"]


def test_one_datamodule_serves_several_fits_and_a_test(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checks: list[list[str]] = []
    monkeypatch.setattr(datamodule_module, "check_not_binary", lambda samples, classes: checks.append(classes))
    data, model = make(root), Counting()
    for _ in range(2):
        make_trainer(tmp_path, enable_checkpointing=False).fit(model, data)
    make_trainer(tmp_path).test(model, data, verbose=False)
    epoch = [("train", (2, 3, 16, 16)), ("val", (1, 3, 5, 5))]
    assert model.seen == [*epoch, *epoch, ("test", (1, 3, 17, 23))]
    assert checks == [["background", "cell"]]


def test_checkpoint_holds_plain_arguments(root: Path, tmp_path: Path):
    data = make(root, scale_range=(0.5, 2.0))
    trainer = make_trainer(tmp_path, enable_checkpointing=False)
    trainer.fit(Counting(), data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    stored = torch.load(tmp_path / "a.ckpt", weights_only=True)["datamodule_hyper_parameters"]
    assert stored["classes"] == ["background", "cell"]
    assert stored["scale_range"] == [0.5, 2.0]
    again = SegmentationDataModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert dict(again.hparams) == dict(data.hparams) == dict(stored)


def test_arguments_of_built_in_data_can_be_given_back():
    data = SegmentationDataModule()
    assert data.hparams["classes"] == list(CLASSES)
    assert SegmentationDataModule(**data.hparams).classes == data.classes


def test_the_mode_is_kept_and_leaves_masks_as_they_are(root: Path):
    plain, binary = make(root), make(root, mode="binary")
    assert (plain.mode, plain.hparams["mode"]) == ("multiclass", None)
    assert (binary.mode, binary.hparams["mode"]) == ("binary", "binary")
    assert SegmentationDataModule(**binary.hparams).mode == "binary"
    (one,), (other,) = plain.val_dataloader(), binary.val_dataloader()
    assert torch.equal(one["mask"], other["mask"])


def from_yaml(text: str, folder: Path) -> SegmentationDataModule:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(SegmentationDataModule, "data")
    (folder / "config.yaml").write_text(text)
    return parser.instantiate(parser.parse_args([f"--config={folder / 'config.yaml'}"])).data


def test_arguments_come_from_yaml(root: Path, tmp_path: Path):
    text = f"data:\n  root: {root}\n  classes: [background, cell]\n  scale_range: [0.6, 1.6]\n  crop_size: 32\n"
    data = from_yaml(text, tmp_path)
    assert (data.classes, data.hparams["scale_range"]) == (["background", "cell"], [0.6, 1.6])


@pytest.mark.parametrize(("names", "found"), [("[on, off]", "True"), ("[1, 2]", "1"), ("[a, null]", "None")])
def test_yaml_words_that_are_no_strings_need_quotes(root: Path, tmp_path: Path, names: str, found: str):
    with pytest.raises(DataError, match=rf"--data.classes: {found} isn't a name; quote it if YAML reads it so"):
        from_yaml(f"data:\n  root: {root}\n  classes: {names}\n", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": None}, r"--data.classes is missing: the masks in \S* hold the values 0, 1, 255;"),
        ({"classes": "cell"}, "--data.classes 'cell': must be a list, for example"),
        ({"classes": ["a", " "]}, "--data.classes: ' ' isn't a name"),
        ({"classes": ["a", "b", "a"]}, "--data.classes: a given more than once; names must differ"),
        ({"classes": ["a"]}, "--data.classes: got 1 names; 2 to 255 classes are possible"),
        ({"classes": [str(i) for i in range(256)]}, "--data.classes: got 256 names"),
        ({"classes": [*"abc"], "mask_format": "binary"}, "binary needs exactly two classes; got a, b, c"),
        ({"ignore_index": 256}, r"ignore_index 256: must be in 0\.\.255, the values of an 8-bit mask"),
        ({"classes": [*"abc"], "mode": "binary"}, "--data.mode binary needs exactly two classes; got a, b, c"),
        ({"mode": "multilabel"}, "--data.mode multilabel needs a mask a class"),
        ({"batch_size": 0}, "batch_size 0: must be at least 1"),
        ({"val_batch_size": 0}, "val_batch_size 0: must be at least 1"),
        ({"cache_gb": -1}, "cache_gb -1: must be at least 0"),
        ({"in_channels": 0}, "in_channels 0: must be at least 1"),
        ({"max_value": 0}, "max_value 0: must be above 0"),
        ({"transforms": ["Flop"]}, r"data\.transforms\[0\] is 'Flop'"),
        (
            {"transforms": ["HorizontalFlip"], "color_jitter": 0.1},
            "--data.color_jitter and --data.transforms don't go together: the transforms take its place",
        ),
        ({"num_workers": -1}, "num_workers -1: must be at least 0"),
        ({"synthetic_length": 0}, "synthetic_length 0: must be at least 1"),
        ({"crop_size": 0}, "crop_size 0: must be at least 1"),
    ],
)
def test_wrong_arguments_are_told_at_once(root: Path, options: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        make(root, **options)


def test_classes_without_a_folder_are_refused():
    with pytest.raises(DataError, match=r"--data.classes \[a, b\] without --data.root: the built-in data has"):
        SegmentationDataModule(classes=["a", "b"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_format": "multilabel"}, "--data.mask_format multilabel without --data.root: the built-in data is RGB"),
        ({"in_channels": 1}, "--data.in_channels 1 without --data.root"),
        ({"coco": "a.json"}, "--data.coco a.json without --data.root"),
        ({"mode": "binary"}, "--data.mode binary needs exactly two classes; got background, reed, leaf, pebble, fish"),
    ],
)
def test_what_only_files_have_is_refused_without_a_folder(options: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        SegmentationDataModule(**options)


def test_masks_of_0_and_255_are_told_before_training(make_pairs: MakePairs):
    root = make_pairs({name: np.array([[0, 255]], np.uint8) for name in "abc"})
    with pytest.raises(DataError, match=r"hold only 0 and 255, .* use --data\.mask_format binary"):
        make(root).setup("fit")
    with pytest.raises(DataError, match="hold only 0 and 255"):
        make(root).setup("validate")
    make(root, mask_format="binary").setup("fit")
    make(root, classes=["a", "b", "c"]).setup("fit")


def test_missing_test_split_is_told_when_it_is_asked_for(root: Path):
    (root / "test.txt").unlink()
    data = make(root)
    assert data.description.endswith("(3 train, 1 val images; 2 classes)")
    with pytest.raises(DataError, match=r"has no test split; add test\.txt, or test/ beside the others"):
        data.test_dataloader()


def first_error(loader: DataLoader) -> Exception | None:
    try:
        list(loader)
    except Exception as error:
        return error.with_traceback(None)  # its frames would keep the worker waiting


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_files_keep_their_error_class_through_workers(root: Path, workers: int):
    data = make(root, num_workers=workers, val_batch_size=1)
    Image.new("L", (5, 5), 9).save(root / "masks/d.png")
    (root / "images/e.png").write_bytes(b"")
    stray, empty = first_error(data.val_dataloader()), first_error(data.test_dataloader())
    assert type(stray) is MaskValueError
    assert "d.png holds the values 9; with 2 classes it may hold 0..1" in str(stray)
    assert type(empty) is ImageError
    assert "e.png: can't be read as an image: the file is empty" in str(empty)


def test_an_unreadable_image_is_told_before_validation(root: Path):
    (root / "images/d.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"d\.png: can't be read as an image"):
        make(root).val_dataloader()


def test_loaders_can_be_sent_to_spawned_workers(root: Path):
    for data in (make(root), SegmentationDataModule(num_workers=0)):
        loader = data.train_dataloader()
        sent = pickle.dumps((loader.dataset, loader.collate_fn, loader.worker_init_fn))
        dataset, collate, _ = pickle.loads(sent)
        assert collate([dataset[0], dataset[1]])["image"].shape[:2] == (2, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_pairs_are_read_once_and_stay_the_same(root: Path, workers: int):
    options = {"num_workers": workers, "batch_size": 3, "transforms": []}
    seed_everything(3, verbose=False)
    plain = [batch for loader in [make(root, **options).train_dataloader()] for _ in range(3) for batch in loader]
    seed_everything(3, verbose=False)
    data = make(root, cache_gb=0.001, **options)
    data.setup("fit")
    loader = data.train_dataloader()
    cached = list(loader)
    for path in (root / "images").iterdir():
        path.write_bytes(b"gone")
    cached += [batch for _ in range(2) for batch in loader]
    for one, other in zip(plain, cached, strict=True):
        assert one["name"] == other["name"]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])


def test_a_cache_without_room_changes_nothing(root: Path):
    data = make(root, cache_gb=1e-7)
    data.setup("fit")
    assert [len(batch["name"]) for batch in data.train_dataloader()] == [2]


@pytest.mark.slow
def test_spawned_workers_load_an_epoch(root: Path):
    data = make(root, num_workers=1, cache_gb=0.001, transforms=["HorizontalFlip", {"OneOf": {"transforms": ["Blur"]}}])
    data.setup("fit")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        loader.multiprocessing_context = "spawn"
        assert [name for batch in loader for name in batch["name"]]


def test_transforms_come_from_yaml_and_stay_plain(root: Path, tmp_path: Path):
    text = f"""
data:
  root: {root}
  classes: [background, cell]
  crop_size: 16
  transforms:
    - Affine: {{translate_px: 30, p: 1.0}}
    - OneOf:
        transforms: [Blur, GaussNoise]
        p: 0.5
"""
    data = from_yaml(text, tmp_path)
    batch = next(iter(data.train_dataloader()))
    assert 255 in batch["mask"].unique()
    assert data.hparams["transforms"][1] == {"OneOf": {"transforms": ["Blur", "GaussNoise"], "p": 0.5}}
    assert SegmentationDataModule(**data.hparams).hparams == data.hparams


def test_channels_stay_as_they_are_read(root: Path):
    for name in SIZES:
        Image.open(root / f"images/{name}.png").convert("RGBA").save(root / f"images/{name}.png")
    data = make(root, in_channels=4)
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 4, 16, 16)
    (val,) = data.val_dataloader()
    assert val["image"].shape == (1, 4, 5, 5)


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (9, 4), (64, 8)])
def test_workers_are_half_the_cores_up_to_eight(monkeypatch: pytest.MonkeyPatch, cores: int, workers: int):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    data = SegmentationDataModule()
    assert data.num_workers == workers
    assert data.val_dataloader().persistent_workers


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"manifest": "pairs.csv"}, r"give some of the pairs in pairs\.csv this split"),
        ({"coco": {"train": "all.json", "val": "all.json"}}, r"add its file to --data\.coco: '\{\.\.\., test: FILE"),
        ({"coco": "all.json"}, r"add test\.txt$"),
    ],
)
def test_a_missing_split_is_added_where_splits_are_said(root: Path, options: dict[str, Any], fix: str):
    rows = [f"images/{name}.png,masks/{name}.png,{split}" for name, split in (("a", "train"), ("b", "val"))]
    (root / "pairs.csv").write_text("\n".join(["image,mask,split", *rows]))
    images = [{"id": i, "file_name": f"{i}.png", "height": SIZES[i][0], "width": SIZES[i][1]} for i in "abcd"]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    (root / "all.json").write_text(json.dumps(content))
    (root / "test.txt").unlink()
    with pytest.raises(DataError, match=f"has no test split; {fix}"):
        make(root, **options).test_dataloader()
