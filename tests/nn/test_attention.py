"""Attention against the papers' formulas."""

import pytest
import torch

from unetseg.nn import SCSE, AttentionGate


@pytest.mark.parametrize("channels", [1, 3, 8, 40])
@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_scse_is_its_formula(channels: int, size: tuple[int, int]) -> None:
    layer, x = SCSE(channels), torch.randn(2, channels, *size)
    squeeze, excite, pixels = layer.channel[1], layer.channel[3], layer.spatial[0]
    assert squeeze.out_channels == {1: 1, 3: 3, 8: 8, 40: 8}[channels]
    hidden = (x.mean(dim=(2, 3)) @ squeeze.weight[..., 0, 0].T + squeeze.bias).relu()
    by_channel = (hidden @ excite.weight[..., 0, 0].T + excite.bias).sigmoid()
    by_pixel = (torch.einsum("nchw,c->nhw", x, pixels.weight[0, :, 0, 0]) + pixels.bias).sigmoid()
    torch.testing.assert_close(layer(x), x * by_channel[..., None, None] + x * by_pixel[:, None])


@pytest.mark.parametrize(("gate_channels", "skip_channels"), [(1, 1), (3, 2), (8, 5)])
@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_the_gate_is_its_formula(gate_channels: int, skip_channels: int, size: tuple[int, int]) -> None:
    layer = AttentionGate(gate_channels, skip_channels)
    gate, skip = torch.randn(2, gate_channels, *size), torch.randn(2, skip_channels, *size)
    last = layer.weight[1]
    assert last.in_channels == max(1, skip_channels // 2)
    hidden = torch.einsum("nchw,dc->ndhw", gate, layer.gate.weight[..., 0, 0]) + layer.gate.bias[:, None, None]
    hidden = (hidden + torch.einsum("nchw,dc->ndhw", skip, layer.skip.weight[..., 0, 0])).relu()
    weights = (torch.einsum("ndhw,d->nhw", hidden, last.weight[0, :, 0, 0]) + last.bias).sigmoid()
    torch.testing.assert_close(layer(gate, skip), skip * weights[:, None])


def test_both_take_a_single_pixel_of_a_batch_of_one() -> None:
    x = torch.randn(1, 1, 1, 1)
    assert SCSE(1)(x).shape == x.shape
    assert AttentionGate(1, 1)(x, x).shape == x.shape
    assert AttentionGate(2, 6, channels=5).gate.out_channels == 5


def test_a_closed_gate_lets_nothing_through_and_an_open_one_everything() -> None:
    layer, gate, skip = AttentionGate(4, 3), torch.randn(2, 4, 5, 7), torch.randn(2, 3, 5, 7)
    torch.nn.init.zeros_(layer.weight[1].weight)
    for bias, share in ((-1e4, 0.0), (0.0, 0.5), (1e4, 1.0)):
        torch.nn.init.constant_(layer.weight[1].bias, bias)
        assert torch.equal(layer(gate, skip), skip * share)


@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
def test_inputs_and_parameters_get_gradients(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    scse, gated = SCSE(32), AttentionGate(4, 32)
    torch.nn.init.ones_(scse.channel[1].bias)  # few hidden units: all would be 0 by chance
    x, gate = torch.randn(1, 32, *size, requires_grad=True), torch.randn(1, 4, *size, requires_grad=True)
    (scse(x) + gated(gate, x)).square().sum().backward()
    tensors = [x, gate, *scse.parameters(), *gated.parameters()]
    assert all(tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0 for tensor in tensors)


def test_a_narrow_squeeze_does_not_die() -> None:
    """One ReLU unit is 0 for every input in a third of all starts; eight together hardly ever are."""
    for seed in range(20):
        torch.manual_seed(seed)
        layer = SCSE(16)
        layer(torch.randn(8, 16, 5, 7).relu()).square().sum().backward()
        assert layer.channel[1].weight.grad.abs().sum() > 0
