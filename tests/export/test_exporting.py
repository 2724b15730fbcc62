"""An export is compared before it appears: what is in the file, and what is left where something is wrong.

These export for torch, which takes the least time; other formats are tested in test_formats.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unetseg import Predictor, UNet
from unetseg.errors import ExportError, OptionError
from unetseg.export import Exported, export, formats
from unetseg.inference.exported import ExportedPredictor

SIZES = [(33, 47), (64, 35), (9, 16)]


@pytest.fixture(scope="module")
def exported(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A file that several tests look at."""
    predictor = Predictor.from_checkpoint(checkpoints["multiclass"], device="cpu")
    return export(predictor, tmp_path_factory.mktemp("exported") / "model.pt2")


def image_of(size: tuple[int, int]) -> Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def metadata(path: Path) -> dict:
    files = {"unetseg": ""}
    torch.export.load(path, extra_files=files)
    return json.loads(files["unetseg"])


def test_the_file_gives_the_logits_of_the_network(predictor: Predictor, exported: Exported) -> None:
    module = torch.export.load(exported.path).module()
    for size in SIZES:
        logits = module(image_of(size))
        assert logits.dtype == torch.float32
        with torch.no_grad():
            torch.testing.assert_close(logits, predictor.network(image_of(size)), atol=1e-5, rtol=1e-4)
    assert exported.file_bytes == exported.path.stat().st_size
    assert (exported.opset, exported.description.min_size) == (None, 9)
    assert [check.size for check in exported.checks][-1] == (9, 10)
    assert list(exported.path.parent.iterdir()) == [exported.path]


def test_it_says_what_it_takes_and_gives(exported: Exported) -> None:
    said = metadata(exported.path)
    assert said["classes"] == ["ground", "road", "water"]
    assert len(said["colors"]) == 3
    assert {name: said[name] for name in ("mode", "output", "in_channels", "format", "precision", "size")} == {
        "mode": "multiclass",
        "output": "logits",
        "in_channels": 3,
        "format": "torch",
        "precision": "32-true",
        "size": None,
    }
    shown = said["preprocessing"]
    assert (shown["layout"], shown["dtype"], shown["range"], shown["channels"]) == ("NCHW", "float32", [0, 1], "RGB")
    assert shown["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert set(said["written_by"]) == {"unetseg", "torch"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_classes_are_those_of_the_predictor(mode: str, predictors: dict[str, Predictor], tmp_path: Path) -> None:
    exported = export(predictors[mode], tmp_path / "model.pt2", argmax=True)
    assert exported.description.output == "classes"
    assert exported.worst.difference == 0
    assert exported.worst.agrees(exported.tolerance)
    image = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    classes = ExportedPredictor(exported.path, accelerator="cpu")(image)
    expected = predictors[mode](image)
    assert (classes.shape, classes.dtype) == (expected.shape, np.uint8)
    assert (classes != expected).mean() < 1e-3


@pytest.mark.slow
def test_half_precision_halves_the_file(predictor: Predictor, tmp_path: Path) -> None:
    whole, half = (
        export(predictor, tmp_path / f"{precision}.pt2", precision=precision) for precision in ("32-true", "16-true")
    )
    assert half.file_bytes < 0.6 * whole.file_bytes
    program = torch.export.load(half.path)
    weights = [value for name, value in program.state_dict.items() if name.endswith("weight")]
    assert {value.dtype for value in weights} == {torch.float16}
    assert program.module()(image_of((16, 24))).dtype == torch.float32
    assert 0 < half.worst.difference <= half.tolerance * half.worst.scale
    assert next(predictor.network.parameters()).dtype == torch.float32  # the predictor is as it was


@pytest.mark.slow
def test_one_size_is_one_size(predictor: Predictor, tmp_path: Path) -> None:
    exported = export(predictor, tmp_path / "model.pt2", size=(41, 35))
    assert [(check.batch, check.size) for check in exported.checks] == [(1, (41, 35))] * 3
    module = torch.export.load(exported.path).module()
    assert module(image_of((41, 35))[:1]).shape == (1, 3, 41, 35)
    with pytest.raises((AssertionError, RuntimeError)):
        module(image_of((41, 36))[:1])


def test_weights_that_are_not_used_stay_out(exported: Exported) -> None:
    """Of an encoder of five stages, this decoder takes three."""
    used = {name for name in torch.export.load(exported.path).state_dict if "encoder" in name}
    assert not [name for name in used if "layer3" in name or "layer4" in name]
    assert [name for name in used if "layer2" in name]
    assert exported.file_bytes < 4e6


def test_the_file_names_no_code(exported: Exported) -> None:
    with zipfile.ZipFile(exported.path) as file:
        content = b"".join(file.read(name) for name in file.namelist())
    assert b".py" not in content


class Liar(nn.Module):
    """A head whose graph isn't what it computes: at even widths it differs."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        logits = self.head(x, size=size)
        return logits + 0.01 * (1 - logits.shape[-1] % 2) if torch.compiler.is_exporting() else logits


@pytest.fixture
def liar() -> Predictor:
    torch.manual_seed(0)
    model = UNet(classes=2, encoder_depth=3, decoder_channels=(16, 8, 8))
    predictor = Predictor(model, ["no", "yes"], device="cpu")
    predictor.network.head = Liar(predictor.network.head)
    return predictor


def test_a_file_that_differs_is_not_kept_and_one_that_was_there_is(liar: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_text("an earlier export")
    told = []
    message = r"was not kept: \d of 9 comparisons failed: at 24x16 logits differ by 0.01, of"
    with pytest.raises(ExportError, match=message):
        export(liar, path, on_check=told.append)
    assert {check.size[1] % 2 for check in told if not check.agrees(1e-4)} == {0}
    assert path.read_text() == "an earlier export"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_what_a_killed_run_left_is_cleared_away(predictor: Predictor, tmp_path: Path) -> None:
    left = tmp_path / ".model.pt2.part"
    left.mkdir()
    (left / "model.pt2").write_text("half a file")
    path = export(predictor, tmp_path / "model.pt2").path
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("model", {}, r"model has no suffix that says a format: \.onnx \(onnx\), \.pt2 \(torch\), \.xml \(openvino\)"),
        ("model.tflite", {}, r"has no suffix that says a format"),
        ("model.onnx", {"file_format": "torch"}, r"a file of format 'torch' ends in \.pt2"),
        ("model.pt2", {"file_format": "tensorrt"}, r"format is 'tensorrt'"),
        ("model.pt2", {"precision": "bf16-true"}, r"precision is 'bf16-true'"),
    ],
)
def test_requests_that_do_not_go_together_are_refused(
    name: str, options: dict, message: str, predictor: Predictor, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        export(predictor, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_size_below_the_least_is_refused(tmp_path: Path) -> None:
    predictor = Predictor(UNet("vgg11", classes=2), ["a", "b"], device="cpu")
    with pytest.raises(OptionError, match="size is 64 31; this network takes images of 32x32 and more"):
        export(predictor, tmp_path / "model.pt2", size=(64, 31))


@pytest.mark.parametrize(("name", "extra"), [("model.onnx", "onnx"), ("model.xml", "openvino")])
def test_a_missing_package_says_how_to_install_it(
    name: str, extra: str, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        OptionError, match=rf"needs onnxscript, .*, which isn't installed: pip install -e '\.\[{extra}\]'"
    ):
        export(predictor, tmp_path / name)


@pytest.mark.slow
def test_what_the_exporters_say_is_left_out(
    predictor: Predictor, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export(predictor, tmp_path / "model.pt2")
    assert capfd.readouterr() == ("", "")
