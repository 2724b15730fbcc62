"""Weights of a trained network in another one: what fits comes along, logits go by the classes' names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import save_file
from torch import Tensor

from unetseg import UNet
from unetseg.decision import num_logits
from unetseg.errors import CheckpointError, OptionError
from unetseg.task import SegmentationTask
from unetseg.transfer import Transfer, init_from

SMALL: dict[str, Any] = {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}
METHODS = ["conv_transpose", "blurred_conv_transpose", "pixel_shuffle", "nearest", "bilinear"]

pytestmark = pytest.mark.filterwarnings("ignore:decoder stages", "ignore:head")  # not trained here


def checkpoint(path: Path, classes: list[str], mode: str = "multiclass", **options: Any) -> tuple[Path, UNet]:
    """A checkpoint as ``fit`` writes it, and its network."""
    torch.manual_seed(1)
    task = SegmentationTask(classes, **SMALL | options)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(task)
    task.trainer = trainer
    trainer.save_checkpoint(path, weights_only=True)
    if mode != "multiclass":
        content = torch.load(path, weights_only=True)
        content["hyper_parameters"]["mode"] = mode
        logits = num_logits(len(classes), mode)
        heads = [name for name in content["state_dict"] if name.startswith("model.head.")]
        content["state_dict"] |= {name: content["state_dict"][name][:logits] for name in heads}
        torch.save(content, path)
    return path, task.model


def network(classes: int, **options: Any) -> UNet:
    torch.manual_seed(2)
    return UNet(classes=classes, **SMALL | options)


def copy(model: UNet) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def differing(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> set[str]:
    return {name for name in first if not torch.equal(first[name], second[name])}


@pytest.mark.parametrize("classes", [["a", "b", "c"], None])
@pytest.mark.parametrize("deep_supervision", [False, True])
def test_the_same_network_takes_over_everything(classes: Any, deep_supervision: bool, tmp_path: Path) -> None:
    options = {"deep_supervision": deep_supervision, "mean": [0.1, 0.2, 0.3]}
    path, trained = checkpoint(tmp_path / "best.ckpt", ["a", "b", "c"], **options)
    model = network(3, deep_supervision=deep_supervision)
    transfer = init_from(model, path, classes=classes)
    assert differing(model.state_dict(), trained.state_dict()) == set()
    assert (transfer.skipped, transfer.missing, transfer.unexpected, transfer.partly) == ({}, [], [], [])
    total = len(model.state_dict())
    named = "; logits by name, of a, b, c" if classes else ""
    assert str(transfer) == transfer.summary() == f"init_from {path}: {total} of {total} tensors{named}"


@pytest.mark.parametrize("kind", ["folder", "safetensors", "in a folder", "pth", "pt", "task", "compiled", "ckpt.pth"])
def test_every_kind_of_file_is_read(kind: str, tmp_path: Path) -> None:
    path, trained = checkpoint(tmp_path / "best.ckpt", ["a", "b"])
    weights = trained.state_dict()
    if kind in ("folder", "in a folder"):
        trained.save_pretrained(tmp_path / "saved")
        path = tmp_path / "saved" / ("model.safetensors" if kind == "in a folder" else "")
    elif kind == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path := tmp_path / "w.safetensors")
    elif kind == "ckpt.pth":
        path = path.rename(tmp_path / "best.pth")
    else:
        prefix = {"task": "model.", "compiled": "_orig_mod."}.get(kind, "")
        extra = {"loss.weight": torch.zeros(2)} if kind == "task" else {}
        path = tmp_path / ("w.pt" if kind == "pt" else "w.pth")
        torch.save({prefix + name: tensor for name, tensor in weights.items()} | extra, path)
    model = network(2)
    transfer = init_from(model, str(path))
    assert differing(model.state_dict(), weights) == set()
    assert transfer.unexpected == []


@pytest.mark.parametrize("classes", [["a", "b", "c"], None])
def test_another_number_of_classes_leaves_the_head_as_it_is(classes: Any, tmp_path: Path) -> None:
    path, trained = checkpoint(tmp_path / "best.ckpt", ["x", "y"])
    model = network(3)
    before = copy(model)
    transfer = init_from(model, path, classes=classes)
    head = {"head.weight", "head.bias"}
    assert differing({name: before[name] for name in head}, model.state_dict()) == set()
    body = {name: tensor for name, tensor in trained.state_dict().items() if name not in head}
    assert differing(body, model.state_dict()) == set()
    assert transfer.skipped == {"head.weight": ((2, 8, 3, 3), (3, 8, 3, 3)), "head.bias": ((2,), (3,))}
    total = len(before)
    assert str(transfer).startswith(f"init_from {path}: {total - 2} of {total} tensors; ")
    assert str(transfer).endswith(
        "left as initialised: head.weight (2x8x3x3 there, 3x8x3x3 here), head.bias (2 there, 3 here)"
    )
    assert ("logits by name, of no class" in str(transfer)) == (classes is not None)


def logits_by_name(model: UNet, classes: list[str], image: Tensor) -> dict[str, list[Tensor]]:
    """The logits of each class, those of all heads."""
    model.eval()
    return {name: [one[:, i] for one in model(image, all_logits=True)] for i, name in enumerate(classes)}


@pytest.mark.parametrize(
    ("head", "method", "classes"),
    [
        *(("upsample", method, "dbaec") for method in METHODS),
        ("conv", "conv_transpose", "dbaec"),
        *(("upsample", "conv_transpose", classes) for classes in ("cab", "ba", "dc")),
    ],
)
def test_logits_go_by_the_names_of_the_classes(head: str, method: str, classes: str, tmp_path: Path) -> None:
    """An oracle that knows nothing of tensors: classes of the same name get the same logits for the same image."""
    options = {"head": head, "upsample": {"method": method}, "deep_supervision": True}
    if head == "upsample":
        options["decoder_channels"] = [16, 8]
    path, trained = checkpoint(tmp_path / "best.ckpt", ["a", "b", "c"], **options)
    for name, parameter in trained.named_parameters():  # as if trained: no two classes alike
        if name.startswith(("head", "auxiliary")):
            parameter.data += 0.1 * torch.randn_like(parameter)
    content = torch.load(path, weights_only=True)
    content["state_dict"] |= {f"model.{name}": tensor for name, tensor in trained.state_dict().items()}
    torch.save(content, path)
    model = network(len(classes), **options)
    before = copy(model)
    transfer = init_from(model, path, classes=list(classes))
    image = torch.rand(1, 3, 33, 47)
    there, here = logits_by_name(trained, ["a", "b", "c"], image), logits_by_name(model, list(classes), image)
    shared = [name for name in classes if name in "abc"]
    assert transfer.classes == shared
    for name in shared:
        torch.testing.assert_close(here[name], there[name], rtol=1e-4, atol=1e-5)
    heads = {name for name in before if name.startswith(("head.", "auxiliary_heads."))}
    assert set(transfer.partly) == (heads if len(shared) < len(classes) else set())
    assert transfer.skipped == {}
    if "d" in classes:
        assert "for some classes: head." in str(transfer)
        bias = "head.bias" if "head.bias" in heads else "head.conv.bias"
        each = len(before[bias]) // len(classes)
        i = classes.index("d") * each
        assert torch.equal(model.state_dict()[bias][i : i + each], before[bias][i : i + each])


def test_as_many_classes_of_other_names_are_not_taken_for_the_same(tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path / "best.ckpt", ["a", "b"])
    model = network(2)
    before = copy(model)
    transfer = init_from(model, path, classes=["c", "d"])
    assert torch.equal(model.state_dict()["head.weight"], before["head.weight"])
    assert "left as initialised: head.weight (of other classes), head.bias (of other classes)" in str(transfer)
    assert "logits by name, of no class" in str(transfer)


def test_a_file_without_names_goes_by_position(tmp_path: Path) -> None:
    _, trained = checkpoint(tmp_path / "best.ckpt", ["a", "b"])
    trained.save_pretrained(tmp_path / "saved")
    model = network(2)
    transfer = init_from(model, tmp_path / "saved", classes=["b", "a"])
    assert torch.equal(model.state_dict()["head.weight"], trained.state_dict()["head.weight"])
    assert transfer.classes is None


@pytest.mark.parametrize(
    ("theirs", "ours", "taken"),
    [
        (("binary", ["a", "b"]), ("binary", ["a", "b"]), True),
        (("binary", ["a", "b"]), ("binary", ["b", "a"]), False),
        (("binary", ["a", "b"]), ("binary", ["a", "c"]), False),
        (("binary", ["a", "b"]), ("multilabel", ["b"]), False),
        (("multilabel", ["a"]), ("binary", ["a", "b"]), False),
        (("binary", ["a", "b"]), ("multiclass", ["a", "b"]), False),
        (("multilabel", ["a", "b"]), ("multiclass", ["a", "b"]), False),
        (("multilabel", ["a", "b"]), ("multilabel", ["b", "c"]), True),
    ],
)
def test_heads_of_another_mode_stay_behind(theirs: Any, ours: Any, taken: bool, tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path / "best.ckpt", theirs[1], mode=theirs[0])
    mode, classes = ours
    model = network(num_logits(len(classes), mode))
    before = copy(model)
    transfer = init_from(model, path, classes=classes, mode=mode)
    assert ("head.weight" not in transfer.skipped) == taken
    assert torch.equal(model.state_dict()["head.weight"], before["head.weight"]) == (not taken)
    assert bool(transfer.classes) == taken


def test_other_channels_leave_the_first_layer_and_the_normalisation(tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path / "best.ckpt", ["a", "b"])
    transfer = init_from(network(2, in_channels=5), path, classes=["a", "b"])
    assert set(transfer.skipped) == {"mean", "std", "encoder.conv1.weight"}
    assert "mean (1x3x1x1 there, 1x5x1x1 here)" in str(transfer)


def test_another_depth_takes_over_the_encoder_and_says_the_rest(tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path / "best.ckpt", ["a", "b"], encoder_depth=4, decoder_channels=[16, 16, 8, 8])
    model = network(2)
    transfer = init_from(model, path, classes=["a", "b"])
    assert not any(name.startswith("encoder.") for name in transfer.skipped)
    assert "decoder.blocks.3.upsample.weight" in transfer.unexpected
    assert "of no use here: decoder." in str(transfer)
    deeper = network(2, encoder_depth=4, decoder_channels=[16, 16, 8, 8])
    checkpoint(path, ["a", "b"])
    assert "decoder.blocks.3.upsample.weight" in init_from(deeper, path).missing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet34"}, None),
        (
            {"encoder": "mobilenet_v2"},
            r"and 0 of \d+ weights of its encoder. .* here is 'resnet18', the file's is 'mobile",
        ),
        ({"encoder": "tu-resnet18"}, "probably those of another encoder or decoder: .* the file's is 'tu-resnet18'"),
        (
            {"encoder": "resnet50"},
            r"only \d+ of .* Give the --model options that it was trained",
        ),  # whose batch norms fit by chance
    ],
    ids=str,
)
def test_weights_of_another_network_are_refused(options: Any, message: str, tmp_path: Path) -> None:
    path, trained = checkpoint(tmp_path / "best.ckpt", ["a", "b"], **options)
    if "tu" in options["encoder"]:  # its config names the encoder, too
        trained.save_pretrained(path := tmp_path / "saved")
    model = network(2)
    before = copy(model)
    if message is None:  # an encoder of the same family: its first blocks fit
        assert "its encoder is resnet34, another than here" in str(init_from(model, path))
        return
    with pytest.raises(CheckpointError, match=message):
        init_from(model, path)
    assert differing(before, model.state_dict()) == set()


def test_a_file_that_does_not_name_its_encoder_is_said_so(tmp_path: Path) -> None:
    torch.save({"something.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"only 0 of .* here is 'resnet18', the file doesn't name its own"):
        init_from(network(2), tmp_path / "w.pth")
    trained = network(2, encoder="mobilenet_v2")
    trained.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved/config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="the file doesn't name its own"):
        init_from(network(2), tmp_path / "saved")


def test_what_is_no_file_of_weights_is_explained(tmp_path: Path) -> None:
    model = network(2)
    for name in ("best.ckpt", "w.pth", "w.safetensors"):
        with pytest.raises(CheckpointError, match=rf"there is no checkpoint file .*{name}"):
            init_from(model, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"holds no model.safetensors; give a folder that UNet.save_pretrained"):
        init_from(model, tmp_path)
    torch.save({"a": 1}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w.pth is not a checkpoint of unetseg"):
        init_from(model, tmp_path / "w.pth")


def test_a_truncated_file_is_explained(tmp_path: Path) -> None:
    _, trained = checkpoint(tmp_path / "best.ckpt", ["a", "b"])
    trained.save_pretrained(tmp_path / "saved")
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    for path in (tmp_path / "best.ckpt", tmp_path / "w.pth", tmp_path / "saved/model.safetensors"):
        whole = path.read_bytes()
        for size in (len(whole) - 1, 5000, 5, 0):
            path.write_bytes(whole[:size])
            with pytest.raises(CheckpointError, match=r"or is damaged: .* Give the best.ckpt"):
                init_from(trained, path)


def test_classes_and_logits_must_agree(tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path / "best.ckpt", ["a", "b"])
    with pytest.raises(OptionError, match=r"2 classes in mode 'binary' need 1 logits, but the network has 2"):
        init_from(network(2), path, classes=["a", "b"], mode="binary")


def test_the_summary_is_short() -> None:
    names = [f"tensor{i}" for i in range(50)]
    transfer = Transfer(Path("a.ckpt"), ["x"], names, dict.fromkeys(names, ((), (2,))), names, names, names, None)
    assert len(str(transfer)) < 600
    assert "tensor0 (one number there, 2 here)" in str(transfer)
