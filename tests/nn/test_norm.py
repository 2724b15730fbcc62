"""Norms and activations: formulas by hand, and every size of map and batch."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from unetseg.config import Activation, Norm
from unetseg.errors import ImageError, OptionError
from unetseg.nn import LayerNorm2d, NormAct
from unetseg.nn.norm import build_activation, build_norm

NORMS, ACTIVATIONS = get_args(Norm), get_args(Activation)


def with_random_parameters(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def standardised(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    mean = x.mean(dim=dims, keepdim=True)
    variance = (x - mean).square().mean(dim=dims, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(2, 32, 5, 7), (1, 32, 1, 1)])
def test_every_pair_takes_every_size(norm: str, activation: str, shape: tuple[int, ...]) -> None:
    layer = NormAct(32, norm, activation)
    x = torch.randn(shape, requires_grad=True)
    if norm == "batch" and shape[0] == 1:
        with pytest.raises(ImageError, match=r"batch norm can't train on a batch of one"):
            layer(x)
        assert layer.eval()(x).isfinite().all()
        return
    y = layer(x + 0)  # an activation in place can't have a leaf
    assert y.shape == shape
    assert y.isfinite().all()
    (y * torch.randn(shape)).sum().backward()
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_layer_norm_is_over_the_channels_of_each_pixel() -> None:
    layer, x = with_random_parameters(LayerNorm2d(6)), torch.randn(2, 6, 5, 3)
    normed = (x - x.mean(dim=1, keepdim=True)) / (x.var(dim=1, keepdim=True, unbiased=False) + layer.eps).sqrt()
    torch.testing.assert_close(layer(x), normed * layer.weight[:, None, None] + layer.bias[:, None, None])


@pytest.mark.parametrize(("channels", "groups"), [(32, 2), (16, 1), (48, 3), (24, 1), (4, 1)])
def test_group_norm_has_groups_of_16_channels_or_one_of_all(channels: int, groups: int) -> None:
    (layer,) = build_norm("group", channels)
    x = torch.randn(2, channels, 5, 3)
    grouped = standardised(x.unflatten(1, (groups, channels // groups)), (2, 3, 4)).flatten(1, 2)
    torch.testing.assert_close(layer(x), grouped)


def test_instance_norm_is_over_each_map_and_keeps_a_single_pixel() -> None:
    (layer,) = with_random_parameters(nn.ModuleList(build_norm("instance", 6)))
    scale, shift = layer.weight[:, None, None], layer.bias[:, None, None]
    x = torch.randn(2, 6, 5, 3)
    torch.testing.assert_close(layer(x), standardised(x, (2, 3)) * scale + shift)
    pixel = torch.randn(2, 6, 1, 1)
    assert torch.equal(layer(pixel), pixel * scale + shift)
    assert torch.equal(build_norm("instance", 6)[0](pixel), pixel)


@pytest.mark.parametrize("shape", [(2, 8, 1, 1), (1, 8, 1, 2), (2, 8, 5, 7)])
def test_batch_norm_is_pytorchs(shape: tuple[int, ...]) -> None:
    (layer,) = build_norm("batch", 8)
    plain, x = nn.BatchNorm2d(8), torch.randn(shape)
    assert torch.equal(layer(x), plain(x))
    assert torch.equal(layer.running_var, plain.running_var)
    assert torch.equal(layer.eval()(x[:1, ..., :1, :1]), plain.eval()(x[:1, ..., :1, :1]))


@pytest.mark.parametrize(
    ("activation", "plain"),
    [
        ("relu", nn.functional.relu),
        ("leaky_relu", nn.functional.leaky_relu),
        ("elu", nn.functional.elu),
        ("gelu", nn.functional.gelu),
        ("silu", nn.functional.silu),
        ("none", torch.clone),
    ],
)
def test_activations_are_pytorchs(activation: str, plain: object) -> None:
    x = torch.randn(2, 4, 5, 7)
    assert torch.equal(nn.Sequential(*build_activation(activation))(x.clone()), plain(x))


def test_none_is_no_layer() -> None:
    assert build_norm("none", 8) == []
    assert build_activation("none") == []
    assert len(NormAct(8, "none", "none")) == 0


def test_unknown_names_are_explained() -> None:
    with pytest.raises(OptionError, match=r"block.norm is 'groups'; it can be 'batch', .*Did you mean 'group'\?"):
        build_norm("groups", 8)
    with pytest.raises(OptionError, match=r"block.activation is 'leakyrelu'; .*Did you mean 'leaky_relu'\?"):
        build_activation("leakyrelu")
    with pytest.raises(OptionError, match=r"block.norm is None; it can be"):
        NormAct(8, None)
