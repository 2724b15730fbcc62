"""The shape of the package: imports go down the layers, and public names are the ones listed here."""

import ast
import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

import unetseg

PACKAGE = Path(unetseg.__file__).parent
MODULES = {
    ".".join(["unetseg", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}

# a module may import from its own layer and those above it in this list
LAYERS = [
    ["unetseg.errors", "unetseg.geometry", "unetseg.config", "unetseg.atomic", "unetseg.warning_filters"],
    ["unetseg.nn"],
    ["unetseg.encoders", "unetseg.model", "unetseg.decision"],
    [
        *("unetseg.losses", "unetseg.metrics", "unetseg.optimization", "unetseg.freezing"),
        *("unetseg.checkpoint", "unetseg.transfer", "unetseg.data", "unetseg.drawing", "unetseg.report"),
    ],
    [
        "unetseg.checkpoint_io",
        "unetseg.epoch_mean",
        "unetseg.finite_loss",
        "unetseg.inference",
        "unetseg.optimized_module",
        "unetseg.process_group",
        "unetseg.run_folder",
    ],
    ["unetseg.task", "unetseg.callbacks", "unetseg.export"],
    ["unetseg.run_options", "unetseg.tuning"],
    ["unetseg.resuming"],
    ["unetseg.parser", "unetseg.data_parser", "unetseg.columns", "unetseg.trainer_messages", "unetseg.verb_parser"],
    [
        "unetseg.inference.command",
        "unetseg.inference.job",
        "unetseg.export.command",
        "unetseg.inspection",
        "unetseg.checking",
        "unetseg.packing",
        "unetseg.cli",
    ],
    ["unetseg.__main__", "unetseg"],
]

LIBRARIES = {
    "torch": {
        *("unetseg.errors", "unetseg.geometry", "unetseg.config", "unetseg.atomic", "unetseg.warning_filters"),
        *("unetseg.__main__", "unetseg", "unetseg.drawing"),
    }
    | {name for name in MODULES if name.startswith("unetseg.report")},
    "pytorch_lightning": {
        "unetseg.model",
        "unetseg.checkpoint",
        "unetseg.transfer",
        "unetseg.freezing",
        *(
            name
            for name in MODULES
            if name.startswith(("unetseg.nn", "unetseg.inference", "unetseg.report", "unetseg.encoders"))
            and name != "unetseg.inference.job"
        ),
    },
    "albumentations": set(MODULES) - {"unetseg.data.pipeline"},
    "onnxruntime": set(MODULES) - {"unetseg.inference.runtimes"},
    "openvino": set(MODULES) - {"unetseg.inference.runtimes"},
    "onnx_ir": set(MODULES) - {"unetseg.export.onnx_graph"},
    "matplotlib": set(MODULES) - {"unetseg.inspection.plot", "unetseg.report.curves"},
    "rasterio": set(MODULES)
    - {"unetseg.inference.gdal", "unetseg.inference.raster_writing", "unetseg.inference.polygons"},
    "segmentation_models_pytorch": set(MODULES)
    - {"unetseg.encoders.build", "unetseg.encoders.weights", "unetseg.losses.overlap"},
}

PUBLIC = {
    "unetseg": ["Predictor", "UNet", "__version__"],
    "unetseg.nn": [
        "SCSE",
        "AlignedConvTranspose2d",
        "AttentionGate",
        "AuxiliaryHead",
        "BlurredConvTranspose2d",
        "ConvNormAct",
        "DecoderBlock",
        "InterpolateConv2d",
        "LayerNorm2d",
        "NormAct",
        "PixelShuffleConv2d",
        "SegmentationHead",
        "UNetDecoder",
        "UNetPlusPlusDecoder",
        "Upsampling",
        "balanced_",
        "bilinear_",
        "build_upsample",
        "checkerboard_energy",
        "icnr_",
        "layer_checkerboard_energy",
        "smooth_",
    ],
    "unetseg.losses": ["LossTerms", "SegmentationLoss", "build_loss", "default_terms"],
    "unetseg.geometry": [
        "Rounding",
        "bias_only_rows",
        "ceil_div",
        "classify_rounding",
        "conv_transpose_output_size",
        "filling_kernel",
        "leaves_bias_only_rows",
        "leaves_holes",
        "overlap",
        "plan_padding",
        "reachable_sizes",
        "signed_output_padding",
        "skip_sizes",
    ],
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def layer(module: str) -> int:
    """The layer of the longest name in the list that the module lies under."""
    homes = [(len(name), i) for i, names in enumerate(LAYERS) for name in names if f"{module}.".startswith(f"{name}.")]
    return max(homes)[1]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_the_layers(module: str) -> None:
    inner = {name for name in imports(MODULES[module]) if name.startswith("unetseg.")}
    assert [name for name in inner if layer(name) > layer(module)] == []


def test_task_and_data_do_not_import_each_other() -> None:
    assert not [name for name in imports(MODULES["unetseg.task"]) if name.startswith("unetseg.data")]
    data = [path for name, path in MODULES.items() if name.startswith("unetseg.data")]
    assert not [path for path in data if {"unetseg.task", "unetseg.model", "unetseg.nn"} & imports(path)]


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_stay_where_they_belong(library: str) -> None:
    users = {name for name, path in MODULES.items() for found in imports(path) if found.split(".")[0] == library}
    assert users & LIBRARIES[library] == set()


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module: str) -> None:
    names = importlib.import_module(module)
    assert sorted(names.__all__) == sorted(PUBLIC[module])
    assert all(hasattr(names, name) for name in PUBLIC[module])


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Unet'"):
        _ = unetseg.Unet


def test_help_imports_no_torch_and_takes_under_a_second() -> None:
    code = "import sys, unetseg.__main__ as m; m.main(['--help']); sys.exit('torch' in sys.modules)"
    start = time.monotonic()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 1
    for verb in ("fit", "validate", "test", "predict", "export", "inspect", "check-data", "pack"):
        assert sum(line.strip().startswith(f"{verb} ") for line in run.stdout.splitlines()) == 1
