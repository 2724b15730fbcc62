"""Checkpoints: plain containers, whichever way they were made, and clear errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from prediction_jobs import save

from unetseg.checkpoint import read_checkpoint
from unetseg.config import UpsampleOptions
from unetseg.errors import CheckpointError
from unetseg.task import SegmentationTask

pytestmark = pytest.mark.filterwarnings("ignore:decoder stages")  # kernels of all kinds are stored


@pytest.fixture
def task() -> SegmentationTask:
    torch.manual_seed(0)
    return SegmentationTask(
        ["background", "road"],
        encoder="resnet18",
        encoder_depth=3,
        decoder_channels=[16, 8, 8],
        upsample=UpsampleOptions(kernel_size=[4, (4, 3), 2]),
    )


def test_is_read_safely_and_rebuilt(task: SegmentationTask, tmp_path: Path) -> None:
    path = save(task, tmp_path / "python.ckpt")
    content = torch.load(path, weights_only=True)
    assert content["hyper_parameters"]["upsample"]["kernel_size"] == [4, [4, 3], 2]
    checkpoint = read_checkpoint(path)
    assert checkpoint.classes == ["background", "road"]
    image = torch.rand(1, 3, 33, 47)
    torch.testing.assert_close(checkpoint.build_model()(image), task.eval()(image))
    again = SegmentationTask.load_from_checkpoint(path, map_location="cpu")
    assert torch.equal(again.eval()(image), task(image))


def test_loading_never_looks_for_pretrained_weights(task: SegmentationTask, tmp_path: Path) -> None:
    weights = tmp_path / "encoder.pth"
    torch.save(task.model.encoder.state_dict(), weights)
    trained = SegmentationTask(["background", "road"], encoder_depth=3, encoder_weights=str(weights))
    path = save(trained, tmp_path / "python.ckpt")
    weights.unlink()
    read_checkpoint(path).build_model()
    SegmentationTask.load_from_checkpoint(path, map_location="cpu")


def test_numpys_numbers_are_stored_as_pythons(tmp_path: Path) -> None:
    task = SegmentationTask(
        [np.str_("a"), np.str_("b")],
        encoder_depth=np.int64(3),
        decoder_channels=list(np.array([8, 8, 8])),
        upsample=UpsampleOptions(kernel_size=np.int64(3)),
        lr=np.float64(0.01),
    )
    assert read_checkpoint(save(task, tmp_path / "numpy.ckpt")).hyper_parameters["lr"] == 0.01


def test_a_compiled_models_keys_are_understood(task: SegmentationTask, tmp_path: Path) -> None:
    path = save(task, tmp_path / "python.ckpt")
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {k.replace("model.", "model._orig_mod.", 1): v for k, v in content["state_dict"].items()}
    torch.save(content, path)
    read_checkpoint(path).build_model()


def test_what_is_no_checkpoint_is_explained(task: SegmentationTask, tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    with pytest.raises(CheckpointError, match=r"there is no checkpoint file .*some.ckpt"):
        read_checkpoint(path)
    for content in (b"", b"not a checkpoint at all"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"some.ckpt is not a checkpoint, or is damaged"):
            read_checkpoint(path)
    save(task, path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="or is damaged"):
        read_checkpoint(path)
    for foreign in ([1, 2], {"state_dict": {}}, {"hyper_parameters": {"classes": ["a"]}}):
        torch.save(foreign, path)
        with pytest.raises(CheckpointError, match="is not a checkpoint of unetseg"):
            read_checkpoint(path)


def test_weights_of_another_network_are_explained(task: SegmentationTask, tmp_path: Path) -> None:
    path = save(task, tmp_path / "some.ckpt")
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["decoder_channels"] = [8, 8, 8]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="weights don't fit the network"):
        read_checkpoint(path).build_model()


@pytest.mark.parametrize("lacking", ["block", "block.merge"])
def test_a_checkpoint_from_before_an_option_has_what_was_then(lacking: str, tmp_path: Path) -> None:
    task = SegmentationTask(["background", "road"], encoder_depth=3, block={"merge": "concat"})
    path = save(task, tmp_path / "some.ckpt")
    content = torch.load(path, weights_only=True)
    options = content["hyper_parameters"]
    if lacking == "block.merge":
        del options["block"]["merge"]
    else:
        for name in ("decoder", "block", "head", "deep_supervision"):
            del options[name]
        for name in ("method", "init"):
            del options["upsample"][name]
    torch.save(content, path)
    image = torch.rand(1, 3, 33, 47)
    assert torch.equal(read_checkpoint(path).build_model()(image), task.model.eval()(image))
