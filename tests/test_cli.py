"""The command line, in-process, as a person types it."""

import contextlib
import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from small_jobs import TINY

from unetseg import Predictor
from unetseg.__main__ import main


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fit(root: Path, *options: str, epochs: int = 1) -> int:
    own = [f"--data.root={root}", "--data.classes=[background, square]", f"--trainer.max_epochs={epochs}"]
    return main(["fit", *own, *TINY, *options])


def metrics(run: str) -> list[dict[str, str]]:
    with Path(run, "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(path: str) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def run(args: list[str]) -> int | str | None:
    """The exit code, whether it is returned or, by the option parser, raised."""
    with contextlib.suppress(SystemExit):
        return main(args)
    return 2


def failure(capsys: pytest.CaptureFixture[str], args: list[str], code: int = 1) -> str:
    """What a mistaken command says: an error in one or two lines, no traceback and no page of usage."""
    capsys.readouterr()
    assert run(args) == code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "usage" not in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    return errors[0]


def test_fit_test_predict_resume(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(squares, epochs=2) == 0
    said = capsys.readouterr().out
    assert f"data: {squares} (4 train, 2 val, 2 test images; 2 classes)" in said
    assert "hint: the encoder resnet18 starts from random weights" in said
    assert "square" in said
    assert "mean" in said
    assert "-m unetseg test --ckpt_path runs/version_0/best.ckpt" in said
    run = Path("runs/version_0")
    assert {path.name for path in run.iterdir()} >= {"best.ckpt", "last.ckpt", "metrics.csv", "config.yaml"}
    assert {"val_iou", "val_iou_background", "val_iou_square", "val_loss"} <= set(metrics("runs/version_0")[0])

    # the checkpoint brings the data settings along
    for verb, split in (("validate", "val"), ("test", "test")):
        assert main([verb, "--ckpt_path=runs/version_0/best.ckpt", *TINY[-2:]]) == 0
        said = capsys.readouterr().out
        assert f"data: {squares} " in said
        assert f"{split}_iou" in said
        assert "hint" not in said

    assert main(["predict", str(squares / "images"), "--ckpt_path=runs/version_0/best.ckpt", "--output=masks"]) == 0
    image = np.asarray(Image.open(squares / "images" / "val_1.png"))
    with Image.open("masks/val_1.png") as mask:
        predictor = Predictor.from_checkpoint("runs/version_0/best.ckpt", device="cpu")
        np.testing.assert_array_equal(np.asarray(mask), predictor(image))

    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["fit", "--ckpt_path=runs/version_0/last.ckpt", "--trainer.max_epochs=3", *TINY[-2:]]) == 0
    resumed = Path("runs/version_3")
    assert [row["epoch"] for row in metrics(str(resumed)) if row["val_iou"]] == ["2"]
    assert {path.name for path in resumed.iterdir()} >= {"best.ckpt", "last.ckpt"}
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_resumed_run_goes_on_to_the_first_ones_end(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares, epochs=1)
    killed = torch.load("runs/version_0/last.ckpt", weights_only=True)
    assert killed["run_length"] == {"max_epochs": 1, "max_steps": -1}
    killed["run_length"]["max_epochs"] = 3  # as one of 3 epochs that was killed after the first
    torch.save(killed, "runs/version_0/last.ckpt")
    assert main(["fit", "--ckpt_path=runs/version_0/last.ckpt", *TINY[-2:]]) == 0
    assert [row["epoch"] for row in metrics("runs/version_1") if row["val_iou"]] == ["1", "2"]
    capsys.readouterr()
    # a saved configuration may stand beside the checkpoint: it agrees, and holds the trainer's other settings
    config = "--config=runs/version_1/config.yaml"
    assert main(["fit", "--ckpt_path=runs/version_1/last.ckpt", config]) == 0
    assert "no epoch was run: 3 of 3 were done before" in capsys.readouterr().out


def test_a_resumed_run_keeps_the_earlier_best(squares: Path) -> None:
    fit(squares, "--seed_everything=3", "--model.lr=0.01", epochs=6)
    for name in ("best", "last"):
        content = torch.load(f"runs/version_0/{name}.ckpt", weights_only=True)
        (state,) = [s for name, s in content["callbacks"].items() if "Checkpoint" in name]
        state["best_model_score"] = torch.tensor(1.0)  # nothing that follows can be better
        torch.save(content, f"runs/version_0/{name}.ckpt")
    main(["fit", "--ckpt_path=runs/version_0/last.ckpt", "--trainer.max_epochs=7", *TINY[-2:]])
    first, second = (weights(f"runs/version_{i}/best.ckpt") for i in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.slow
def test_two_seeded_runs_are_equal(squares: Path) -> None:
    for seed, workers in ((7, 2), (7, 2), (7, 0), (8, 2)):
        seeded = [f"--seed_everything={seed}", f"--data.num_workers={workers}"]
        fit(squares, *seeded, "--model.block.dropout=0.2", epochs=2)  # what draws from torch's generator, too
    one, two, alone, other = (weights(f"runs/version_{i}/last.ckpt") for i in range(4))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert all(torch.equal(value, alone[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.filterwarnings("ignore:decoder stages")
def test_options_reach_the_network(squares: Path) -> None:
    fit(
        squares,
        "--model.upsample.kernel_size=[[4, 2], 3, 4]",
        "--model.upsample.bias=false",
        "--model.encoder=mobilenet_v2",
    )
    shapes = {name: tuple(value.shape) for name, value in weights("runs/version_0/last.ckpt").items()}
    kernels = [shapes[f"model.decoder.blocks.{i}.upsample.weight"][2:] for i in range(3)]
    assert kernels == [(4, 2), (3, 3), (4, 4)]
    assert "model.decoder.blocks.0.upsample.bias" not in shapes
    saved = yaml.safe_load(Path("runs/version_0/config.yaml").read_text())
    assert saved["model"]["upsample"]["kernel_size"] == [[4, 2], 3, 4]
    assert saved["data"]["root"] == str(squares)


def test_a_saved_config_runs_again(squares: Path) -> None:
    fit(squares)
    assert main(["fit", "--config=runs/version_0/config.yaml"]) == 0
    one, two = (weights(f"runs/version_{i}/last.ckpt") for i in range(2))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_the_built_in_data_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *TINY, "--data.synthetic_length=5", "--trainer.max_epochs=1"]) == 0
    assert "data: built-in scenes" in capsys.readouterr().out
    assert main(["test", "--ckpt_path=runs/version_0/best.ckpt"]) == 0


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (
            ["train"],
            2,
            r"'train' is no verb; the verbs are fit, validate, test, predict, export, inspect, check-data, pack",
        ),
        (["fit", "--data.rooot=x"], 2, r"--data.rooot.* Did you mean --data.root\?"),
        (["fit", "--trainer.max_epoch=3"], 2, r"Did you mean --trainer.max_epochs\?"),
        (["fit", "--data.batch_size=many"], 2, r"data.batch_size.*many"),
        (["fit", "--config=nowhere.yaml"], 2, r"nowhere.yaml"),
        (["fit", "--data.root=nowhere", "--data.classes=[a, b]"], 1, r"nowhere"),
        (["fit", "--model.encoder=resnet43"], 1, r"'resnet43' doesn't exist. Did you mean .*resnet34"),
        (["fit", "--model.encoder_weights=nowhere.pth"], 1, r"there is no file nowhere.pth"),
        (["fit", "--model.upsample.kernel_size=1"], 1, r"kernel 1 is too small for stride 2"),
        (["fit", "--model.upsample.stride=3"], 1, r"upsample.stride is 3; the encoder's ratio there is 2"),
        (["fit", "--model.upsample.kernel_size=[4, 4]"], 1, r"2 values for 5 decoder stages"),
        (
            ["fit", "--trainer.max_epochs=-1", "--data.num_workers=0"],
            1,
            r"the run needs a length: give --trainer.max_epochs",
        ),
        (["fit", "--ckpt_path=nowhere.ckpt"], 1, r"there is no checkpoint file nowhere.ckpt"),
        (["fit", "--trainer.accelerator=gpu", "--trainer.devices=9"], 1, r"(?i)gpu"),
        (["test"], 1, r"test needs --ckpt_path"),
        (["fit", "--model.upsample.groups=3"], 1, r"decoder stage 0 .*groups is 3; it must divide both 512 input"),
        (["fit", "--model.upsample.kernel_size=(4,2)"], 2, r"kernel_size.*\(4,2\).* For example: .*\[4, 4, 3, 3"),
        (["fit", "--data.classes=road"], 2, r"data.classes.*road.* For example: --data.classes '\[background, road\]'"),
        (["fit", "--data.classes={road: red}"], 2, r"data.classes.* or colours: '\{background: \[0, 0, 0\]"),
        (["fit", "--data.value_map={a: 0}"], 2, r"data.value_map.* For example: --data.value_map '\{7: 0"),
        (["fit", "--data.transforms=Blur"], 2, r"data.transforms.* For example: --data.transforms '\[HorizontalFlip"),
        (["predict", "x.jpg"], 2, r"required: --output"),
        (["predict", "x.jpg", "--output=b"], 2, r"one of the arguments --ckpt_path --model is required"),
        (["predict", "x.jpg", "--ckpt_path=a", "--output=b", "--overlay"], 2, r"--overlay"),
    ],
)
def test_mistakes_are_explained(args: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = failure(capsys, args, code)
    assert re.search(message, said), said


def test_data_mistakes_are_explained(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["fit", f"--data.root={squares}", *TINY, "--trainer.max_epochs=1"]
    assert "hold the values 0, 1;" in failure(capsys, own)
    assert "quote" in failure(capsys, [*own, "--data.classes=[on, off]"])
    Image.fromarray(np.full((40, 48), 9, dtype=np.uint8)).save(squares / "masks" / "train_0.png")
    for workers in (0, 2):  # a worker process puts its traceback into the message
        said = failure(capsys, [*own, "--data.classes=[a, b]", f"--data.num_workers={workers}"])
        assert "train_0.png" in said
        assert "9" in said


def test_a_checkpoint_and_options_must_agree(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares)
    checkpoint = "--ckpt_path=runs/version_0/last.ckpt"
    said = failure(capsys, ["test", checkpoint, "--data.classes=[sky, square]"])
    assert "--data.classes is ['sky', 'square']" in said
    assert "trained on ['background', 'square']" in said
    said = failure(capsys, ["fit", checkpoint, "--model.encoder=resnet34"])
    assert "--model.encoder is resnet34" in said
    said = failure(capsys, ["test", checkpoint, "--model.upsample.kernel_size=2"])
    assert "--model.upsample is" in said
    assert main(["test", checkpoint, f"--data.root={squares}", "--data.classes=[background, square]"]) == 0


def test_an_image_below_the_encoders_minimum_is_explained(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ["fit", f"--data.root={squares}", "--data.classes=[a, b]", "--data.num_workers=0", "--data.batch_size=2"]
    said = failure(
        capsys, [*own, "--model.encoder=vgg11_bn", "--data.crop_size=24", "--model.decoder_channels=[8, 8, 8, 8, 8]"]
    )
    assert "data.crop_size: an image of 24x24 pixels is too small for encoder 'vgg11_bn', which takes 32x32" in said


def test_a_checkpoint_of_another_network_is_explained(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares)
    content = torch.load("runs/version_0/last.ckpt", weights_only=True)
    del content["state_dict"]["model.head.bias"]
    torch.save(content, "other.ckpt")
    said = failure(capsys, ["test", "--ckpt_path=other.ckpt", *TINY[-2:]])
    assert "1 tensors differ (first: model.head.bias)" in said
    del content["datamodule_hyper_parameters"]
    torch.save(content, "other.ckpt")
    assert "holds no data settings" in failure(capsys, ["test", "--ckpt_path=other.ckpt"])


def test_a_misspelt_key_of_a_config_brings_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.yaml").write_text("data: {rooot: x}")
    assert "Did you mean --data.root?" in failure(capsys, ["fit", "--config=my.yaml"], code=2)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0.1.0"


@pytest.mark.slow
def test_two_processes_train_one_model(squares: Path) -> None:
    """A shallow encoder has parameters that no map depends on; distributed training would stop at them."""
    own = [f"--data.root={squares}", "--data.classes=[background, square]", "--trainer.max_epochs=2"]
    distributed = ["--trainer.strategy=ddp", "--trainer.devices=2"]
    command = [sys.executable, "-m", "unetseg", "fit", *own, *TINY, *distributed]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("best epoch:") == 1  # said by one process
    assert [row["epoch"] for row in metrics("runs/version_0") if row["val_iou"]] == ["0", "1"]
    assert main(["test", "--ckpt_path=runs/version_0/best.ckpt", *TINY[-2:]]) == 0


@pytest.mark.slow
def test_the_default_fit_learns_the_built_in_scenes(capsys: pytest.CaptureFixture[str]) -> None:
    """What `make fit` runs, whole."""
    assert main(["fit", "--trainer.accelerator=cpu"]) == 0
    mean = re.search(r"^mean +([\d.]+)", capsys.readouterr().out, re.MULTILINE)
    assert float(mean[1]) >= 0.80


def test_every_verb_has_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    data_only = {"check-data": "--json", "pack": "--output"}
    for verb in ("fit", "validate", "test", "predict", "inspect", *data_only):
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help"])
        assert stop.value.code == 0
        assert data_only.get(verb, "--ckpt_path") in capsys.readouterr().out


@pytest.mark.slow
def test_a_reader_that_has_had_enough_gets_no_traceback() -> None:
    command = f"{sys.executable} -m unetseg inspect --size 64 64 | head -n 1"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert run.stdout.startswith("image 64x64")
    assert "Traceback" not in run.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", sorted((Path(__file__).parents[1] / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_config_runs(config: Path, squares: Path) -> None:
    """As shipped, but for the size of the job."""
    classes = yaml.safe_load(config.read_text())["data"]["classes"]
    assert f"# python -m unetseg fit --config configs/{config.name} --data.root DIR" in config.read_text()
    small = ["--model.encoder_weights=null", "--trainer.max_epochs=1", "--data.crop_size=32", "--data.num_workers=0"]
    small += ["--trainer.check_val_every_n_epoch=1"]
    assert main(["fit", f"--config={config}", f"--data.root={squares}", *small, "--data.batch_size=2"]) == 0
    assert read_classes("runs/version_0/best.ckpt") == classes


def read_classes(path: str) -> list[str]:
    return torch.load(path, weights_only=True)["hyper_parameters"]["classes"]


def test_decoder_options_reach_the_checkpoint_and_come_back(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--model.decoder=unetplusplus",
        "--model.head=upsample",
        "--model.deep_supervision=true",
        "--model.decoder_channels=[16, 8]",
        "--model.upsample.method=[pixel_shuffle, conv_transpose, blurred_conv_transpose]",
        "--model.upsample.init=balanced",
        "--model.block.norm=group",
        "--model.block.attention=[scse, gate]",
    ]
    assert fit(squares, *options) == 0
    saved = torch.load("runs/version_0/best.ckpt", weights_only=True)["hyper_parameters"]
    assert saved["block"]["attention"] == ["scse", "gate"]
    assert saved["upsample"]["method"] == ["pixel_shuffle", "conv_transpose", "blurred_conv_transpose"]
    assert main(["test", "--ckpt_path=runs/version_0/best.ckpt", *TINY[-2:]]) == 0
    assert main(["fit", "--ckpt_path=runs/version_0/last.ckpt", "--trainer.max_epochs=2", *TINY[-2:]]) == 0
    said = failure(capsys, ["test", "--ckpt_path=runs/version_0/best.ckpt", "--model.block.norm=batch"])
    assert "--model.block is" in said
    assert Predictor.from_checkpoint("runs/version_0/best.ckpt")(np.zeros((35, 47, 3), np.uint8)).shape == (35, 47)


def test_a_choice_that_does_not_exist_is_explained(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["fit", f"--data.root={squares}", "--data.classes=[background, square]"]
    assert "batch" in failure(capsys, [*common, "--model.block.norm=bacth"], code=2)
    assert "kernel_size" in failure(capsys, [*common, *TINY, "--model.upsample.kernel_size=[4, 4]"])
