"""A folded copy computes what its model does, and has no norms left where a convolution can do their work."""

import copy
from typing import Any

import pytest
import torch
from test_distributed import ENCODERS
from timm.layers import BatchNormAct2d, StdConv2d
from torch import Tensor, nn
from torch.nn import functional as F

from unetseg import UNet
from unetseg.inference.folding import fold_batch_norm
from unetseg.nn import AlignedConvTranspose2d

BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
TINY: dict[str, Any] = {"classes": 3, "encoder_depth": 3, "decoder_channels": [8, 16, 4]}
UNUSED = 10  # norms of resnet18 that lie beyond this depth


@torch.no_grad()
def randomized(model: nn.Module) -> nn.Module:
    """The model with norms that do something; those of a new one do next to nothing."""
    torch.manual_seed(1)
    for norm in model.modules():
        if isinstance(norm, BATCH_NORMS):
            for tensor, least, spread in (
                (norm.running_mean, -0.5, 1),
                (norm.running_var, 0.5, 1),
                (norm.weight, 0.5, 1),
                (norm.bias, -0.5, 1),
            ):
                if tensor is not None:
                    tensor.copy_(least + spread * torch.rand(tensor.shape))
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, BATCH_NORMS) for module in model.modules())


def assert_same(folded: nn.Module, model: nn.Module, *sizes: tuple[int, int], channels: int = 3) -> None:
    """The same outputs at these sizes, but for 1e-5 of the largest."""
    for size in sizes:
        image = torch.rand(2, channels, *size)
        with torch.inference_mode():
            wanted, got = model(image), folded(image)
        assert got.shape == wanted.shape
        assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def unet(encoder: str = "resnet18", **options: Any) -> UNet:
    torch.manual_seed(0)
    model = randomized(UNet(encoder, **(TINY | options)))
    assert isinstance(model, UNet)
    return model


# a blur's and a shuffle's results are no convolution's; a gate looks at what the norm takes, where there is a skip
LEFT = {
    "conv_transpose": ({}, 0),
    "groups": ({"upsample": {"groups": 4}}, 0),
    "bias": ({"upsample": {"bias": True}}, 0),
    "kernel 3": ({"upsample": {"kernel_size": 3}}, 0),
    "blurred": ({"upsample": {"method": "blurred_conv_transpose"}}, 3),
    "pixel_shuffle": ({"upsample": {"method": "pixel_shuffle"}}, 3),
    "nearest": ({"upsample": {"method": "nearest", "groups": 2}}, 0),
    "bilinear": ({"upsample": {"method": "bilinear"}}, 0),
    "concat": ({"block": {"merge": "concat"}, "upsample": {"groups": 2}}, 0),
    "residual": ({"block": {"residual": True, "activation": "leaky_relu"}}, 0),
    "scse": ({"block": {"attention": "scse"}}, 0),
    "gate": ({"block": {"attention": "gate"}}, 2),
    "gate, concat": ({"block": {"attention": "gate", "merge": "concat"}}, 0),
    "unetplusplus": ({"decoder": "unetplusplus"}, 0),
    "head": ({"head": "upsample", "decoder_channels": [8, 16]}, 0),
    "deep supervision": ({"deep_supervision": True}, 0),
    "bands": ({"in_channels": 5}, 0),
}


@pytest.mark.parametrize(("options", "left"), LEFT.values(), ids=LEFT)
@pytest.mark.filterwarnings("ignore:.*kernel_size:UserWarning")
def test_every_decoder(options: dict[str, Any], left: int) -> None:
    model = unet(**options)
    folded = fold_batch_norm(model, torch.rand(1, model.in_channels, 33, 40))
    assert norms(folded) == UNUSED + left
    assert_same(folded, model, (47, 65), (64, 64), (50, 35), channels=model.in_channels)


@pytest.mark.parametrize("norm", ["group", "instance", "layer", "none"])
def test_other_norms_are_left_alone(norm: str) -> None:
    model = unet(block={"norm": norm})
    folded = fold_batch_norm(model, torch.rand(1, 3, 33, 40))
    assert str(folded.decoder) == str(model.decoder)
    assert norms(folded) == UNUSED
    assert_same(folded, model, (47, 65))


ENCODER_NORMS = {
    "resnet18": 0,
    "mobilenet_v2": 0,
    "efficientnet-b0": 1,  # of a classifier, which never runs
    "tu-mobilenetv3_small_050": 0,
    "tu-convnext_femto": 0,
    "mit_b0": 0,
    "densenet121": 62,  # before the convolutions
}


@pytest.mark.parametrize(
    ("encoder", "left"),
    [
        pytest.param(encoder, left, marks=[] if i < 3 else pytest.mark.slow)
        for i, (encoder, left) in enumerate(ENCODER_NORMS.items())
    ],
)
def test_encoders_of_several_families(encoder: str, left: int) -> None:
    torch.manual_seed(0)
    model = randomized(UNet(encoder, classes=3, decoder_channels=[16, 8, 8, 8, 8]))
    folded = fold_batch_norm(model, torch.rand(1, 3, 64, 64))
    assert norms(folded) == left
    assert_same(folded, model, (75, 101))


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_family(encoder: str) -> None:
    torch.manual_seed(0)
    model = randomized(UNet(encoder, classes=3))
    folded = fold_batch_norm(model, torch.rand(1, 3, 64, 64))
    assert norms(folded) <= norms(model) - 10  # at least the decoder's
    assert_same(folded, model, (75, 101), (128, 96))


def test_the_model_stays_as_it_is() -> None:
    model = unet().train()
    before, modules = copy.deepcopy(model.state_dict()), str(model)
    generator = torch.get_rng_state()
    folded = fold_batch_norm(model, torch.rand(1, 3, 33, 40, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in folded.modules())
    assert str(model) == modules
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in folded.parameters()}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in folded.modules())


def test_values_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0)).requires_grad_(False)
    model[0].weight.fill_(3), model[0].bias.fill_(5)
    model[1].running_mean.fill_(7), model[1].running_var.fill_(4), model[1].weight.fill_(10), model[1].bias.fill_(1)
    folded = fold_batch_norm(model, torch.rand(1, 1, 3, 3))
    # 10 * (3 x + 5 - 7) / 2 + 1
    assert (folded[0].weight.item(), folded[0].bias.item()) == (15, -9)


@pytest.mark.parametrize("kind", [nn.ConvTranspose2d, AlignedConvTranspose2d])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 3])
def test_transposed_convolutions(kind: type[nn.ConvTranspose2d], bias: bool, groups: int) -> None:
    torch.manual_seed(0)
    model = randomized(nn.Sequential(kind(6, 9, (4, 6), stride=2, groups=groups, bias=bias), nn.BatchNorm2d(9)))
    folded = fold_batch_norm(model, torch.rand(1, 6, 4, 5))
    assert norms(folded) == 0
    assert_same(folded, model, (7, 3), channels=6)


class DoubledNorm(nn.BatchNorm2d):
    """A descendant that does something else besides."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - PyTorch's own name for it
        return 2 * super().forward(input)


@pytest.mark.parametrize(
    ("norm", "left"),
    [
        (nn.BatchNorm2d(4, affine=False), "Identity()"),
        (nn.SyncBatchNorm(4), "Identity()"),
        (BatchNormAct2d(4, act_layer=nn.Hardswish), "Hardswish"),
        (nn.BatchNorm2d(4, track_running_stats=False), "BatchNorm2d"),
        (
            type("Twice", (nn.BatchNorm2d,), {"forward": lambda self, x: 2 * nn.BatchNorm2d.forward(self, x)})(4),
            "Twice",
        ),
    ],
)
def test_kinds_of_norms(norm: nn.Module, left: str) -> None:
    model = randomized(nn.Sequential(nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect"), norm))
    folded = fold_batch_norm(model, torch.rand(1, 3, 5, 7))
    assert left in str(folded[1])
    assert_same(folded, model, (9, 6))


class Net(nn.Module):
    """Parts to make networks of that a fold has to see through."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1, bias=False)
        self.norm, self.unharmed = nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.unharmed(self.body(x))

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Sum(Net):
    """Rows are cropped, as an aligned layer crops them."""

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)[..., 1:] + self.other(x)[..., 1:])


class SumInPlace(Net):
    """As ``DecoderBlock`` adds."""

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.other(x).add_(self.conv(x)))


class WeightedSum(Net):
    """A scale of one alone would be needed."""

    def body(self, x: Tensor) -> Tensor:
        return self.norm(torch.add(self.conv(x), self.other(x), alpha=2))


class WithAnother(Net):
    """A summand that is no convolution's."""

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x) + x.mean())


class Broadcast(Net):
    """A summand of another shape."""

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x) + self.other(x.mean((2, 3), keepdim=True)))


class UsedTwice(Net):
    """The result before the norm is wanted, too."""

    def body(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(x) + x


class ViewedAndUsed(Net):
    """The same, where the norm takes a view."""

    def body(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        rows = x[..., 1:, :]
        return self.norm(rows) + x[..., :-1, :]


class ChangedInPlace(Net):
    """The norm takes the object that the convolution gave, but not its values."""

    def body(self, x: Tensor) -> Tensor:
        return self.norm(F.relu_(self.conv(x)))


class ChangedThroughAView(Net):
    """The same, by another object."""

    def body(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x[..., 0].zero_()
        return self.norm(x)


class ConvTwice(Net):
    """Only one of the results is normalised."""

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + self.conv(x)


class NormTwice(Net):
    """Two convolutions share a norm."""

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + self.norm(self.other(x))


class WeightUsed(Net):
    """The weight does something else besides."""

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) * self.conv.weight.mean()


class GivesBoth(Net):
    """The result before the norm is an output."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x = self.conv(x)
        return self.unharmed(self.norm(x)), x


FOLDED = [(Sum, 0), (SumInPlace, 0)]
SPARED = [WeightedSum, WithAnother, Broadcast, UsedTwice, ViewedAndUsed, ChangedInPlace, ChangedThroughAView]
SPARED += [ConvTwice, NormTwice, WeightUsed]


@pytest.mark.parametrize(("kind", "left"), FOLDED + [(kind, 1) for kind in SPARED])
def test_what_the_norm_takes_decides(kind: type[Net], left: int) -> None:
    torch.manual_seed(0)
    model = randomized(kind())
    folded = fold_batch_norm(model, torch.rand(1, 3, 8, 9))
    assert norms(folded) == left  # a pair that can't be folded costs no other
    assert_same(folded, model, (7, 11))


def test_outputs_are_uses() -> None:
    model = randomized(GivesBoth())
    folded = fold_batch_norm(model, torch.rand(1, 3, 8, 9))
    x = torch.rand(1, 3, 7, 11)
    assert norms(folded) == 1
    assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(folded(x), model(x), strict=True))


def test_descendants_and_tied_weights_are_spared() -> None:
    torch.manual_seed(0)
    doubled = randomized(Net(norm=DoubledNorm(4)))
    standardised = randomized(Net(conv=StdConv2d(3, 4, 3, padding=1)))
    parametrised = randomized(Net(conv=nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))))
    tied = randomized(Net(twin=nn.Conv2d(3, 4, 3)))
    tied.twin.weight = tied.conv.weight  # though the twin doesn't run
    for model in (doubled, standardised, parametrised, tied):
        folded = fold_batch_norm(model, torch.rand(1, 3, 8, 9))
        assert norms(folded) == 1
        assert_same(folded, model, (7, 11))


class AsksItsNorm(Net):
    """Needs what an identity hasn't."""

    def body(self, x: Tensor) -> Tensor:
        return super().body(x) * self.norm.eps


def test_nothing_is_folded_where_the_copy_fails() -> None:
    torch.manual_seed(0)
    model = randomized(AsksItsNorm())
    folded = fold_batch_norm(model, torch.rand(1, 3, 8, 9))
    assert str(folded) == str(model)
    assert_same(folded, model, (7, 11))


def test_nothing_is_folded_where_the_copy_differs() -> None:
    torch.manual_seed(0)
    model = randomized(Net())
    model.norm.register_forward_hook(lambda module, args, output: output * 2)  # it goes with the norm
    folded = fold_batch_norm(model, torch.rand(1, 3, 8, 9))
    assert str(folded) == str(model)
    assert_same(folded, model, (7, 11))


def test_frozen_parameters_stay_frozen() -> None:
    model = unet()
    model.encoder.requires_grad_(False)
    folded = fold_batch_norm(model, torch.rand(1, 3, 33, 40))
    assert norms(folded) == UNUSED
    assert not any(parameter.requires_grad for parameter in folded.encoder.parameters())
    assert_same(folded, model, (47, 65))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    model = unet().to(dtype)
    folded = fold_batch_norm(model, torch.rand(1, 3, 33, 40))
    assert norms(folded) == UNUSED
    assert {tensor.dtype for tensor in folded.parameters()} == {dtype}
    image = torch.rand(1, 3, 47, 65)
    with torch.inference_mode():
        wanted, got = model(image), folded(image)
    assert got.dtype == dtype
    assert (got - wanted).abs().max() <= (0.05 if dtype == torch.bfloat16 else 1e-13) * wanted.abs().max()


def test_memory_format_and_inference_mode() -> None:
    model = unet().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        folded = fold_batch_norm(model, torch.rand(1, 3, 33, 40))
    assert norms(folded) == UNUSED
    assert not any(parameter.is_inference() for parameter in folded.parameters())
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in folded.parameters() if p.dim() == 4)
    assert_same(folded, model, (47, 65))


def test_compiled_models() -> None:
    plain = unet()
    model = copy.deepcopy(plain)
    model.encoder.compile(backend="eager")
    model.compile(backend="eager")
    folded = fold_batch_norm(model, torch.rand(1, 3, 33, 40))
    assert norms(folded) == UNUSED
    assert folded._compiled_call_impl is None
    assert folded.encoder._compiled_call_impl is None
    assert_same(folded, plain, (47, 65))
