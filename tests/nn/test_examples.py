"""The layers in networks that aren't a UNet."""

from pathlib import Path

import torch
from torch import Tensor, nn

from unetseg.nn import AlignedConvTranspose2d, DecoderBlock, SegmentationHead


class Autoencoder(nn.Module):
    """Strided convolutions down, blocks without skips up: only the sizes are handed over."""

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 8, 12, 16)
        self.down = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], kernel_size=3, stride=2, padding=1) for i in range(3)
        )
        self.up = nn.ModuleList(DecoderBlock(channels[i + 1], 0, max(channels[i], 8)) for i in reversed(range(3)))
        self.head = SegmentationHead(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Encode and decode (N, 3, H, W)."""
        sizes = []
        for conv in self.down:
            sizes.append(x.shape[-2:])
            x = conv(x).relu()
        for block in self.up:
            x = block(x, size=sizes.pop())
        return self.head(x)


def test_an_autoencoder_gives_back_an_odd_size(tmp_path: Path) -> None:
    net, fresh = Autoencoder(), Autoencoder()
    x = torch.randn(2, 3, 37, 45)
    result = net(x)
    assert result.shape == x.shape
    (result - x).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    torch.save(net.state_dict(), tmp_path / "net.pt")
    fresh.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    assert torch.equal(fresh.eval()(x), net.eval()(x))


def test_an_autoencoder_learns() -> None:
    torch.manual_seed(0)
    net, x = Autoencoder(), torch.rand(2, 3, 21, 27)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = (net(x) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


def generator(conv_transpose: type[nn.ConvTranspose2d]) -> nn.Sequential:
    """That of DCGAN (Radford et al., arXiv:1511.06434), smaller."""
    return nn.Sequential(
        *(conv_transpose(100, 64, 4, 1, 0, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
        *(conv_transpose(64, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(conv_transpose(32, 3, 4, 2, 1), nn.Tanh()),
    )


def test_a_gans_generator_is_the_one_of_plain_layers() -> None:
    aligned, plain = generator(AlignedConvTranspose2d), generator(nn.ConvTranspose2d)
    plain.load_state_dict(aligned.state_dict())
    z = torch.randn(2, 100, 1, 1)
    x, sides = z, []
    for layer in aligned.eval():
        x = layer(x)
        if isinstance(layer, AlignedConvTranspose2d):
            sides.append(tuple(x.shape[1:]))
    assert sides == [(64, 4, 4), (32, 8, 8), (3, 16, 16)]
    for mode in (True, False):
        assert torch.equal(aligned.train(mode)(z), plain.train(mode)(z))
    for net in (aligned, plain):
        net.train()(z).square().sum().backward()
    for ours, theirs in zip(aligned.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
