"""What is frozen stays as it is, batch norm's statistics included, and what isn't learns."""

import pytest
import torch
from torch import Tensor

from unetseg import UNet
from unetseg.errors import OptionError
from unetseg.freezing import freeze, keep_in_eval
from unetseg.optimization import build_optimizer


def network() -> UNet:
    torch.manual_seed(0)
    return UNet(classes=2, encoder_depth=3, decoder_channels=[16, 8, 8], block={"dropout": 0.1})


def changed(model: UNet, names: list[str], steps: int = 2) -> dict[str, bool]:
    """Which parameters and statistics differ after a few steps of training."""
    frozen = freeze(model, names)
    optimizer = build_optimizer(model, optimizer="SGD", lr=0.5, encoder_lr=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(steps):
        model.train()
        keep_in_eval(frozen)
        optimizer.zero_grad()
        logits: Tensor = model(torch.rand(2, 3, 33, 47))
        logits.square().mean().backward()
        optimizer.step()
    return {name: not torch.equal(value, before[name]) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "names",
    [
        ["encoder"],
        ["decoder"],
        ["head"],
        ["encoder.conv1", "encoder.bn1", "encoder.layer1"],
        ["encoder.layer1", "encoder", "encoder"],
        ["decoder.blocks.0", "encoder.layer1.1.bn2"],
        ["decoder", "head"],
        [],
    ],
)
def test_only_what_is_not_frozen_changes(names: list[str]) -> None:
    model = network()
    # without a gradient even when nothing is frozen
    still = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    still |= {name for name in model.state_dict() if name.startswith(("encoder.layer3", "encoder.layer4"))}
    moved = changed(model, names)
    frozen = {name for name in moved if any(f"{name}.".startswith(f"{one}.") for one in names)}
    assert not any(moved[name] for name in frozen)
    expected = set(moved) - frozen - still - {"mean", "std"}
    assert {name for name in expected if not moved[name]} == set()


def test_frozen_parameters_get_no_gradient_but_pass_it_on() -> None:
    model = network()
    freeze(model, ["decoder"])
    model(torch.rand(2, 3, 33, 47)).square().mean().backward()
    assert all(parameter.grad is None for parameter in model.decoder.parameters())
    gradient = model.encoder.conv1.weight.grad
    assert gradient.abs().sum() > 0


def test_the_modules_come_back_in_order_and_train_again_when_asked() -> None:
    model = network()
    frozen = freeze(model, ["head", "encoder.layer1"])
    assert frozen == [model.head, model.encoder.layer1]
    model.train()
    assert model.head.training
    keep_in_eval(frozen)
    assert [model.head.training, model.encoder.layer1.training, model.encoder.layer2.training] == [False, False, True]


def test_a_compiled_model_has_the_same_names() -> None:
    model = network()
    freeze(torch.compile(model), ["encoder.layer1"])
    assert not any(parameter.requires_grad for parameter in model.encoder.layer1.parameters())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encodr", r"no module 'encodr' in the network; it has encoder, decoder, head, .* Did you mean 'encoder'"),
        (
            "encoder.layr1",
            r"no module 'encoder.layr1' .*; encoder has conv1, bn1, .*layer1.* Did you mean 'encoder.layer1'",
        ),
        ("decoder.blocks.7", r"no module 'decoder.blocks.7' .*; decoder.blocks has 0, 1, 2\."),
        ("head.weight", r"no module 'head.weight' in the network; head has no modules\."),
        ("", r"no module '' in the network; it has encoder"),
    ],
)
def test_an_unknown_name_is_explained(name: str, message: str) -> None:
    model = network()
    with pytest.raises(OptionError, match=message):
        freeze(model, ["head", name])
    assert model.head.weight.requires_grad


def test_a_single_name_is_no_list() -> None:
    with pytest.raises(
        OptionError, match=r"model.freeze is 'encoder'; it must be a list of modules, as in \[encoder\]"
    ):
        freeze(network(), "encoder")
