"""Every upsampling sibling and decoder option passes the comparison, after encoders that round up, down and both ways.

Each group is exported by a process of its own, whose memory goes with it. torch.export is tested with the models.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROUNDING = {"up": "resnet18", "down": "vgg11", "mixed": "tu-ese_vovnet19b_slim_dw"}

METHODS = ["conv_transpose", "blurred_conv_transpose", "pixel_shuffle", "nearest", "bilinear"]

SIBLINGS = [
    *({"upsample": {"method": method, "kernel_size": kernel}} for method in METHODS[:2] for kernel in (2, 3, 4)),
    *({"upsample": {"method": method}} for method in METHODS[2:]),
]

BLOCKS = [
    {"norm": "group", "activation": "silu"},
    {"norm": "instance", "activation": "elu", "attention": "gate"},
    {"norm": "layer", "activation": "gelu", "residual": True},
    {"norm": "none", "activation": "leaky_relu", "merge": "concat"},
    {"attention": "scse", "dropout": 0.2, "activation": "none"},
]
OPTIONS = [
    *({"block": block} for block in BLOCKS),
    {"head": "upsample", "decoder_channels": [16, 8]},
    {"head": "upsample", "decoder_channels": [16, 8], "upsample": {"method": "pixel_shuffle"}},
    {"deep_supervision": True},
    {"decoder": "unetplusplus", "deep_supervision": True},
    {"decoder": "unetplusplus", "head": "upsample", "decoder_channels": [16, 8], "upsample": {"method": "bilinear"}},
    {"upsample": {"kernel_size": [4, 3, 2], "stride": 2, "groups": 4, "bias": False}},
    {"upsample": {"kernel_size": 3, "dilation": 2}},
]


SCRIPT = """
import json, os, sys, warnings
warnings.simplefilter("ignore")  # some of these kernels are warned of
import torch
from unetseg import Predictor, UNet
from unetseg.errors import UnetsegError
from unetseg.export import export

torch.set_num_threads(1)
path, encoder, networks = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
for options in networks:
    torch.manual_seed(0)
    model = UNet(encoder, classes=3, **options)
    for norm in model.modules():  # as training leaves them
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.5, 2)
    try:
        exported = export(Predictor(model, ["a", "b", "c"], device="cpu"), path)
    except UnetsegError as error:
        print(json.dumps({"options": options, "error": str(error)}))
        continue
    sizes = [check.size for check in exported.checks]
    print(json.dumps({"options": options, "sizes": sizes, "share": exported.worst.difference / exported.worst.scale}))
    os.remove(path)
"""


def assert_exported(path: Path, encoder: str, networks: list[dict], **options: object) -> None:
    """Export networks one after the other, each compared at nine sizes."""
    wanted = [{"encoder_depth": 3, "decoder_channels": [16, 8, 8], **options, **network} for network in networks]
    command = [sys.executable, "-c", SCRIPT, str(path), encoder, json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["options"] for row in rows if "error" in row] == [], done.stdout
    assert [row["options"] for row in rows] == wanted
    for row in rows:
        assert len(row["sizes"]) == 9
        assert {(height % 2, width % 2) for height, width in row["sizes"]} == {(0, 0), (0, 1), (1, 0), (1, 1)}
        assert row["share"] < 1e-4


@pytest.mark.parametrize("encoder", ROUNDING.values(), ids=ROUNDING)
def test_every_sibling_in_onnx(encoder: str, tmp_path: Path) -> None:
    assert_exported(tmp_path / "model.onnx", encoder, SIBLINGS)


def test_every_decoder_option_in_onnx(tmp_path: Path) -> None:
    assert_exported(tmp_path / "model.onnx", ROUNDING["up"], OPTIONS)


def test_siblings_and_blocks_in_openvino(tmp_path: Path) -> None:
    """It reads ONNX, and computes these by code of its own."""
    assert_exported(tmp_path / "model.xml", ROUNDING["up"], [SIBLINGS[2], *SIBLINGS[5:], *OPTIONS[: len(BLOCKS)]])


def test_an_encoder_that_pads_images_to_multiples_of_a_size(tmp_path: Path) -> None:
    channels = [16, 16, 8, 8, 8]
    assert_exported(tmp_path / "model.onnx", "tu-hrnet_w18_small", [{}], encoder_depth=5, decoder_channels=channels)
