"""Reading what a training run saved: the network, its classes and its data settings."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unetseg.config import Mode
from unetseg.decision import num_logits
from unetseg.errors import CheckpointError, first_line
from unetseg.losses import default_terms
from unetseg.model import UNet

__all__ = ["Checkpoint", "network_weights", "read_checkpoint"]

_NETWORK_OPTIONS = ("encoder", "encoder_depth", "decoder_channels", "upsample")
# what checkpoints from before an option were trained with
_LATER_OPTIONS = {
    "decoder": "unet",
    "block": {},
    "head": "conv",
    "deep_supervision": False,
    "in_channels": 3,
    "mean": None,
    "std": None,
}
_LATER_TRAINING_OPTIONS: dict[str, Any] = {
    "class_weights": None,
    "optimizer": None,
    "scheduler": None,
    "scheduler_interval": "epoch",
    "freeze": [],
}
_LATER_BLOCK_OPTIONS = {
    "norm": "batch",
    "activation": "relu",
    "dropout": 0.0,
    "residual": False,
    "attention": "none",
    "merge": "concat",
}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's content, all of it plain containers and tensors.

    Attributes:
        path: Where it was read from.
        hyper_parameters: Arguments of the ``SegmentationTask``.
        data_settings: Arguments of the ``SegmentationDataModule``; empty if it was trained with another one.
        weights: State dict of the task.
        run_length: The trainer's max_epochs and max_steps.
        run: What ``fit`` noted beside: ``seed``, some of the ``trainer``'s settings, and its own ``options``.
    """

    path: Path
    hyper_parameters: dict[str, Any]
    data_settings: dict[str, Any]
    weights: dict[str, Tensor]
    run_length: dict[str, int | None]
    run: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their mask values."""
        return list(self.hyper_parameters["classes"])

    @property
    def mode(self) -> Mode:
        """What a pixel can be, see :data:`unetseg.config.Mode`."""
        mode: Mode = self.hyper_parameters["mode"]
        return mode

    def build_model(self) -> UNet:
        """The network with its weights, in eval mode, on the CPU; nothing is downloaded.

        Raises:
            CheckpointError: If the weights don't fit the network that the checkpoint describes.
        """
        names = (*_NETWORK_OPTIONS, *_LATER_OPTIONS)
        options = {name: self.hyper_parameters[name] for name in names}
        model = UNet(classes=num_logits(len(self.classes), self.mode), **options)
        try:
            model.load_state_dict(network_weights(self.weights))
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.path}: the weights don't fit the network that the checkpoint describes. Was it made by "
                f"another version of unetseg? ({str(error).splitlines()[-1].strip()})"
            ) from error
        return model.eval()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint that ``fit`` or a Lightning trainer saved of a ``SegmentationTask``.

    Args:
        path: The file, such as ``runs/version_0/best.ckpt``.

    Raises:
        CheckpointError: If there is no such file, or it isn't such a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint file {path}. `python -m unetseg fit` writes them to runs/version_N/best.ckpt."
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a class of its own for each way in which a file can be broken
        raise CheckpointError(
            f"{path} is not a checkpoint, or is damaged: {first_line(error)[:120]} Give the best.ckpt or "
            f"last.ckpt of a run."
        ) from error
    wanted = {"classes", *_NETWORK_OPTIONS}
    hyper_parameters = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    if not wanted <= set(hyper_parameters) or "state_dict" not in content:
        raise CheckpointError(
            f"{path} is not a checkpoint of unetseg: it lacks the network's description. Give the best.ckpt or "
            f"last.ckpt of a run."
        )
    hyper_parameters = _LATER_OPTIONS | _LATER_TRAINING_OPTIONS | {"mode": "multiclass"} | hyper_parameters
    hyper_parameters.setdefault("loss", default_terms(hyper_parameters["mode"]))
    return Checkpoint(
        path=path,
        hyper_parameters=hyper_parameters | {"block": _LATER_BLOCK_OPTIONS | hyper_parameters["block"]},
        data_settings=dict(content.get("datamodule_hyper_parameters", {})),
        weights=content["state_dict"],
        run_length=content.get("run_length", {}),
        run=content.get("run", {}),
    )


def network_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a ``UNet``, from its own or a task's, of a compiled one too.

    Example:
        >>> list(network_weights({"model._orig_mod.head.bias": torch.zeros(2), "loss.weight": torch.zeros(2)}))
        ['head.bias']
    """
    # torch.compile's prefix
    weights = {key.replace("_orig_mod.", ""): value for key, value in weights.items()}
    of_task = {key.removeprefix("model."): value for key, value in weights.items() if key.startswith("model.")}
    return of_task or weights
