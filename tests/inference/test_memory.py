"""What is predicted is what tensors take: by hand for small networks, and measured for a large one."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unetseg import UNet
from unetseg.errors import ImageError
from unetseg.inference.memory import peak_activation_bytes

PIXELS = 5 * 7


class Function(nn.Module):
    """A network that is a function."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def skip(x: Tensor) -> Tensor:
    kept = x * 2  # 3 values a pixel
    x = torch.cat([kept] * 4, dim=1)  # 12
    x = x[:, :6] * 3  # 12 and 6, then 6, beside the skip
    return torch.cat([x, kept], dim=1)  # 6 + 3 + 9


def freed(x: Tensor) -> Tensor:
    for _ in range(9):
        x = x + 1
    return x


BY_HAND = {
    "convolutions": (nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 4, 1)), 10),
    "in place": (nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True), nn.Hardtanh(inplace=True)), 8),
    "not in place": (nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), 16),
    "nothing": (nn.Identity(), 0),
    "the image's own memory": (Function(lambda x: x.add_(1).flatten(1)), 0),
    "views": (Function(lambda x: (x + 1).permute(0, 2, 3, 1)[:, 1:].unflatten(2, (7, 1))), 3),
    "outputs": (Function(lambda x: [x + i for i in range(4)]), 12),
    "chain": (Function(freed), 6),
    "skip": (Function(skip), 21),
    "half": (Function(lambda x: x.half()), 1.5),
    "interpolation": (Function(lambda x: F.interpolate(x, scale_factor=2.0)), 12),
}


@pytest.mark.parametrize(("model", "values"), BY_HAND.values(), ids=BY_HAND)
def test_bytes_by_hand(model: nn.Module, values: float) -> None:
    """``values`` float32 numbers a pixel at the worst moment."""
    assert peak_activation_bytes(model, torch.zeros(1, 3, 5, 7)) == values * PIXELS * 4
    assert peak_activation_bytes(model, torch.empty(2, 3, 5, 7, device="meta")) == 2 * values * PIXELS * 4


@pytest.fixture(scope="module")
def model() -> UNet:
    return UNet("resnet18", classes=3)


def test_it_grows_with_the_pixels(model: UNet) -> None:
    small, large = (
        peak_activation_bytes(model, torch.empty(1, 3, *size, dtype=torch.uint8, device="meta"))
        for size in ((128, 160), (1280, 3200))
    )
    assert large == pytest.approx(small * 200, rel=0.01)
    # at full resolution the last stage alone has two maps of 16 channels, beside the image as floats
    assert small > (2 * 16 + 3) * 4 * 128 * 160


def test_attention_grows_faster() -> None:
    attention = UNet("mit_b0", classes=2, decoder_channels=[8] * 5)
    small, large = (
        peak_activation_bytes(attention, torch.empty(1, 3, side, side, device="meta")) for side in (256, 2048)
    )
    assert large > 3 * 64 * small


def test_the_model_and_the_image_stay(model: UNet) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    image = torch.rand(1, 3, 41, 67)
    with torch.inference_mode():
        inside = peak_activation_bytes(model, image)
    assert inside == peak_activation_bytes(model, image) == peak_activation_bytes(model.eval(), image.requires_grad_())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {tensor.device.type for tensor in (*model.parameters(), image)} == {"cpu"}


def test_an_image_that_is_too_small_is_refused() -> None:
    with pytest.raises(ImageError, match="7x8 pixels is too small for encoder 'vgg11_bn'"):
        peak_activation_bytes(UNet("vgg11_bn", classes=2, encoder_depth=3), torch.empty(1, 3, 8, 7, device="meta"))


# the kernel's own peak of the process: what getrusage tells may be that of the process that started it
MEASURE = """
import re
from pathlib import Path
import torch
from unetseg import UNet
from unetseg.inference.memory import peak_activation_bytes

def resident(kind):
    return 1024 * int(re.search(kind + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

model = UNet("resnet18", classes=3).eval().to(memory_format=torch.channels_last)
image = torch.zeros(1, 3, 1203, 1501, dtype=torch.uint8).to(memory_format=torch.channels_last)
predicted = peak_activation_bytes(model, image)
with torch.inference_mode():
    model(image[..., :64, :64])  # libraries are loaded
    before = resident("VmRSS")
    model(image)
print((resident("VmHWM") - before) / predicted)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_takes_what_was_predicted() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert 0.95 < float(done.stdout) < 1.5  # workspaces come on top
