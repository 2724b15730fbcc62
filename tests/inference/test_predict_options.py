"""Options of the command reach what they are about; mistakes in them are one line."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from prediction_jobs import make_task, pixels, predict, save, write_image

from unetseg import Predictor
from unetseg.__main__ import main
from unetseg.errors import OptionError

# A pixel's two largest logits, or one and 0, may change places where they are nearer than this share of all logits'
# standard deviation. Measured here: 0.15 in bfloat16, whose numbers have 8 bits, and 0.013 in float16, whose have 11.
NEAR = {"bf16-mixed": 0.2, "16-mixed": 0.025}


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.asarray(Image.open(path)) for path in folder.glob("[!_]*.png")}


def test_batches_of_mixed_sizes(tmp_path: Path, checkpoint: Path) -> None:
    sizes = [(33, 41), (33, 41), (33, 41), (41, 33), (33, 41), (33, 41), (70, 9), (70, 9), (70, 9), (70, 9), (70, 9)]
    for number, size in enumerate(sizes):
        path = write_image(tmp_path / "in" / f"{number:02}.png", *size)
        Image.fromarray(np.roll(pixels(*size), number, axis=0)).save(path)
    for batch_size in (1, 4):
        assert predict(tmp_path / "in", checkpoint, tmp_path / f"{batch_size}", f"--batch_size={batch_size}") == 0
    alone, together = masks(tmp_path / "1"), masks(tmp_path / "4")
    assert list(alone) == list(together)
    predictor = Predictor.from_checkpoint(checkpoint, device="cpu")
    for number, size in enumerate(sizes):
        (prediction,) = predictor.predict([np.roll(pixels(*size), number, axis=0)], probabilities=True)
        np.testing.assert_array_equal(alone[f"{number:02}"], prediction.classes)
        second, best = np.sort(prediction.probabilities, axis=0)[-2:]
        clear = best - second > 1e-5
        assert clear.mean() > 0.99
        np.testing.assert_array_equal(together[f"{number:02}"][clear], prediction.classes[clear])


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--tta=flips"], {"tta": "flips"}),
        (["--tta=scales", "--num_workers=1"], {"tta": "scales"}),
        (["--tile=64", "--overlap=8", "--batch_size=3"], {"tile": 64, "overlap": 8, "batch_size": 3}),
        (["--tile=64", "--overlap=24", "--blend=none"], {"tile": 64, "overlap": 24, "blend": "none"}),
        (["--tile=64", "--overlap=24", "--blend=linear"], {"tile": 64, "overlap": 24, "blend": "linear"}),
        (["--trainer.precision=bf16-mixed"], {"precision": "bf16-mixed"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_are_the_predictors(
    tmp_path: Path, checkpoint: Path, arguments: list[str], options: dict[str, Any]
) -> None:
    path = write_image(tmp_path / "a.png", 101, 115)
    assert predict(path, checkpoint, tmp_path / "out", *arguments) == 0
    (mask,) = masks(tmp_path / "out").values()
    image = pixels(101, 115)
    np.testing.assert_array_equal(mask, Predictor.from_checkpoint(checkpoint, device="cpu", **options)(image))
    assert (mask != Predictor.from_checkpoint(checkpoint, device="cpu")(image)).any()
    others = {"tta": "d4", "overlap": 16, "blend": "gaussian"}
    for name in others.keys() & options.keys():
        other = Predictor.from_checkpoint(checkpoint, device="cpu", **(options | {name: others[name]}))
        assert (mask != other(image)).any(), name


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--tile 0", 2, r"--tile: '0' is no size in pixels, such as 1024, nor auto or none"),
        ("--tile 1e3", 2, r"--tile: '1e3' is no size in pixels"),
        ("--tile 24", 1, r"tile is 24; this network needs at least 32, such as 1024"),
        ("--overlap x", 2, r"--overlap: invalid int value: 'x'"),
        ("--overlap -1", 1, r"overlap is -1; it must be at least 0"),
        ("--overlap 700", 1, r"overlap is 700 \(rounded up to 704\) and tile is 1024; .* 408 here"),
        ("--blend soft", 2, r"--blend: invalid choice: 'soft' \(choose from .*gaussian.*linear.*none"),
        ("--tta all", 2, r"--tta: invalid choice: 'all' \(choose from .*none.*flips.*d4.*scales"),
        ("--batch_size 0", 2, r"--batch_size: '0' is no whole number from 1 on"),
        ("--num_workers -1", 2, r"--num_workers: '-1' is no whole number from 1 on"),
        (
            "--save masks",
            2,
            r"--save: 'masks' can't be saved; it can be any of mask, overlay, prob.*, polygons, shares",
        ),
        ("--save ,", 2, r"--save: nothing would be saved; give any of mask"),
        ("--trainer.precision 64", 2, r"--trainer.precision: invalid choice: '64' \(choose from .*32-true.*bf16"),
        ("--trainer.accelerator abacus", 1, r"accelerator='abacus'.* Available names are: auto, .*cpu"),
        ("--trainer.devices two", 2, r"'two' is no number of processes, such as 2, nor devices, such as 0,2"),
        ("--trainer.devices 0", 2, r"'0' is no number of processes"),
        ("--trainer.devices 1.5", 2, r"'1.5' is no number of processes"),
        ("--trainer.devices 0,1 --trainer.accelerator cpu", 1, r"`CPUAccelerator` should be an int > 0"),
        ("--trainer.num_nodes 0", 2, r"--trainer.num_nodes: '0' is no whole number from 1 on"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], options: str, code: int, message: str
) -> None:
    path = write_image(tmp_path / "a.png")
    argv = ["predict", str(path), f"--ckpt_path={checkpoint}", f"--output={tmp_path / 'out'}", *options.split()]
    try:
        ended = main(argv)
    except SystemExit as error:
        ended = error.code
    said = capsys.readouterr().err
    assert ended == code
    assert re.search(message, said), said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def check_lower_precision(checkpoint: Path, precision: str, device: str) -> None:
    """Compare with float32 on the CPU: the largest margin that is decided otherwise is small."""
    exact = Predictor.from_checkpoint(checkpoint, device="cpu")
    rough = Predictor.from_checkpoint(checkpoint, device=device, precision=precision)
    worst = 0.0
    for size in ((101, 115), (33, 60)):
        image = pixels(*size)
        logits = exact.logits(image).numpy()
        if exact.mode == "multiclass":
            second, best = np.sort(logits, axis=0)[-2:]
            margins = best - second
        else:
            margins = np.abs(logits if exact.mode == "multilabel" else logits[0])
        margins = margins / logits.std()
        changed = exact(image) != rough(image)
        assert not np.array_equal(rough.logits(image).cpu().numpy(), logits)  # or nothing would be compared
        worst = max(worst, float(margins[changed].max(initial=0)))
        assert changed.mean() < 0.05
    assert worst < NEAR[precision]


@pytest.mark.parametrize(
    ("mode", "precision"),
    [("multiclass", "bf16-mixed"), ("binary", "bf16-mixed"), ("multilabel", "bf16-mixed"), ("multiclass", "16-mixed")],
)
def test_lower_precision_decides_otherwise_where_two_classes_are_near(
    checkpoints: dict[str, Path], mode: str, precision: str
) -> None:
    check_lower_precision(checkpoints[mode], precision, "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_lower_precision_on_a_gpu(checkpoints: dict[str, Path], mode: str, precision: str) -> None:
    check_lower_precision(checkpoints[mode], precision, "cuda")


def test_float16_that_overflows_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = make_task()
    with torch.no_grad():
        (*_, last) = (module for module in task.model.head.modules() if isinstance(module, torch.nn.Conv2d))
        last.weight *= 1e6
    checkpoint, path = save(task, tmp_path / "large.ckpt"), write_image(tmp_path / "a.png")
    with pytest.raises(OptionError, match="float16 overflows in this network; use precision bf16-mixed or 32-true"):
        predict(path, checkpoint, tmp_path / "out", "--trainer.precision=16-mixed")
    assert predict(path, checkpoint, tmp_path / "out", "--trainer.precision=bf16-mixed") == 0
