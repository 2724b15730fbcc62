"""What is in the files: read by the formats' own libraries, computed without this package's code."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from prediction_jobs import CLASSES, make_task

from unetseg import Predictor
from unetseg.errors import OptionError
from unetseg.export import Exported, export
from unetseg.inference.runtimes import import_onnxruntime, import_openvino

pytestmark = pytest.mark.slow

SIZES = [(33, 47), (64, 35), (1, 2), (9, 16)]


@pytest.fixture(scope="module")
def exported(predictors: dict[str, Predictor], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An ONNX file that several tests look at."""
    return export(predictors["multiclass"], tmp_path_factory.mktemp("exported") / "model.onnx")


def session_of(path: Path):
    return import_onnxruntime().InferenceSession(path, providers=["CPUExecutionProvider"])


def image_of(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).random((2, 3, *size), dtype=np.float32)


def test_onnx_has_one_input_of_any_size_and_one_output(exported: Exported) -> None:
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import if one.domain == ""] == [("", 18)]
    shapes = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"image": ["batch", 3, "height", "width"], "logits": ["batch", 3, "height", "width"]}
    types = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert types == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("size", SIZES)
def test_onnx_runtime_gives_the_logits_of_the_network(
    size: tuple[int, int], exported: Exported, predictor: Predictor
) -> None:
    (logits,) = session_of(exported.path).run(None, {"image": image_of(size)})
    with torch.no_grad():
        expected = predictor.network(torch.from_numpy(image_of(size))).numpy()
    np.testing.assert_allclose(logits, expected, atol=2e-5, rtol=1e-4)


def test_onnx_carries_names_colours_and_preprocessing(exported: Exported) -> None:
    said = json.loads(session_of(exported.path).get_modelmeta().custom_metadata_map["unetseg"])
    assert (said["classes"], said["format"], said["opset"]) == (["ground", "road", "water"], "onnx", 18)
    assert said["preprocessing"]["std"] == pytest.approx([0.229, 0.224, 0.225])
    assert [len(color) for color in said["colors"]] == [3, 3, 3]


def test_onnx_crops_by_slices_and_names_no_code(exported: Exported) -> None:
    graph = onnx.load(exported.path).graph
    assert [node.name for node in graph.node if node.op_type == "Pad"] == []
    assert sum(node.op_type == "ConvTranspose" for node in graph.node) == 3
    content = exported.path.read_bytes()
    assert not re.search(rb"\.py\b|unetseg/nn|stack_trace", content)
    assert not [node for node in graph.node if node.metadata_props or node.doc_string]


@pytest.mark.parametrize("mode", CLASSES)
def test_onnx_decides_as_the_predictor(mode: str, predictors: dict[str, Predictor], tmp_path: Path) -> None:
    path = export(predictors[mode], tmp_path / "model.onnx", argmax=True).path
    session = session_of(path)
    assert [output.name for output in session.get_outputs()] == ["classes"]
    image = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    (classes,) = session.run(None, {"image": image.transpose(2, 0, 1)[None].astype(np.float32) / 255})
    expected = predictors[mode](image)
    assert (classes[0].shape, classes.dtype) == (expected.shape, np.uint8)
    assert (classes[0] != expected).mean() < 1e-3


def test_onnx_in_half_precision(predictor: Predictor, exported: Exported, tmp_path: Path) -> None:
    half = export(predictor, tmp_path / "half.onnx", precision="16-true")
    assert half.file_bytes < 0.6 * exported.file_bytes
    kinds = {numpy_helper.to_array(one).dtype for one in onnx.load(half.path).graph.initializer if len(one.dims) == 4}
    # those that an image is normalised by stay in float32
    assert np.dtype(np.float16) in kinds
    (logits,) = session_of(half.path).run(None, {"image": image_of((33, 47))})
    assert logits.dtype == np.float32


def test_onnx_of_one_size(predictor: Predictor, tmp_path: Path) -> None:
    exported = export(predictor, tmp_path / "model.onnx", size=(41, 35))
    assert session_of(exported.path).get_inputs()[0].shape == [1, 3, 41, 35]
    assert len(exported.checks) == 3


def test_another_opset(predictor: Predictor, tmp_path: Path) -> None:
    exported = export(predictor, tmp_path / "model.onnx", opset=20)
    assert [one.version for one in onnx.load(exported.path).opset_import if one.domain == ""] == [20]
    assert exported.opset == 20


@pytest.mark.parametrize("opset", [9, 99])
def test_an_opset_that_cannot_be_written(opset: int, predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=rf"opset {opset}.* Use --opset 18"):
        export(predictor, tmp_path / "model.onnx", opset=opset)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["32-true", "16-true"])
def test_openvino_gives_the_logits_of_the_network(precision: str, predictor: Predictor, tmp_path: Path) -> None:
    exported = export(predictor, tmp_path / "model.xml", precision=precision)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    assert exported.file_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert exported.file_bytes < (4e6 if precision == "32-true" else 2e6)
    openvino = import_openvino()
    model = openvino.Core().read_model(exported.path)
    said = json.loads(model.get_rt_info(["unetseg", "description"]).astype(str))
    assert (said["classes"], said["opset"], said["precision"]) == (["ground", "road", "water"], None, precision)
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for size in SIZES:
        with torch.no_grad():
            expected = predictor.network(torch.from_numpy(image_of(size))).numpy()
        tolerance = (1e-4 if precision == "32-true" else 3e-2) * np.abs(expected).max()
        np.testing.assert_allclose(compiled([image_of(size)])[0], expected, atol=tolerance)


@pytest.mark.parametrize("channels", [1, 5])
def test_channels_that_are_no_colours(channels: int, tmp_path: Path) -> None:
    predictor = Predictor(make_task(in_channels=channels).model, CLASSES["multiclass"], device="cpu")
    path = export(predictor, tmp_path / "model.onnx").path
    assert session_of(path).get_inputs()[0].shape[1] == channels
