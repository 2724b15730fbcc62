"""The contract that every upsampling layer keeps, whichever way it works."""

import io
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from unetseg.errors import AlignmentError, OptionError
from unetseg.geometry import reachable_sizes, skip_sizes
from unetseg.nn import AlignedConvTranspose2d, BlurredConvTranspose2d, PixelShuffleConv2d, Upsampling, build_upsample

METHODS = ["conv_transpose", "blurred_conv_transpose", "pixel_shuffle", "nearest", "bilinear"]
EQUIVALENT = METHODS[:3]  # to one transposed convolution

every_method = pytest.mark.parametrize("method", METHODS)
transposed = pytest.mark.parametrize("method", EQUIVALENT)


def layer_of(method: str, **options: object) -> Upsampling:
    torch.manual_seed(0)
    return build_upsample(4, 6, **({"method": method, "label": "layer"} | options))


class ToSkip(nn.Module):
    """What exporters need: a module whose wanted size comes from a tensor."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.layer(x, skip.shape[-2:])


@every_method
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel_size", [None, "smallest", "large"])
def test_returns_every_size_of_a_stage(method: str, stride: int, kernel_size: object) -> None:
    sizes = {"smallest": stride, "large": 2 * stride + 1} if "conv_transpose" in method else {"smallest": 1, "large": 5}
    layer = layer_of(method, stride=stride, kernel_size=sizes.get(kernel_size))
    x = torch.randn(2, 4, 5, 8)
    for height, width in product(skip_sizes(5, stride), skip_sizes(8, stride)):
        assert layer(x, size=(height, width)).shape == (2, 6, height, width)
    assert layer(x).shape == (2, 6, 5 * stride, 8 * stride)


@every_method
@pytest.mark.parametrize("size", [(9, 15), (10, 16), (11, 17), (9, 17)])
def test_every_parameter_and_input_gets_a_gradient(method: str, size: tuple[int, int]) -> None:
    layer, x = layer_of(method), torch.randn(2, 4, 5, 8, requires_grad=True)
    layer(x, size).square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in layer.parameters())
    assert (x.grad.abs().sum(dim=(0, 1)) > 0).all()


@every_method
def test_the_gradient_is_that_of_finite_differences(method: str) -> None:
    layer = layer_of(method).double()
    x = torch.randn(1, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: layer(value, (7, 3)), x)


@every_method
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [(9, 17), (10, 16)])
def test_keeps_dtype_and_channels_last(method: str, dtype: torch.dtype, size: tuple[int, int]) -> None:
    layer = layer_of(method).to(dtype).to(memory_format=torch.channels_last)
    y = layer(torch.randn(2, 4, 5, 8, dtype=dtype).to(memory_format=torch.channels_last), size)
    assert y.dtype == dtype
    assert y.stride()[1] == 1
    expected = layer_of(method).to(dtype)(torch.zeros(2, 4, 5, 8, dtype=dtype), size)
    assert y.shape == expected.shape


@every_method
def test_runs_under_autocast(method: str) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer_of(method)(torch.randn(2, 4, 5, 8), (9, 17)).dtype == torch.bfloat16


@every_method
def test_one_dynamic_graph_serves_every_parity(method: str) -> None:
    """No graph breaks, and one compilation for all sizes."""
    module, graphs = ToSkip(layer_of(method)), []

    def count(graph: torch.fx.GraphModule, _example: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(module, backend=count, fullgraph=True, dynamic=True)
    for extra_h, extra_w in product((-1, 0, 1), repeat=2):
        x, skip = torch.randn(2, 4, 5, 8), torch.zeros(2, 1, 10 + extra_h, 16 + extra_w)
        torch.testing.assert_close(compiled(x, skip), module(x, skip), atol=1e-5, rtol=1e-5)
    x, skip = torch.randn(2, 4, 7, 9), torch.zeros(2, 1, 13, 19)
    torch.testing.assert_close(compiled(x, skip), module(x, skip), atol=1e-5, rtol=1e-5)
    assert len(graphs) == 1


@every_method
@pytest.mark.parametrize("example", [(9, 16), (10, 16), (11, 17)])
def test_a_dynamic_export_serves_every_parity(method: str, example: tuple[int, int]) -> None:
    module = ToSkip(layer_of(method))
    auto = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    inputs = (torch.randn(2, 4, 5, 8), torch.zeros(2, 1, *example))
    exported = torch.export.export(module, inputs, dynamic_shapes=(auto, auto)).module()
    for low, high in product(((5, 8), (6, 4)), ((-1, 0), (0, 1), (1, -1), (0, 0))):
        x, skip = torch.randn(2, 4, *low), torch.zeros(2, 1, *(2 * n + e for n, e in zip(low, high, strict=True)))
        torch.testing.assert_close(exported(x, skip), module(x, skip), atol=1e-5, rtol=1e-5)


@every_method
@pytest.mark.parametrize("options", [{}, {"groups": 2}, {"bias": False}])
def test_saved_weights_give_the_same_output(method: str, options: dict) -> None:
    layer, buffer = layer_of(method, **options), io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    torch.manual_seed(1)
    other = build_upsample(4, 6, method=method, **options)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    x = torch.randn(2, 4, 5, 8)
    assert torch.equal(other(x, (9, 17)), layer(x, (9, 17)))


@every_method
def test_a_skip_of_another_stage_is_refused(method: str) -> None:
    layer = layer_of(method)
    with pytest.raises(AlignmentError, match=r"layer, height: from 5, .* wanted size is 20"):
        layer(torch.zeros(1, 4, 5, 8), (20, 16))
    with pytest.raises(AlignmentError, match=r"layer, width: from 8, .* wanted size is 8"):
        layer(torch.zeros(1, 4, 5, 8), (10, 8))
    with pytest.raises(AlignmentError, match=r"layer: size is \(height, width\); got 3 values"):
        layer(torch.zeros(1, 4, 5, 8), (4, 10, 16))


@transposed
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_is_the_transposed_convolution_that_its_axes_name(method: str, stride: int, groups: int) -> None:
    """An independent way to the same numbers: nn.ConvTranspose2d, with the weight read off by unit impulses."""
    layer = layer_of(method, stride=stride, groups=groups).double()
    k, s, p, d = layer.axes[0]
    plain = nn.ConvTranspose2d(4, 6, k, s, p, s - 1, dilation=d, groups=groups).double()
    with torch.no_grad():
        if isinstance(layer, BlurredConvTranspose2d):
            plain.weight.copy_(layer.blurred_weight())
        elif isinstance(layer, PixelShuffleConv2d):
            weight = torch.randn_like(plain.weight)
            layer.copy_transposed_weight_(weight)
            plain.weight.copy_(weight)
        else:
            plain.weight.copy_(layer.weight)
        plain.bias.copy_(layer.conv.bias.view(6, -1)[:, 0] if method == "pixel_shuffle" else layer.bias)
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    largest = plain(x)
    for height in range(reachable_sizes(5, k, s, p, d)[0], stride * 6):
        torch.testing.assert_close(layer(x, (height, 6 * stride)), largest[..., :height, : 6 * stride])


@pytest.mark.parametrize(("k", "s", "d"), [(2, 2, 1), (3, 2, 1), (4, 2, 1), (3, 3, 1), (3, 2, 2)])
def test_the_blur_is_one_after_the_transposed_convolution(k: int, s: int, d: int) -> None:
    layer = BlurredConvTranspose2d(4, 4, k, s, dilation=d, bias=False).double()
    sharp = AlignedConvTranspose2d(4, 4, k, s, 0, 0, dilation=d, bias=False, label="sharp").double()
    sharp.load_state_dict(layer.state_dict())
    taps = torch.tensor([s - abs(i) for i in range(1 - s, s)], dtype=torch.float64) / s**2
    kernel = torch.outer(taps, taps).expand(4, 1, -1, -1)
    x = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    blurred = nn.functional.conv2d(sharp(x), kernel, padding=s - 1, groups=4)
    first = layer.padding[0]
    expected = blurred[..., first : first + 5 * s, first : first + 6 * s]
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("method", ["conv_transpose", "blurred_conv_transpose", "pixel_shuffle"])
def test_a_trace_serves_every_size(method: str) -> None:
    """As the older exporter to ONNX makes one."""

    class ToSkip(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = build_upsample(4, 6, method=method, label="layer")

        def forward(self, x: Tensor, skip: Tensor) -> Tensor:
            return self.layer(x, size=skip.shape[-2:])

    module = ToSkip()
    traced = torch.jit.trace(module, (torch.rand(1, 4, 5, 7), torch.rand(1, 1, 9, 15)))
    for height, width in ((9, 15), (10, 14), (11, 13), (21, 19)):
        inputs = torch.rand(1, 4, (height + 1) // 2, (width + 1) // 2), torch.rand(1, 1, height, width)
        torch.testing.assert_close(traced(*inputs), module(*inputs))


def test_what_a_method_cannot_have_is_explained() -> None:
    with pytest.raises(OptionError, match=r"method is 'deconv'; it can be 'conv_transpose', "):
        build_upsample(4, 6, method="deconv")
    with pytest.raises(OptionError, match=r"padding is 1 and dilation 1; method 'pixel_shuffle' has neither"):
        build_upsample(4, 6, method="pixel_shuffle", padding=1)
    with pytest.raises(OptionError, match=r"kernel_size is 4; it is that of a convolution, which has an odd one"):
        build_upsample(4, 6, method="pixel_shuffle", kernel_size=4)
    with pytest.raises(OptionError, match=r"kernel_size is 2; it is that of a convolution, which has an odd one"):
        build_upsample(4, 6, method="nearest", kernel_size=2)
    with pytest.raises(OptionError, match=r"stride is \(2, 1\); a pixel shuffle has one integer"):
        build_upsample(4, 6, method="pixel_shuffle", stride=(2, 1))
    with pytest.raises(OptionError, match=r"init is 'icnr'; a layer that interpolates can have 'default'"):
        build_upsample(4, 6, method="bilinear", init="icnr")
    with pytest.raises(OptionError, match=r"init 'icnr': kernel 3 .* dilation 3 doesn't cover"):
        build_upsample(4, 6, kernel_size=3, dilation=3, init="icnr", label="layer")
    for method in METHODS:
        with pytest.raises(OptionError, match=r"groups is 3; it must divide both 4 input and 6 output"):
            build_upsample(4, 6, method=method, groups=3)
        with pytest.raises(OptionError, match=r"rounding is 'ceil'"):
            build_upsample(4, 6, method=method, rounding="ceil", kernel_size=3)
    with pytest.raises(AlignmentError, match=r"kernel 2 is too small for stride 3"):
        build_upsample(4, 6, method="blurred_conv_transpose", kernel_size=2, stride=3)


@pytest.mark.parametrize("method", ["conv_transpose", "blurred_conv_transpose", "nearest", "bilinear"])
def test_height_and_width_may_have_strides_of_their_own(method: str) -> None:
    layer = layer_of(method, stride=(2, 1))
    assert layer(torch.zeros(1, 4, 5, 8), (9, 8)).shape == (1, 6, 9, 8)
