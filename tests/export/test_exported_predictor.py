"""Prediction by an exported network gives what prediction by its checkpoint gives."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from prediction_jobs import CLASSES, Computed, pixels

from unetseg import Predictor
from unetseg.errors import CheckpointError, ImageError, OptionError
from unetseg.export import export
from unetseg.inference import exported
from unetseg.inference.description import ModelDescription
from unetseg.inference.exported import ExportedPredictor

Open = Callable[..., ExportedPredictor]

OPTIONS = [
    pytest.param({}, id="whole"),
    pytest.param({"tile": 32, "overlap": 8}, id="tiles"),
    pytest.param({"tile": 32, "batch_size": 3, "blend": "none"}, id="batches of tiles"),
    pytest.param({"tta": "flips"}, id="flips"),
    pytest.param({"tta": "d4", "tile": 40}, id="d4 of tiles"),
    pytest.param({"tta": "scales"}, id="scales"),
]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a file that holds a predictor's network, whose runtime is torch itself."""

    def open_(predictor: Predictor, description: dict | None = None, **options: object) -> ExportedPredictor:
        def compute(batch: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                logits = predictor.network(torch.from_numpy(batch))
            classes = logits.argmax(1).to(torch.uint8)
            return (classes if runtime.description.output == "classes" else logits).numpy()

        runtime = Computed(compute, replace(predictor.description, pixel_bytes=1.0, **(description or {})))
        monkeypatch.setattr(exported, "open_runtime", lambda *args, **options: runtime)
        return ExportedPredictor("model.onnx", **options)

    return open_


def assert_same(own: ExportedPredictor, expected: Predictor, image: np.ndarray) -> None:
    (prediction,) = own.predict([image], probabilities=True)
    (wanted,) = expected.predict([image], probabilities=True)
    assert (prediction.classes.shape, prediction.classes.dtype) == (wanted.classes.shape, np.uint8)
    assert prediction.probabilities.dtype == np.float32
    np.testing.assert_allclose(prediction.probabilities, wanted.probabilities, atol=1e-5)
    assert (prediction.classes != wanted.classes).mean() < 1e-3
    assert len(np.unique(wanted.classes)) > 1
    np.testing.assert_array_equal(own(image), prediction.classes)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("mode", CLASSES)
def test_the_same_masks(
    mode: str, options: dict, predictors: dict[str, Predictor], checkpoints: dict[str, Path], opened: Open
) -> None:
    expected = Predictor.from_checkpoint(checkpoints[mode], device="cpu", **options)
    assert_same(opened(predictors[mode], **options), expected, pixels(61, 75))


def test_float_images_and_batches_are_taken(predictor: Predictor, opened: Open) -> None:
    image = pixels(33, 47)
    own = opened(predictor)
    floats = image.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(own(floats), own(image))
    both = own.predict([image, image[::-1]])
    np.testing.assert_array_equal(both[1].classes, own(image[::-1]))


def test_images_too_small_or_of_another_size_are_refused(predictor: Predictor, opened: Open) -> None:
    with pytest.raises(ImageError, match="an image of 40x8 pixels is too small for this network, which takes 9x9"):
        opened(predictor, {"min_size": 9})(pixels(8, 40))
    own = opened(predictor, {"size": (33, 47)})
    assert own(pixels(33, 47)).shape == (33, 47)
    with pytest.raises(ImageError, match="47x34 pixels isn't of the size that this network was exported for, 47x33;"):
        own(pixels(34, 47))


def test_a_network_of_one_size_takes_one_image_at_a_time(predictor: Predictor, opened: Open) -> None:
    own = opened(predictor, {"size": (33, 47)}, batch_size=3, tta="flips")
    seen = []
    compute = own.runtime.compute
    own.runtime.compute = lambda batch: seen.append(batch.shape) or compute(batch)
    assert len(own.predict([pixels(33, 47)] * 3)) == 3
    assert set(seen) == {(1, 3, 33, 47)}


@pytest.mark.parametrize(
    ("description", "options", "message"),
    [
        ({"output": "classes"}, {"tile": 64}, r"a tile size can't be had .* exported with --argmax"),
        ({"output": "classes"}, {"tta": "flips"}, r"test-time augmentation can't be had .* exported with --argmax"),
        ({"size": (33, 47)}, {"tile": 64}, r"a tile size needs a network .* exported with --size 33 47"),
        ({"size": (33, 47)}, {"tta": "d4"}, r"tta 'd4' needs a network .* exported with --size 33 47"),
        ({"size": (32, 32)}, {"tta": "scales"}, r"tta 'scales' needs a network"),
        ({}, {"tile": 0}, r"tile is 0; it must be a whole number from 1 on"),
        ({}, {"tta": "rotations"}, r"tta is 'rotations'"),
    ],
)
def test_what_such_a_network_cannot_do_is_refused(
    description: dict, options: dict, message: str, predictor: Predictor, opened: Open
) -> None:
    with pytest.raises(OptionError, match=message):
        opened(predictor, description, **options)


def test_what_is_possible_all_the_same(predictor: Predictor, opened: Open) -> None:
    square = opened(predictor, {"size": (32, 32)}, tta="d4")
    assert square(pixels(32, 32)).shape == (32, 32)
    classes = opened(predictor, {"output": "classes"})
    np.testing.assert_array_equal(classes(pixels(33, 47)), predictor(pixels(33, 47)))
    with pytest.raises(OptionError, match=r"probabilities can't be had"):
        classes.predict([pixels(33, 47)], probabilities=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "best.ckpt",
            r"best\.ckpt is no exported network; these end in \.onnx, \.pt2, \.xml\. A check.*--ckpt_path",
        ),
        ("nowhere.onnx", r"there is no file nowhere\.onnx"),
    ],
)
def test_other_files_are_refused(name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ExportedPredictor(name)


def test_an_unknown_accelerator_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(OptionError, match="accelerator 'tpu' is unknown; an exported network takes auto, cpu or gpu"):
        ExportedPredictor(tmp_path / "model.onnx", accelerator="tpu")


@pytest.mark.parametrize("name", ["m.onnx", "m.pt2", "m.xml"])
@pytest.mark.parametrize("content", [b"", b"not a network", bytes(range(256)) * 8], ids=["empty", "text", "noise"])
@pytest.mark.slow
def test_damaged_files_are_explained(
    name: str, content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} is no exported network, or is damaged: .+ Export the check"):
        ExportedPredictor(tmp_path / name, accelerator="cpu")
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "mode"), [*(("onnx", mode) for mode in CLASSES), ("pt2", "binary"), ("xml", "binary")]
)
def test_every_runtime_gives_the_same(
    suffix: str, mode: str, predictors: dict[str, Predictor], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    path = export(predictors[mode], tmp_path / f"model.{suffix}").path
    for options in ({}, {"tile": 32, "overlap": 8, "batch_size": 2}, {"tta": "d4"}):
        expected = Predictor.from_checkpoint(checkpoints[mode], device="cpu", **options)
        assert_same(ExportedPredictor(path, accelerator="cpu", threads=1, **options), expected, pixels(61, 75))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["onnx", "xml"])
def test_a_file_cut_short_is_explained(suffix: str, predictor: Predictor, tmp_path: Path) -> None:
    path = export(predictor, tmp_path / f"model.{suffix}").path
    cut = path.with_suffix(".bin") if suffix == "xml" else path
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="is damaged"):
        ExportedPredictor(path, accelerator="cpu")


def test_a_description_comes_back_from_its_text() -> None:
    description = ModelDescription(
        ("sky", "Straße"), "multilabel", 5, 10_000.0, ((0, 0, 0), (1, 2, 3)), 33, 32, "classes", (64, 96), 12.5
    )
    assert ModelDescription.from_json(description.to_json(opset=18), "m.onnx") == description


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"m\.onnx doesn't say what its classes are: it wasn't written by `python -m unetseg export`"),
        ("{", r"m\.onnx: what it says of itself can't be read \(JSONDecodeError"),
        ('{"version": 2}', r"whose description has the form 2; this one reads 1"),
        ('{"version": 1, "classes": ["a"]}', r"can't be read \(KeyError: 'mode'\)"),
        (
            '{"version": 1, "classes": ["a"], "mode": "none"}',
            r"can't be read \(ValueError: 'none' is none of multi",
        ),
    ],
)
def test_descriptions_that_are_none_are_refused(text: str | None, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        ModelDescription.from_json(text, "m.onnx")
