"""Optimizer groups and the schedule."""

import pytest
import torch

from unetseg import UNet
from unetseg.optimization import OneCycle, build_optimizer


def test_encoder_and_decoder_have_rates_of_their_own() -> None:
    model = UNet("resnet18", classes=2, encoder_depth=3)
    optimizer = build_optimizer(model, lr=1e-3, encoder_lr=1e-4, weight_decay=0.02)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    learned = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert rates == {id(p): 1e-4 if name.startswith("encoder.") else 1e-3 for name, p in learned}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.02}


def peak_and_end(steps: int, *, resume_at: int = 0, of: int = 0) -> tuple[float, float]:
    """Highest and last rate of a cycle, or of one that was begun with another length."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5, momentum=0.9)
    schedule = OneCycle(optimizer, total_steps=of or steps)
    rates = []
    for step in range(steps):
        if resume_at and step == resume_at:
            saved = schedule.state_dict()
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5, momentum=0.9)
            schedule = OneCycle(optimizer, total_steps=steps)
            schedule.load_state_dict(saved)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return max(rates), rates[-1]


@pytest.mark.parametrize("steps", [1, 2, 3, 100])
def test_the_cycle_has_the_length_of_the_run(steps: int) -> None:
    peak, end = peak_and_end(steps)
    assert peak <= 0.5 + 1e-9
    if steps == 100:
        assert peak == pytest.approx(0.5, abs=0.01)
        assert end < 0.01


def test_a_resumed_run_may_be_longer() -> None:
    _, end = peak_and_end(40, resume_at=20, of=20)
    assert end < 0.01


def test_a_compiled_model_has_its_encoder_in_one_group() -> None:
    model = UNet(classes=2, encoder_depth=3)
    optimizer = build_optimizer(torch.compile(model), lr=1e-3, encoder_lr=1e-4, weight_decay=0.0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == sum(
        parameter.requires_grad for parameter in model.parameters()
    )
