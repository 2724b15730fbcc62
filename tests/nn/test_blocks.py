"""The decoder block under every value of every option."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from unetseg.config import Activation, Attention, Norm, UpsampleInit, UpsampleMethod
from unetseg.errors import AlignmentError, ImageError, OptionError
from unetseg.nn import ConvNormAct, DecoderBlock


def is_valid(method: str, init: str | None) -> bool:
    return method not in ("nearest", "bilinear") or init in (None, "default")


CASES: list[dict[str, Any]] = [
    *[{"norm": norm} for norm in get_args(Norm)],
    *[{"norm": norm, "residual": True} for norm in get_args(Norm)],
    *[{"activation": activation, "residual": r} for activation in get_args(Activation) for r in (False, True)],
    *[{"dropout": dropout} for dropout in (0, 0.5)],
    *[{"attention": attention, "residual": r} for attention in get_args(Attention) for r in (False, True)],
    *[
        {"method": method, "init": init}
        for method in get_args(UpsampleMethod)
        for init in (None, *get_args(UpsampleInit))
        if is_valid(method, init)
    ],
    *[{"method": method, "groups": 2} for method in get_args(UpsampleMethod)],
    *[{"method": method, "bias": bias} for method in get_args(UpsampleMethod) for bias in (False, True)],
    {"norm": "none", "activation": "none"},
    {"merge": "concat"},
    *[{"merge": "concat", "norm": norm, "residual": True} for norm in get_args(Norm)],
    *[{"merge": "concat", "attention": attention} for attention in get_args(Attention)],
    *[{"merge": "concat", "method": method, "groups": 2} for method in get_args(UpsampleMethod)],
    {"norm": "layer", "activation": "gelu", "residual": True, "attention": "scse", "dropout": 0.5, "groups": 2},
    {"norm": "none", "activation": "elu", "residual": True, "attention": "gate", "method": "pixel_shuffle"},
]


def case_id(options: dict[str, Any]) -> str:
    return "-".join(f"{name}={value}" for name, value in options.items())


every_option = pytest.mark.parametrize("options", CASES, ids=case_id)


def check_gradients(block: nn.Module, result: Tensor) -> None:
    assert result.isfinite().all()
    (result * torch.randn_like(result)).sum().backward()
    assert [name for name, p in block.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@every_option
@pytest.mark.parametrize("skip_channels", [6, 0])
def test_trains_and_is_restored(options: dict[str, Any], skip_channels: int, tmp_path: Path) -> None:
    block, fresh = (DecoderBlock(8, skip_channels, 4, **options) for _ in range(2))
    x = torch.randn(2, 8, 5, 7)
    for size in ((9, 13), (11, 14)):
        skip = torch.randn(2, skip_channels, *size) if skip_channels else None
        result = block(x, skip, size=size)
        assert result.shape == (2, 4, *size)
        block.zero_grad()
        check_gradients(block, result)
    torch.save(block.state_dict(), tmp_path / "block.pt")
    fresh.load_state_dict(torch.load(tmp_path / "block.pt", weights_only=True))
    assert torch.equal(fresh.eval()(x, skip, size=size), block.eval()(x, skip, size=size))


@every_option
@pytest.mark.parametrize("skip_channels", [6, 0])
def test_trains_on_a_single_pixel(options: dict[str, Any], skip_channels: int) -> None:
    block = DecoderBlock(8, skip_channels, 4, **({"norm": "group"} | options))
    x, skip = torch.randn(1, 8, 1, 1), torch.randn(1, skip_channels, 1, 1) if skip_channels else None
    if options.get("norm") == "batch":
        with pytest.raises(ImageError, match=r"batch norm can't train on a batch of one"):
            block(x, skip, size=(1, 1))
        assert block.eval()(x, skip, size=(1, 1)).isfinite().all()
        return
    result = block(x, skip, size=(1, 1))
    assert result.shape == (1, 4, 1, 1)
    check_gradients(block, result)


@every_option
def test_without_a_size_it_is_twice_the_input(options: dict[str, Any]) -> None:
    assert DecoderBlock(8, 0, 4, **options)(torch.randn(2, 8, 5, 7)).shape == (2, 4, 10, 14)


def joined(block: DecoderBlock, x: Tensor, skip: Tensor) -> Tensor:
    """What the block's convolutions see."""
    return torch.cat([block.upsample_norm(block.upsample(x, size=skip.shape[-2:])), skip], dim=1)


@pytest.mark.parametrize(("activation", "function"), [("relu", torch.relu), ("none", torch.clone)])
def test_residual_adds_the_shortcut(activation: str, function: object) -> None:
    block = DecoderBlock(8, 6, 4, residual=True, merge="concat", activation=activation)
    x, skip = torch.randn(2, 8, 5, 7), torch.randn(2, 6, 9, 13)
    shortcut = block.shortcut(joined(block, x, skip))
    assert shortcut.min() < 0
    nn.init.zeros_(block.conv2[1].weight)
    assert torch.equal(block(x, skip), function(shortcut))
    nn.init.ones_(block.conv2[1].bias)
    assert torch.equal(block(x, skip), function(shortcut + 1))


def test_without_residual_it_is_two_convolutions() -> None:
    block = DecoderBlock(8, 6, 4, merge="concat")
    x, skip = torch.randn(2, 8, 5, 7), torch.randn(2, 6, 9, 13)
    assert torch.equal(block(x, skip), block.conv2(block.conv1(joined(block, x, skip))))


def test_adding_is_the_convolution_of_the_concatenation_without_what_stands_between() -> None:
    """A block that concatenates, whose norms do nothing and whose first convolution takes over the upsampled map."""
    added = DecoderBlock(8, 6, 4, activation="none").eval()
    concatenated = DecoderBlock(8, 6, 4, merge="concat", norm="none", activation="none", bias=False)
    nn.init.dirac_(concatenated.conv1[0].weight)
    nn.init.zeros_(concatenated.conv1[0].bias)
    concatenated.upsample.load_state_dict(added.upsample.state_dict())
    with torch.no_grad():
        concatenated.conv1[0].weight[:, 4:] = added.skip_conv.weight
    x, skip = torch.randn(2, 8, 5, 7), torch.randn(2, 6, 9, 13)
    merged = concatenated.conv1(joined(concatenated, x, skip))
    torch.testing.assert_close(added(x, skip), added.conv2(added.upsample_norm(merged)))


@pytest.mark.parametrize("merge", ["add", "concat"])
def test_a_skip_that_is_missing_or_unexpected_is_explained(merge: str) -> None:
    x, skip = torch.randn(2, 8, 5, 7), torch.randn(2, 6, 9, 13)
    with pytest.raises(AlignmentError, match=r"was built for a skip of 6 channels \(0: without one\), and got none"):
        DecoderBlock(8, 6, 4, merge=merge)(x)
    with pytest.raises(AlignmentError, match=r"was built for a skip of 0 channels .* got one of 6"):
        DecoderBlock(8, 0, 4, merge=merge)(x, skip)


def test_an_added_skip_is_gated_by_the_upsampled_map() -> None:
    block = DecoderBlock(8, 6, 4, attention="gate").eval()
    x, skip = torch.randn(2, 8, 5, 7), torch.randn(2, 6, 9, 13)
    up = block.upsample(x, size=(9, 13))
    assert torch.equal(block(x, skip), block.conv2(block.upsample_norm(block.skip_conv(block.gate(up, skip)) + up)))


@pytest.mark.parametrize("skip_channels", [6, 0])
def test_what_is_added_starts_at_unit_variance(skip_channels: int) -> None:
    torch.manual_seed(0)
    block = DecoderBlock(64, skip_channels, 64, norm="none", activation="none")
    x, skip = torch.randn(1, 64, 40, 40), torch.randn(1, skip_channels, 80, 80) if skip_channels else None
    assert 0.9 < block._add(block.upsample(x), skip).square().mean() < 1.1


@pytest.mark.parametrize(("bias", "share"), [(-1e4, 0.0), (0.0, 0.5), (1e4, 1.0)])
def test_the_gate_multiplies_the_skip(bias: float, share: float) -> None:
    gated, plain = DecoderBlock(8, 6, 4, attention="gate"), DecoderBlock(8, 6, 4)
    left = plain.load_state_dict(gated.state_dict(), strict=False)
    assert left.missing_keys == []
    nn.init.zeros_(gated.gate.weight[1].weight)
    nn.init.constant_(gated.gate.weight[1].bias, bias)
    x, skip = torch.randn(2, 8, 5, 7), torch.randn(2, 6, 9, 13)
    assert torch.equal(gated(x, skip), plain(x, skip * share))


def test_the_gate_is_driven_by_the_upsampled_map() -> None:
    block = DecoderBlock(8, 6, 4, attention="gate", merge="concat").eval()
    x, skip = torch.randn(2, 8, 5, 7), torch.randn(2, 6, 9, 13)
    up = block.upsample_norm(block.upsample(x, size=(9, 13)))
    assert torch.equal(block(x, skip), block.conv2(block.conv1(torch.cat([up, block.gate(up, skip)], dim=1))))


def test_without_a_skip_there_is_no_gate() -> None:
    assert DecoderBlock(8, 0, 4, attention="gate").state_dict().keys() == DecoderBlock(8, 0, 4).state_dict().keys()


def test_scse_weighs_before_and_after_the_convolutions() -> None:
    block = DecoderBlock(8, 6, 4, attention="scse", merge="concat").eval()
    x, skip = torch.randn(2, 8, 5, 7), torch.randn(2, 6, 9, 13)
    seen = block.attention1(joined(block, x, skip))
    assert torch.equal(block(x, skip), block.attention2(block.conv2(block.conv1(seen))))


def test_dropout_zeroes_whole_channels_in_training_only() -> None:
    torch.manual_seed(0)
    block = DecoderBlock(8, 0, 64, dropout=0.5)
    plain = DecoderBlock(8, 0, 64)
    plain.load_state_dict(block.state_dict())
    x = torch.randn(4, 8, 5, 7)
    result, whole = block(x), plain(x)
    zeroed = (result == 0).all(dim=(2, 3))
    assert 0.3 < zeroed.float().mean() < 0.7
    assert torch.equal(result[~zeroed], 2 * whole[~zeroed])
    assert torch.equal(block.eval()(x), plain.eval()(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, r"block.dropout is 1.0; it is a probability"),
        ({"dropout": -0.1}, r"block.dropout is -0.1; it is a probability"),
        ({"dropout": float("nan")}, r"block.dropout is nan; it is a probability"),
        ({"attention": "gates"}, r"block.attention is 'gates'; .*Did you mean 'gate'\?"),
        ({"merge": "sum"}, r"block.merge is 'sum'; it can be 'add', 'concat'"),
        ({"norm": "bach"}, r"block.norm is 'bach'; .*Did you mean 'batch'\?"),
        ({"activation": "rleu"}, r"block.activation is 'rleu'; it can be 'relu'"),
        ({"method": "pixelshuffle"}, r"upsample.method is 'pixelshuffle'; .*Did you mean 'pixel_shuffle'\?"),
        ({"init": "smoth"}, r"upsample.init is 'smoth'; .*Did you mean 'smooth'\?"),
        ({"method": "nearest", "init": "smooth"}, r"upsample.init is 'smooth'; a layer that interpolates"),
        (
            {"method": "pixel_shuffle", "padding": 1},
            r"DecoderBlock: padding is 1 and dilation 1; method 'pixel_shuffle'",
        ),
        ({"groups": 3}, r"DecoderBlock: groups is 3; it must divide both 8 input and 4 output"),
    ],
)
def test_wrong_options_are_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        DecoderBlock(8, 6, 4, **options)


@pytest.mark.parametrize("method", get_args(UpsampleMethod))
def test_another_stages_skip_is_explained(method: str) -> None:
    with pytest.raises(AlignmentError, match=r"deep, height: from 5, .* size is 20"):
        DecoderBlock(8, 6, 4, method=method, label="deep")(torch.randn(2, 8, 5, 7), torch.randn(2, 6, 20, 14))


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_a_lone_block_warns_of_a_checkerboard_once(kernel_size: int) -> None:
    with pytest.warns(UserWarning, match=r"DecoderBlock: .*checkerboard; kernel_size 4, or") as caught:
        DecoderBlock(8, 0, 4, kernel_size=kernel_size)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_block_with_a_label_leaves_warnings_to_its_decoder() -> None:
    DecoderBlock(8, 0, 4, kernel_size=3, label="stage")
    DecoderBlock(8, 0, 4, kernel_size=3, method="blurred_conv_transpose")  # nothing to warn of


@pytest.mark.parametrize("norm", get_args(Norm))
def test_a_convolution_has_a_bias_where_no_norm_follows(norm: str) -> None:
    assert (ConvNormAct(4, 6, norm=norm)[0].bias is not None) == (norm == "none")
    assert (DecoderBlock(8, 0, 4, norm=norm).upsample.bias is not None) == (norm == "none")
    assert ConvNormAct(4, 6, kernel_size=5, norm=norm)(torch.randn(2, 4, 5, 7)).shape == (2, 6, 5, 7)
