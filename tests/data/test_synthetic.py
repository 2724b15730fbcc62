"""Scenes repeat exactly, differ where they should, and are hard enough that a score means something."""

import multiprocessing

import numpy as np
import pytest
import torch
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassJaccardIndex

from unetseg import UNet
from unetseg.data.synthetic import CLASSES, SyntheticScenes

CHANCE = 0.40  # below this, val_iou shows nothing learned


@pytest.fixture(scope="module")
def train():
    return list(SyntheticScenes(96, seed=0))


@pytest.fixture(scope="module")
def val():
    return list(SyntheticScenes(32, seed=1))


def iou(masks, predictions) -> float:
    """Mean over the classes of the IoU of all pixels together."""
    index = MulticlassJaccardIndex(len(CLASSES), ignore_index=255)
    for mask, prediction in zip(masks, predictions, strict=True):
        index.update(torch.as_tensor(prediction).long(), torch.from_numpy(mask).long())
    return index.compute().item()


def net_iou(net, scenes) -> float:
    net.eval()
    with torch.no_grad():
        predictions = [net(tensor(image)[None]).argmax(1)[0] for image, _ in scenes]
    return iou([mask for _, mask in scenes], predictions)


def tensor(image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def equal(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_same_seed_and_index_give_the_same_scene_in_any_order():
    forward, backward = SyntheticScenes(5, seed=7), SyntheticScenes(9, seed=7)
    later = [backward[i] for i in reversed(range(5))][::-1]
    assert all(equal(forward.render(i), later[i]) for i in range(5))


def test_same_scene_in_another_process():
    scenes = SyntheticScenes(2, seed=7)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert equal(pool.apply(scenes.render, (1,)), scenes.render(1))


def test_known_scene():
    """Fails when a scene changes: earlier results are then no longer comparable."""
    image, mask = SyntheticScenes(1, seed=0)[0]
    assert image.shape == (132, 122, 3)
    assert np.bincount(mask.ravel()).tolist() == [10446, 617, 1731, 1285, 2025]
    assert image.mean(axis=(0, 1)) == pytest.approx([40.807, 49.293, 76.214], abs=0.01)


def test_scenes_differ_between_indices_and_between_seeds():
    scenes = [*SyntheticScenes(6, seed=0), *SyntheticScenes(6, seed=1)]
    assert not any(equal(a, b) for i, a in enumerate(scenes) for b in scenes[:i] if a[1].shape == b[1].shape)
    assert len({image.tobytes() for image, _ in scenes}) == len(scenes)


def test_types_ranges_and_sizes(train):
    for image, mask in train:
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == (*mask.shape, 3)
        height, width = mask.shape
        assert height != width
        assert all(90 <= side <= 140 for side in mask.shape)
        assert mask.max() < len(CLASSES)
        assert image.std() > 10
    sides = np.array([mask.shape for _, mask in train])
    assert (sides % 32 != 0).mean() > 0.9
    assert (sides % 2 == 1).mean() > 0.3
    assert len({tuple(pair) for pair in sides.tolist()}) > 90


def test_every_class_has_its_share(train):
    counts = sum(np.bincount(mask.ravel(), minlength=len(CLASSES)) for _, mask in train[:64])
    shares = counts / counts.sum()
    assert CLASSES[0] == "background"
    assert 0.5 < shares[0] < 0.8
    assert (shares[1:] > 0.04).all()
    scenes_with = sum(np.bincount(mask.ravel(), minlength=len(CLASSES)) > 0 for _, mask in train[:64])
    assert (scenes_with > 48).all()


def test_indices_out_of_range():
    scenes = SyntheticScenes(3, seed=0)
    assert len(scenes) == 3
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"scene {index}: there are 3, numbered from 0"):
            scenes[index]


@pytest.mark.parametrize(("length", "seed"), [(0, 0), (1, -1)])
def test_length_and_seed_out_of_range(length, seed):
    with pytest.raises(ValueError, match=f"length {length}, seed {seed}: length must be at least 1"):
        SyntheticScenes(length, seed=seed)


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("balance", [0, 0.5, 1])
def test_colours_of_single_pixels_do_not_tell_the_class(train, val, bits, balance):
    """The best class for every colour, by a histogram; ``balance`` weighs rare classes up."""

    def colour(image):
        red, green, blue = np.moveaxis(image.astype(int) >> (8 - bits), -1, 0)
        return (red << 2 * bits) + (green << bits) + blue

    colours = np.concatenate([colour(image).ravel() for image, _ in train])
    labels = np.concatenate([mask.ravel() for _, mask in train])
    joint = np.bincount(colours * len(CLASSES) + labels, minlength=8**bits * len(CLASSES))
    weights = np.bincount(labels) ** -float(balance)
    best = (joint.reshape(-1, len(CLASSES)) * weights).argmax(1)
    assert 0.1 < iou([mask for _, mask in val], [best[colour(image)] for image, _ in val]) < CHANCE


def test_untrained_net_knows_nothing(val):
    torch.manual_seed(0)
    assert net_iou(UNet("resnet18", classes=len(CLASSES)), val[:12]) < CHANCE


class Crops(Dataset):
    """The top left 90 x 90 pixels of scenes: the smallest scene needs no padding."""

    def __init__(self, length: int) -> None:
        self.scenes = SyntheticScenes(length, seed=0)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index):
        image, mask = self.scenes[index]
        return tensor(image[:90, :90]), torch.from_numpy(mask[:90, :90].astype(np.int64))


def without_skips(encoder, inputs, features):
    return [*(0 * skip for skip in features[:-1]), features[-1]]


def trained_iou(val, *, skips: bool, scenes: int = 1280, batch: int = 8, lr: float = 3e-3) -> float:
    torch.manual_seed(0)
    net = UNet("resnet18", classes=len(CLASSES), decoder_channels=(128, 64, 32, 16, 16))
    net.to(memory_format=torch.channels_last)
    if not skips:
        net.encoder.register_forward_hook(without_skips)
    optimizer = torch.optim.AdamW(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=scenes // batch)
    entropy, dice = nn.CrossEntropyLoss(), DiceLoss("multiclass")
    net.train()
    for images, masks in DataLoader(Crops(scenes), batch):  # each scene once
        logits = net(images.contiguous(memory_format=torch.channels_last))
        optimizer.zero_grad()
        (entropy(logits, masks) + dice(logits, masks)).backward()
        optimizer.step()
        schedule.step()
    return net_iou(net, val)


@pytest.mark.slow
def test_fine_structure_needs_the_skips(val):
    with_skips, without = (trained_iou(val, skips=skips) for skips in (True, False))
    assert with_skips > CHANCE
    assert with_skips - without >= 0.05
