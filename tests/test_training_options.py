"""Options of a training run on the command line: each has its effect, is kept, and explains what is wrong with it."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from killing import _CONTEXT
from killing import _run as run_elsewhere
from PIL import Image
from recording import Recorder
from small_jobs import TINY

from unetseg import Predictor
from unetseg.__main__ import main
from unetseg.checkpoint import read_checkpoint

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
BEST, LAST = "runs/version_0/best.ckpt", "runs/version_0/last.ckpt"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def command(root: Path, *options: str, epochs: int = 1) -> list[str]:
    own = [f"--data.root={root}", "--data.classes=[background, square]", f"--trainer.max_epochs={epochs}"]
    return ["fit", *own, *TINY, "--run.pictures=0", *options]


def fit(root: Path, *options: str, epochs: int = 1) -> None:
    assert main(command(root, *options, epochs=epochs)) == 0


def resume(*options: str, path: str = LAST) -> None:
    assert main(["fit", f"--ckpt_path={path}", *QUIET, *options]) == 0


def content(path: str = LAST) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def assert_equal(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one["global_step"] == two["global_step"]
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, value in one["state_dict"].items():
        assert torch.equal(value, two["state_dict"][name]), name


def metrics(run: str = "runs/version_0") -> list[dict[str, str]]:
    with Path(run, "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["val_iou"]]


def failure(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    """The one line that a mistaken command says."""
    capsys.readouterr()
    try:
        code: Any = main(args)
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err
    assert code in (1, 2), said
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line]
    assert line.startswith("error: ")
    return line


def table(capsys: pytest.CaptureFixture[str], path: str) -> str:
    """What a validation of a checkpoint says, from its heading."""
    capsys.readouterr()
    assert main(["validate", f"--ckpt_path={path}", *QUIET]) == 0
    said = capsys.readouterr()
    assert not said.err
    return said.out[said.out.index("class ") :]


def figure(said: str, name: str = "mean") -> float:
    return float(re.search(rf"^{name} +([\d.]+)", said, re.MULTILINE)[1])


# modes


@pytest.mark.parametrize("mode", ["binary", pytest.param("multilabel", marks=pytest.mark.slow)])
def test_a_mode_goes_through_all_verbs(mode: str, squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--data.mode={mode}"]
    if mode == "multilabel":
        for name in ("background", "square"):
            (squares / "masks" / name).mkdir()
        for path in (squares / "masks").glob("*.png"):
            mask = np.asarray(Image.open(path))
            for value, name in enumerate(["background", "square"]):
                Image.fromarray((mask == value).astype(np.uint8)).save(path.parent / name / path.name)
            path.unlink()
        options.append("--data.mask_format=multilabel")
    fit(squares, *options)
    assert content(BEST)["hyper_parameters"]["mode"] == mode
    logged = metrics()[-1]
    names = ("iou", "dice", "boundary_iou")
    assert {f"val_{name}{of}" for name in names for of in ("", "_background", "_square")} <= logged.keys()
    assert {"val_accuracy", "val_micro_iou", "val_image_iou", "val_loss"} <= logged.keys()
    assert figure(table(capsys, BEST)) == pytest.approx(float(logged["val_iou"]), abs=1e-4)
    assert main(["test", f"--ckpt_path={BEST}", *QUIET]) == 0
    assert main(["inspect", f"--ckpt_path={BEST}", "--size", "64", "64"]) == 0
    assert main(["predict", str(squares / "images"), f"--ckpt_path={BEST}", "--output=masks"]) == 0
    shape = {"binary": (35, 47), "multilabel": (2, 35, 47)}[mode]
    assert Predictor.from_checkpoint(BEST, device="cpu")(np.zeros((35, 47, 3), np.uint8)).shape == shape
    said = failure(capsys, ["validate", f"--ckpt_path={BEST}", "--data.mode=multiclass"])
    assert "multiclass" in said
    assert mode in said
    resume("--trainer.max_epochs=2", "--run.folder=resumed")
    assert content("resumed/version_0/last.ckpt")["hyper_parameters"]["mode"] == mode


def test_binary_and_multiclass_say_the_same_of_the_same(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A logit z against 0 is the logits 0 and z against each other."""
    fit(squares, "--data.mode=binary", "--model.lr=0.01", epochs=4)
    saved = content(BEST)
    for name in ("model.head.weight", "model.head.bias"):
        value = saved["state_dict"][name]
        saved["state_dict"][name] = torch.cat([torch.zeros_like(value), value])
    saved["hyper_parameters"] |= {"mode": "multiclass", "loss": {"ce": 1.0}}
    saved["datamodule_hyper_parameters"]["mode"] = "multiclass"
    torch.save(saved, "multiclass.ckpt")
    assert table(capsys, BEST) == table(capsys, "multiclass.ckpt")
    for path, folder in ((BEST, "one"), ("multiclass.ckpt", "two")):
        assert main(["predict", str(squares / "images"), f"--ckpt_path={path}", f"--output={folder}"]) == 0
    for path in Path("one").iterdir():
        assert path.read_bytes() == Path("two", path.name).read_bytes()


# what is wrong

WRONG = {
    "--data.mode=binary --data.classes=[a, b, c]": "binary needs exactly two classes; got a, b, c",
    "--data.mode=multilabel": "needs a mask a class",
    "--data.mode=both": "both",
    "--model.loss={ce: 1, foo: 2}": "'foo' is not a term: ce, dice, focal, lovasz, tversky, boundary",
    "--model.loss={bce: 1}": "bce is not for mode 'multiclass': use ce",
    "--model.loss=ce": "For example: --model.loss",
    "--model.loss={ce: {smoothing: 0.1}}": "Did you mean 'label_smoothing'",
    "--model.class_weights=[1, 2, 3]": "it must be a list of 2",
    "--model.class_weights=autoo": "For example: --model.class_weights auto",
    "--model.optimizer=SGDD": "Did you mean 'SGD'",
    "--model.optimizer={SGD: {betas: [0.9, 0.99]}}": "no argument 'betas'",
    "--model.scheduler={CosineAnnealingLR: {T_maxx: 3}}": "Did you mean 'T_max'",
    "--model.scheduler_interval=batch": r"Literal\['epoch', 'step'\]\. Got value: batch$",
    "--model.lr=-1": "model.lr is -1.0; it must be at least 0",
    "--model.encoder_lr=-1": "model.encoder_lr is -1.0; it must be at least 0",
    "--model.freeze=[encodr]": "Did you mean 'encoder'",
    "--model.init_from=nowhere.ckpt": "there is no checkpoint file nowhere.ckpt",
    "--run.early_stopping=0": "must be 1 or more, or null",
    "--run.early_stopping=1 --trainer.limit_val_batches=0": "nothing is validated",
    "--run.ema_decay=1": "must be between 0 and 1",
    "--run.pictures=-1": "must be 0 or more",
    "--run.foldr=x": "Did you mean --run.folder",
    "--run.find_batch_size=true --trainer.devices=2 --trainer.strategy=ddp": "--trainer.devices 1 first",
    "--trainer.gradient_clip_val=-1": "gradient_clip_val is -1.0; it must be at least 0",
    "--trainer.accumulate_grad_batches=0": "accumulate_grad_batches is 0; it must be at least 1",
    "--trainer.val_check_interval=0": "val_check_interval is 0; it must be above 0",
    "--trainer.val_check_interval=50": "number of the training batches",
    "--trainer.strategy=foo": "invalid strategy name",
    "--trainer.precision=7": "trainer.precision",
}


@pytest.mark.parametrize("options", WRONG)
def test_mistakes_are_explained_in_a_line(options: str, squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"--{word}" for word in options.removeprefix("--").split(" --")]
    assert re.search(WRONG[options], failure(capsys, command(squares, *words)))


# loss and class weights


def test_a_loss_and_counted_class_weights_stay_with_a_run(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loss = {"lovasz": 0.5, "ce": {"weight": 1.0, "label_smoothing": 0.1}}
    Path("my.yaml").write_text(yaml.safe_dump({"model": {"loss": loss, "class_weights": "auto"}}))
    fit(squares, "--config=my.yaml")
    said = capsys.readouterr().out
    assert said.count("class weights: background 0.626, square 2.48") == 1
    saved = content()["hyper_parameters"]
    assert saved["loss"] == loss
    assert saved["class_weights"] == pytest.approx([0.626, 2.48], rel=1e-2)
    typed = "--model.class_weights=[" + ", ".join(map(repr, saved["class_weights"])) + "]"
    fit(squares, "--model.loss={lovasz: 0.5, ce: {weight: 1, label_smoothing: 0.1}}", typed)
    assert_equal(content(), content("runs/version_1/last.ckpt"))
    fit(squares, "--config=my.yaml", "--model.class_weights=null")
    one, two = content(), content("runs/version_2/last.ckpt")
    assert not torch.equal(one["state_dict"]["model.head.weight"], two["state_dict"]["model.head.weight"])

    (squares / "masks" / "train_0.png").rename("elsewhere.png")  # so that counting would fail
    said = failure(capsys, ["fit", f"--ckpt_path={LAST}", "--model.loss={ce: 1}"])
    assert "--model.loss is" in said
    assert "its settings hold" in said
    assert "--model.class_weights is" in failure(capsys, ["fit", f"--ckpt_path={LAST}", "--model.class_weights=[1, 2]"])
    Path("elsewhere.png").rename(squares / "masks" / "train_0.png")
    capsys.readouterr()
    resume("--trainer.max_epochs=2", "--model.class_weights=auto")
    assert "class weights" not in capsys.readouterr().out
    assert content("runs/version_3/last.ckpt")["hyper_parameters"]["loss"] == loss


def test_an_infinite_loss_ends_the_run(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares)
    before = Path(LAST).read_bytes()
    spoilt = content()
    spoilt["state_dict"]["model.head.bias"].fill_(float("nan"))
    torch.save(spoilt, "runs/version_0/spoilt.ckpt")
    said = failure(capsys, ["fit", "--ckpt_path=runs/version_0/spoilt.ckpt", "--trainer.max_epochs=2", *QUIET])
    assert re.search(r"the loss is nan at step 3, in epoch 2, on train_\d, train_\d\. .*--model\.lr", said)
    assert Path(LAST).read_bytes() == before
    assert "the loss is" in failure(capsys, command(squares, "--model.lr=1e30", epochs=3))


def test_a_batch_without_labels_changes_no_figure_to_nan(squares: Path) -> None:
    for name in ("train_0", "train_1", "train_2", "val_0"):
        with Image.open(squares / "masks" / f"{name}.png") as mask:
            Image.new("L", mask.size, 255).save(squares / "masks" / f"{name}.png")
    fit(squares, "--data.batch_size=1")
    assert all(value.isfinite().all() for value in content()["state_dict"].values())
    assert np.isfinite(float(metrics()[-1]["val_loss"]))


# optimizer, schedule, frozen parts, other weights


def test_an_optimizer_and_nested_schedules(squares: Path) -> None:
    cosine = {"CosineAnnealingLR": {"T_max": "run", "eta_min": 0.001}}
    nested = {"SequentialLR": {"schedulers": [{"LinearLR": {"start_factor": 0.5, "total_iters": 1}}, cosine]}}
    nested["SequentialLR"]["milestones"] = [1]
    model = {"optimizer": {"SGD": {"momentum": 0.9}}, "lr": 0.1, "encoder_lr": 0.01, "scheduler": nested}
    Path("my.yaml").write_text(yaml.safe_dump({"model": model}))
    fit(squares, "--config=my.yaml", epochs=3)
    (state,) = content()["optimizer_states"]
    groups = {group["name"]: group for group in state["param_groups"]}
    assert {group["weight_decay"] for group in groups.values()} == {0}
    assert "betas" not in groups["decoder"]
    assert {name: group["initial_lr"] for name, group in groups.items()} == {"encoder": 0.01, "decoder": 0.1}
    # after three epochs: the cosine of two thirds of the way, both for the same part of it
    expected = [0.001 + (rate - 0.001) * (1 + np.cos(np.pi * 2 / 3)) / 2 for rate in (0.01, 0.1)]
    assert [groups[name]["lr"] for name in ("encoder", "decoder")] == pytest.approx(expected)


def test_frozen_parts_stay_as_they_are(squares: Path) -> None:
    fit(squares, "--model.freeze=[encoder]")
    one = content()["state_dict"]
    assert one["model.encoder.bn1.num_batches_tracked"] == 0
    assert one["model.encoder.bn1.running_mean"].abs().max() == 0
    resume("--trainer.max_epochs=3")
    two = content("runs/version_1/last.ckpt")["state_dict"]
    frozen = [name for name in one if name.startswith("model.encoder.")]
    assert any("running_mean" in name for name in frozen)
    assert all(torch.equal(one[name], two[name]) for name in frozen)
    assert not torch.equal(one["model.head.weight"], two["model.head.weight"])


@pytest.mark.slow
def test_a_run_begins_from_other_weights(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares)
    capsys.readouterr()
    nothing = ["--trainer.max_epochs=1", "--model.lr=1e-30", "--model.freeze=[encoder, decoder]"]
    other = ["--data.classes=[square, background, more]", f"--model.init_from={BEST}"]
    assert main(command(squares, *other, *nothing)) == 0
    assert f"init_from {BEST}: 160 of 162 tensors; for some classes: head.weight, head.bias" in capsys.readouterr().out
    one, two = content(BEST)["state_dict"], content("runs/version_1/last.ckpt")["state_dict"]
    assert torch.equal(one["model.encoder.conv1.weight"], two["model.encoder.conv1.weight"])
    assert torch.equal(one["model.head.weight"], two["model.head.weight"][[1, 0]])
    read_checkpoint(BEST).build_model().save_pretrained("saved")
    fit(squares, "--model.init_from=saved", *nothing)
    assert "init_from saved/model.safetensors: 162 of 162 tensors" in capsys.readouterr().out
    assert torch.equal(one["model.head.weight"], content("runs/version_2/last.ckpt")["state_dict"]["model.head.weight"])
    Path(BEST).unlink()
    resume("--trainer.max_epochs=2", path="runs/version_1/last.ckpt")
    assert "init_from" not in capsys.readouterr().out


# averaged weights, precision, gradients


@pytest.mark.slow
def test_averaged_weights_are_what_is_validated_and_saved(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Recorder.steps.clear()
    fit(
        squares,
        "--run.ema_decay=0.6",
        "--trainer.callbacks+=recording.Recorder",
        "--model.lr=0.01",
        "--run.pictures=1",
        epochs=3,
    )
    said = capsys.readouterr().out
    first, *later = Recorder.steps  # the average begins with the weights after the first step
    expected = {name: value.double() for name, value in first.items()}
    for weights in later:
        expected = {name: 0.6 * expected[name] + 0.4 * value.double() for name, value in weights.items()}
    saved = content()
    assert len(later) == 5
    for name, value in saved["state_dict"].items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name].float(), rtol=1e-4, atol=1e-6)
            assert torch.equal(saved["current_model_state"][name], later[-1][name])
    best = table(capsys, BEST)
    assert best in said  # the table of the best epoch
    assert figure(best) == pytest.approx(max(float(row["val_iou"]) for row in metrics()), abs=1e-4)
    assert main(["predict", str(squares / "images"), f"--ckpt_path={LAST}", "--output=masks"]) == 0
    image = np.asarray(Image.open(squares / "images" / "val_1.png"))
    np.testing.assert_array_equal(
        np.asarray(Image.open("masks/val_1.png")), Predictor.from_checkpoint(LAST, device="cpu")(image)
    )
    capsys.readouterr()
    resume("--trainer.max_epochs=4", "--run.ema_decay=null")
    assert not capsys.readouterr().err
    assert "current_model_state" not in content("runs/version_2/last.ckpt")


@pytest.mark.slow
def test_clipped_and_accumulated_gradients_under_mixed_precision(squares: Path) -> None:
    Recorder.losses.clear()
    options = ["--trainer.precision=bf16-mixed", "--trainer.accumulate_grad_batches=2"]
    fit(squares, *options, "--trainer.callbacks+=recording.Recorder", epochs=2)
    fit(squares, *options, "--trainer.gradient_clip_val=1e-6", "--model.optimizer={SGD: {}}", "--model.lr=1", epochs=2)
    fit(squares, *options, "--trainer.gradient_clip_val=0.1", epochs=2)  # of the fused optimizer
    assert {loss.dtype for loss in Recorder.losses} == {torch.float32}
    assert content()["global_step"] == 2
    clipped = content("runs/version_1/last.ckpt")
    begin = content("runs/version_1/best.ckpt")["state_dict"]  # after the first epoch's step, or the second's
    for name, value in clipped["state_dict"].items():
        if not any(word in name for word in ("running", "num_batches")):
            assert (value - begin[name]).abs().max() < 1e-5
    with pytest.raises(AssertionError):
        assert_equal(content(), content("runs/version_2/last.ckpt"))
    resume("--trainer.max_epochs=3", path="runs/version_2/last.ckpt")
    resumed = content("runs/version_3/last.ckpt")
    settings = {"precision": "bf16-mixed", "accumulate_grad_batches": 2, "gradient_clip_val": 0.1}
    assert settings.items() <= resumed["run"]["trainer"].items()
    assert resumed["global_step"] == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_a_compiled_network(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares, "--model.compile=true", "--run.ema_decay=0.5", "--run.pictures=1", epochs=2)
    assert not any("_orig_mod" in name for name in content()["state_dict"])
    assert figure(table(capsys, BEST)) > 0
    assert main(["predict", str(squares / "images"), f"--ckpt_path={BEST}", "--output=masks"]) == 0
    resume("--trainer.max_epochs=3", "--model.compile=false")


# what is looked for before a run


@pytest.mark.parametrize(
    "options",
    [
        ["--run.ema_decay=0.5", "--model.block.dropout=0.2", "--trainer.max_steps=5"],
        [],
        ["--data.num_workers=1", "--model.freeze=[encoder]"],
    ],
)
@pytest.mark.slow
def test_a_learning_rate_is_found(options: list[str], squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares, "--run.find_lr=true", "--data.batch_size=1", *options, epochs=2)
    said = capsys.readouterr()
    assert not said.err
    typed = re.search(r"learning rate: (--model.lr (\S+) --model.encoder_lr \S+)\n", said.out)
    assert 1e-5 < float(typed[2]) <= 0.1
    assert content()["hyper_parameters"]["lr"] == float(typed[2])
    assert yaml.safe_load(Path("runs/version_0/hparams.yaml").read_text())["lr"] == float(typed[2])
    fit(squares, *typed[1].split(), "--data.batch_size=1", *options, epochs=2)
    assert_equal(content(), content("runs/version_1/last.ckpt"))
    assert metrics() == metrics("runs/version_1")
    assert not [path for path in Path().rglob("*") if "lr_find" in path.name]
    assert "run.find_lr looks before a run" in failure(capsys, ["fit", f"--ckpt_path={LAST}", "--run.find_lr=true"])


@pytest.mark.slow
def test_a_batch_size_is_found(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("images", "masks"):  # of five pairs, which no power of two is
        content_ = (squares / folder / "val_1.png").read_bytes()
        (squares / folder / "train_4.png").write_bytes(content_)
    with (squares / "train.txt").open("a") as file:
        file.write("\ntrain_4")
    both = ["--run.find_batch_size=true", "--run.find_lr=true", "--trainer.accumulate_grad_batches=2"]
    fit(squares, *both, epochs=2)
    said = capsys.readouterr()
    assert not said.err
    assert "batch size: 5 (--data.batch_size)\n" in said.out
    assert content()["datamodule_hyper_parameters"]["batch_size"] == 5
    typed = re.search(r"learning rate: (.*)\n", said.out)[1].split()
    fit(squares, "--data.batch_size=5", *typed, "--trainer.accumulate_grad_batches=2", epochs=2)
    assert_equal(content(), content("runs/version_1/last.ckpt"))
    assert {path.name for path in Path("runs").iterdir()} == {"version_0", "version_1"}
    resume("--trainer.max_epochs=3")
    assert content("runs/version_2/last.ckpt")["datamodule_hyper_parameters"]["batch_size"] == 5


# folders, loggers, callbacks, ends


def test_early_stopping_says_so(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model.lr=1e-30", "--model.freeze=[encoder, decoder]", "--run.folder=mine", "--run.tensorboard=true"]
    fit(squares, *options, "--run.early_stopping=1", "--run.pictures=1", epochs=5)
    assert "ended early, after epoch 2: val_iou had not been better for 1 validation\n" in capsys.readouterr().out
    names = {path.name for path in Path("mine/version_0").iterdir()}
    assert names >= {"best.ckpt", "last.ckpt", "metrics.csv", "config.yaml", "pictures"}
    assert any(name.startswith("events") for name in names)
    assert not Path("runs").exists()
    resume("--run.early_stopping=3", path="mine/version_0/last.ckpt")  # what is typed wins
    assert "after epoch 4: val_iou had not been better for 3 validations\n" in capsys.readouterr().out
    assert Path("mine/version_1/last.ckpt").is_file()


@pytest.mark.slow
def test_loggers_callbacks_and_trials(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares, "--trainer.logger=false", "--run.folder=mine")
    assert {path.name for path in Path("mine").iterdir()} >= {"best.ckpt", "last.ckpt"}
    fit(squares, "--trainer.fast_dev_run=true", "--run.find_lr=true", "--run.find_batch_size=true")
    assert not Path("runs").exists()
    capsys.readouterr()
    callbacks = "[pytorch_lightning.callbacks.ModelCheckpoint, pytorch_lightning.callbacks.Timer]"
    fit(squares, f"--trainer.callbacks={callbacks}")
    said = capsys.readouterr()
    assert f"checkpoint: {BEST}\n" in said.out  # not the other's
    assert "hint: no config.yaml was written: " in said.out  # jsonargparse can't write a Timer's options
    assert not said.err
    assert list(Path("runs/version_0/checkpoints").iterdir())
    fit(squares, "--trainer.max_epochs=0")
    assert "no epoch was run" in capsys.readouterr().out
    fit(squares, "--trainer.enable_checkpointing=false")
    assert not list(Path("runs/version_2").glob("*.ckpt"))


def test_a_truncated_checkpoint_is_explained(squares: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(squares)
    whole = Path(LAST).read_bytes()
    for length in (0, 100, len(whole) // 2):
        Path(LAST).write_bytes(whole[:length])
        assert f"{LAST} is not a checkpoint, or is damaged" in failure(capsys, ["fit", f"--ckpt_path={LAST}"])
    assert figure(table(capsys, BEST)) > 0


@pytest.mark.slow
def test_two_runs_at_a_time_have_folders_of_their_own(squares: Path, tmp_path: Path) -> None:
    args = command(squares, epochs=2)
    processes = [_CONTEXT.Process(target=run_elsewhere, args=(args, tmp_path, None)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    for number in range(3):
        names = {path.name for path in Path(f"runs/version_{number}").iterdir()}
        assert names >= {"best.ckpt", "last.ckpt", "metrics.csv", "config.yaml"}
        assert [row["epoch"] for row in metrics(f"runs/version_{number}")] == ["0", "1"]
