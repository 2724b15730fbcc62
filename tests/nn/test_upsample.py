"""The aligned layer, against nn.ConvTranspose2d wherever that can do the same."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from unetseg.errors import AlignmentError, OptionError
from unetseg.geometry import skip_sizes
from unetseg.nn import AlignedConvTranspose2d

pytestmark = pytest.mark.filterwarnings("ignore:AlignedConvTranspose2d")  # tests/nn/test_guards.py is about these


def integers(*shape: int) -> Tensor:
    """Small integers in float: sums of products are exact, whatever their order."""
    return torch.randint(-4, 5, shape).float()


def pair_of_layers(**options: object) -> tuple[AlignedConvTranspose2d, nn.ConvTranspose2d]:
    """The aligned layer and the plain one with the padding it planned, with the same integer weights."""
    aligned = AlignedConvTranspose2d(4, 6, **options)
    plain = nn.ConvTranspose2d(4, 6, **(options | {"padding": aligned.padding}))
    weights = {name: integers(*value.shape) for name, value in plain.state_dict().items()}
    plain.load_state_dict(weights)
    aligned.load_state_dict(weights)
    return aligned, plain


@pytest.mark.parametrize(
    ("k", "s", "d", "groups", "bias"),
    [
        (2, 2, 1, 1, True),
        (3, 2, 1, 1, False),
        (4, 2, 1, 2, True),
        (5, 3, 2, 1, True),
        (4, 4, 1, 2, True),
        (3, 1, 2, 1, True),
    ],
)
def test_equals_pytorchs_output_size_where_that_is_legal(k: int, s: int, d: int, groups: int, bias: bool) -> None:
    aligned, plain = pair_of_layers(kernel_size=k, stride=s, dilation=d, groups=groups, bias=bias)
    x = integers(2, 4, 5, 7)
    least = plain(x).shape[-2:]
    for extra_h, extra_w in product(range(s), repeat=2):  # PyTorch's output_size stops below the stride
        size = [least[0] + extra_h, least[1] + extra_w]
        assert torch.equal(aligned(x, size=size), plain(x, output_size=size))


@pytest.mark.parametrize(("k", "s", "d"), [(2, 2, 1), (3, 2, 1), (4, 2, 1), (5, 2, 1), (6, 3, 1), (4, 4, 1), (3, 2, 3)])
def test_a_smaller_size_is_the_larger_output_without_its_last_rows(k: int, s: int, d: int) -> None:
    aligned, plain = pair_of_layers(kernel_size=k, stride=s, dilation=d)
    x = integers(1, 4, 5, 4)
    plain.output_padding = (max(s, d) - 1,) * 2
    largest = plain(x)
    for height, width in product(skip_sizes(5, s), skip_sizes(4, s)):
        assert torch.equal(aligned(x, size=(height, width)), largest[..., :height, :width])


def test_height_and_width_have_parameters_of_their_own() -> None:
    aligned, plain = pair_of_layers(kernel_size=(4, 3), stride=(2, 3), dilation=(1, 2))
    x = integers(1, 4, 5, 6)
    plain.output_padding = (1, 2)
    largest = plain(x)
    for height, width in product((9, 10, 11), (17, 18, 19, 20)):
        assert torch.equal(aligned(x, size=(height, width)), largest[..., :height, :width])


@pytest.mark.parametrize(("padding", "output_padding"), [(1, 0), (1, 1), ((1, 0), (0, 1)), (0, 0)])
def test_with_integers_it_is_the_plain_layer(padding: object, output_padding: object) -> None:
    torch.manual_seed(0)
    plain = nn.ConvTranspose2d(4, 6, 3, 2, padding, output_padding)
    torch.manual_seed(0)
    aligned = AlignedConvTranspose2d(4, 6, 3, 2, padding, output_padding)
    x = torch.randn(2, 4, 5, 7)
    assert torch.equal(aligned(x), plain(x))
    size = [side + 1 for side in nn.ConvTranspose2d(4, 6, 3, 2, padding)(x).shape[-2:]]
    assert torch.equal(aligned(x, output_size=size), plain(x, output_size=size))
    with pytest.raises(ValueError, match="requested an output size"):
        aligned(x, output_size=[40, 40])


def test_takes_a_plain_layers_state_dict() -> None:
    plain = nn.ConvTranspose2d(4, 6, 4, 2, 1, bias=True)
    aligned = AlignedConvTranspose2d(4, 6, 4, 2)
    aligned.load_state_dict(plain.state_dict())
    x = integers(1, 4, 5, 5)
    torch.testing.assert_close(aligned(x), plain(x))


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("rounding", ["up", "down", "any"])
def test_without_a_size_it_is_stride_times_the_input(k: int, rounding: str) -> None:
    layer = AlignedConvTranspose2d(2, 3, k, stride=2, rounding=rounding)
    assert layer(torch.zeros(1, 2, 5, 8)).shape == (1, 3, 10, 16)


def test_takes_every_form_of_input_and_size() -> None:
    layer = AlignedConvTranspose2d(2, 3, 4, stride=2)
    assert layer(torch.zeros(2, 5, 8), size=(9, 17)).shape == (3, 9, 17)
    assert layer(torch.zeros(1, 2, 5, 8), output_size=torch.Size([1, 3, 9, 17])).shape == (1, 3, 9, 17)
    assert layer(torch.zeros(0, 2, 5, 8), size=(9, 17)).shape == (0, 3, 9, 17)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_keeps_dtype_and_memory_format(dtype: torch.dtype) -> None:
    layer = AlignedConvTranspose2d(8, 16, 4, stride=2, dtype=dtype).to(memory_format=torch.channels_last)
    y = layer(torch.zeros(2, 8, 5, 5, dtype=dtype).to(memory_format=torch.channels_last))
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(9, 9), (10, 10), (11, 11), (9, 11)])
def test_gradients_are_those_of_the_plain_layer(size: tuple[int, int]) -> None:
    aligned, plain = pair_of_layers(kernel_size=4, stride=2)
    x = integers(2, 4, 5, 5)
    aligned(x, size=size).square().sum().backward()
    plain(x, output_size=(11, 11))[..., : size[0], : size[1]].square().sum().backward()
    assert torch.equal(aligned.weight.grad, plain.weight.grad)
    assert torch.equal(aligned.bias.grad, plain.bias.grad)


@pytest.mark.parametrize(
    "memory_format", [torch.channels_last, torch.contiguous_format], ids=["channels_last", "contiguous"]
)
def test_a_cropped_map_is_whole_memory_in_training(memory_format: torch.memory_format) -> None:
    """Batch norm is slow to train on a view; where nothing is trained, a view spares the copy."""
    layer = AlignedConvTranspose2d(4, 6, 4, stride=2).to(memory_format=memory_format)
    x = integers(2, 4, 5, 7).contiguous(memory_format=memory_format)
    trained = layer(x, size=(9, 13))
    assert trained.is_contiguous(memory_format=memory_format)
    with torch.no_grad():
        viewed = layer(x, size=(9, 13))
    assert viewed.untyped_storage().nbytes() == 4 * 2 * 6 * 10 * 14
    assert torch.equal(trained, viewed)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_exported_form_is_equal(k: int) -> None:
    layer, _ = pair_of_layers(kernel_size=k, stride=2)
    example = (integers(2, 4, 5, 7), integers(2, 1, 9, 15))

    class ToSkip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor, skip: Tensor) -> Tensor:
            return self.layer(x, size=skip.shape[-2:])

    auto = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    exported = torch.export.export(ToSkip(), example, dynamic_shapes=(auto, auto)).module()
    for low, high in product(((5, 7), (6, 4)), ((-1, 0), (0, 1), (1, -1))):
        x = integers(2, 4, *low)
        skip = integers(2, 1, *(2 * side + extra for side, extra in zip(low, high, strict=True)))
        assert torch.equal(exported(x, skip), layer(x, size=skip.shape[-2:]))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            (16, 10),
            r"block 3, height: from 5, kernel 4 stride 2 padding 1 dilation 1 reaches 8\.\.11; .* size is 16",
        ),
        ((10, 5), r"block 3, width: .* reaches 8\.\.11; the wanted size is 5"),
        ((10, 10, 10), r"block 3: size is \(height, width\); got 3 values"),
    ],
)
def test_an_unreachable_size_is_explained(size: tuple[int, ...], message: str) -> None:
    layer = AlignedConvTranspose2d(2, 3, 4, stride=2, label="block 3")
    with pytest.raises(AlignmentError, match=message):
        layer(torch.zeros(1, 2, 5, 5), size=size)


def test_with_an_integer_padding_the_size_is_pytorchs_unless_one_is_asked_for() -> None:
    """From the 1x1 latent of a generator, PyTorch's 4x4."""
    layer = AlignedConvTranspose2d(4, 6, 4, 1, 0)
    assert layer(torch.zeros(2, 4, 1, 1)).shape == (2, 6, 4, 4)
    assert layer(torch.zeros(2, 4, 1, 1), size=(4, 3)).shape == (2, 6, 4, 3)


def test_mistakes_are_explained_when_it_is_built() -> None:
    with pytest.raises(AlignmentError, match="AlignedConvTranspose2d: kernel 3 is too small for stride 4"):
        AlignedConvTranspose2d(2, 3, 3, stride=4)
    with pytest.raises(OptionError, match="padding is 'same'; it can be 'auto'"):
        AlignedConvTranspose2d(2, 3, 4, stride=2, padding="same")
    with pytest.raises(OptionError, match="rounding is 'ceil'; it can be 'up'"):
        AlignedConvTranspose2d(2, 3, 4, stride=2, rounding="ceil")
    with pytest.raises(OptionError, match="groups is 2; it must divide both 2 input and 3 output channels"):
        AlignedConvTranspose2d(2, 3, 4, stride=2, groups=2)
    with pytest.raises(AlignmentError, match="two names of one thing"):
        AlignedConvTranspose2d(2, 3, 4, stride=2)(torch.zeros(1, 2, 5, 5), size=(9, 9), output_size=(9, 9))


def test_its_repr_says_that_it_aligns() -> None:
    assert repr(AlignedConvTranspose2d(2, 3, 4, stride=2)).endswith("padding=(1, 1), aligned)")
    assert "aligned" not in repr(AlignedConvTranspose2d(2, 3, 4, 2, 1, 0))
