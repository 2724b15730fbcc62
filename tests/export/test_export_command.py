"""The verb export, and predict --model: what they say, what they write, what they refuse."""

import re
from pathlib import Path

import pytest
from prediction_jobs import files, write_image, write_raster
from prediction_jobs import pixels as pixels_of

from unetseg.__main__ import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, size in enumerate([(33, 47), (64, 35), (71, 66)]):
        write_image(tmp_path / "photos" / f"{number}.png", *size)
    return tmp_path / "photos"


def ended(words: list[str]) -> object:
    """The exit code of a command, whether it returns or exits."""
    try:
        return main(words)
    except SystemExit as error:
        return error.code


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_a_checkpoint_becomes_a_file_that_predicts_the_same(
    name: str, checkpoints: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_raster(photos / "scene.tif", pixels_of(90, 75))
    checkpoint, model = checkpoints["multiclass"], tmp_path / name
    assert main(["export", f"--ckpt_path={checkpoint}", f"--output={model}"]) == 0
    *rows, summary, proof = capsys.readouterr().out.splitlines()
    assert rows[0].split() == ["batch", "x", "size", "largest", "logit", "difference"]
    assert len(rows) == 10
    assert all(re.fullmatch(r" +[123] x \d+x\d+ +\d+\.\d{3} +\d\.\d\de[+-]\d\d", row) for row in rows[1:])
    assert re.fullmatch(
        rf"{re.escape(str(model))}: 3\.\d MB.*; takes any batch, height and width.*; gives logits", summary
    )
    assert re.fullmatch(
        r"verified at 9 sizes: largest difference .*e-0\d of the largest logit \(0\.0001 allowed\)", proof
    )
    for options in (
        ["--save=mask,overlay,polygons,shares"],
        ["--tile=40", "--overlap=8", "--tta=d4", "--skip_existing"],
    ):
        written = []
        for network in (f"--model={model}", f"--ckpt_path={checkpoint}"):
            output = tmp_path / network.split("=")[0] / str(len(options))
            assert (
                main(["predict", str(photos), network, f"--output={output}", *options, "--trainer.accelerator=cpu"])
                == 0
            )
            written.append(files(output))
        assert "4 of 4 images predicted" in capsys.readouterr().out
        assert written[0].keys() == written[1].keys()
        masks = [path for path in written[0] if path.endswith(".png")]
        assert {path: written[0][path] for path in masks} == {path: written[1][path] for path in masks}


@pytest.mark.slow
def test_what_is_asked_for_is_written(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--argmax", "--size", "61", "47", "--precision=16-true", "--opset=20"]
    model = tmp_path / "model.onnx"
    assert main(["export", f"--ckpt_path={checkpoints['multiclass']}", f"--output={model}", *options]) == 0
    said = capsys.readouterr().out
    assert "MB, opset 20; takes one image of 47x61; gives classes\n" in said
    assert "verified at 3 sizes: no class differs where logits aren't as close as rounding\n" in said
    photos = write_image(tmp_path / "in" / "a.png", 61, 47).parent
    write_image(photos / "b.png", 62, 47)
    output = f"--output={tmp_path / 'out'}"
    assert main(["predict", str(photos), f"--model={model}", output]) == 1
    captured = capsys.readouterr()
    assert "1 of 2 images predicted" in captured.out
    assert (
        "b.png: an image of 47x62 pixels isn't of the size that this network was exported for, 47x61;" in captured.err
    )
    assert main(["predict", str(photos), f"--model={model}", output, "--save=probabilities"]) == 1
    assert "probabilities can't be had from this network: it was exported with --argmax" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--output=m.onnx"], 2, "the following arguments are required: --ckpt_path"),
        (["--ckpt_path=nowhere.ckpt", "--output=m.onnx"], 1, "there is no checkpoint file nowhere.ckpt"),
        (
            ["--ckpt_path={checkpoint}", "--output=m"],
            1,
            "m has no suffix that says a format: .onnx (onnx), .pt2 (torch)",
        ),
        (["--ckpt_path={checkpoint}", "--output=m.onnx", "--format=torch"], 1, "of format 'torch' ends in .pt2"),
        (["--ckpt_path={checkpoint}", "--output=."], 1, "--output . is a folder; give a file, such as model.onnx"),
        (["--ckpt_path={checkpoint}", "--output=m.onnx", "--size", "0", "9"], 2, "'0' is no whole number from 1 on"),
        (["--ckpt_path={checkpoint}", "--output=m.onnx", "--precision=8"], 2, "choose from '32-true', '16-true'"),
    ],
)
def test_mistakes_are_explained(
    args: list[str],
    code: int,
    message: str,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.format(checkpoint=checkpoints["multiclass"]) for word in args]
    assert ended(["export", *words]) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--model=m.onnx", "--ckpt_path=best.ckpt"], 2, "not allowed with argument"),
        (["--model=m.onnx", "--trainer.devices=2"], 1, "--trainer.devices is for a checkpoint (--ckpt_path);"),
        (["--model=m.onnx", "--trainer.precision=bf16-mixed"], 1, "--trainer.precision is for a checkpoint"),
        (["--model=m.onnx"], 1, "there is no file m.onnx. `python -m unetseg export` writes such files."),
        (["--model=best.ckpt"], 1, "best.ckpt is no exported network; these end in .onnx, .pt2, .xml"),
    ],
)
def test_mistakes_about_a_model_are_explained(
    args: list[str], code: int, message: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(["predict", str(photos), "--output=out", *args]) == code
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
