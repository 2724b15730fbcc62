"""How the weights move: AdamW in two groups, on a one-cycle schedule."""

from typing import Any

from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from unetseg.model import UNet

__all__ = ["OneCycle", "build_optimizer"]


def build_optimizer(model: UNet, *, lr: float, encoder_lr: float, weight_decay: float) -> AdamW:
    """AdamW with the encoder in a group of its own: pretrained weights want a smaller step.

    Args:
        model: The network.
        lr: Peak learning rate of the decoder and the heads.
        encoder_lr: Peak learning rate of the encoder.
        weight_decay: AdamW's, for both.
    """
    encoder = [parameter for parameter in model.encoder.parameters() if parameter.requires_grad]
    of_encoder = {id(parameter) for parameter in model.encoder.parameters()}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in of_encoder]
    return AdamW(
        [
            {"params": encoder, "lr": encoder_lr, "name": "encoder"},
            {"params": rest, "lr": lr, "name": "decoder"},
        ],
        weight_decay=weight_decay,
        fused=encoder[0].device.type == "cpu" or None,  # half the time there; on a GPU PyTorch's choice is fast
    )


class OneCycle(OneCycleLR):
    """PyTorch's one-cycle schedule, whose length is that of the run it is in.

    PyTorch's own goes back to the saved length when a checkpoint is loaded, so that resuming with more epochs
    ends in an error at the first step beyond it.

    Args:
        optimizer: Its groups' learning rates are the peaks.
        total_steps: Optimizer steps of the whole run, those before a resume included.

    Source: Smith & Topin, "Super-Convergence", arXiv:1708.07120; ``torch.optim.lr_scheduler.OneCycleLR``.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int) -> None:
        # one more than there are: Lightning steps the schedule after the last optimizer step too
        peaks = [group["lr"] for group in optimizer.param_groups]
        super().__init__(optimizer, max_lr=peaks, total_steps=total_steps + 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the saved step, within this run's length."""
        own = {"total_steps": self.total_steps, "_schedule_phases": self._schedule_phases}
        super().load_state_dict(state_dict | own)
