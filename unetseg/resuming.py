"""What a checkpoint brings along to a run that goes on from it, and what can't be typed beside it."""

import os
from datetime import timedelta
from typing import Any

from jsonargparse import Namespace

from unetseg.checkpoint import Checkpoint
from unetseg.config import BlockOptions, UpsampleOptions, plain
from unetseg.data.masks import IGNORE
from unetseg.errors import CheckpointError
from unetseg.run_options import RunOptions

__all__ = ["ONCE", "check_agreement", "run_settings", "settings_of"]

OPTION_GROUPS: dict[str, type[UpsampleOptions] | type[BlockOptions]] = {
    "upsample": UpsampleOptions,
    "block": BlockOptions,
}
_LINKED = ("classes", "mode", "ignore_index", "in_channels")  # the model's arguments that the data brings
_TRAINER_SETTINGS = (
    "precision",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "check_val_every_n_epoch",
    "val_check_interval",
    "limit_train_batches",
    "limit_val_batches",
    "sync_batchnorm",
    "deterministic",
    "overfit_batches",
    "max_time",
)
ONCE = ("find_lr", "find_batch_size")  # run options that a resumed run has behind it


def run_settings(trainer: Namespace, options: RunOptions) -> dict[str, Any]:
    """What a run's checkpoints note of it, for :func:`settings_of`: plain containers.

    Args:
        trainer: The trainer's settings.
        options: The run's.
    """
    return {
        "seed": int(os.environ["PL_GLOBAL_SEED"]) if "PL_GLOBAL_SEED" in os.environ else None,
        "trainer": {name: _recordable(trainer[name]) for name in _TRAINER_SETTINGS},
        "options": {name: value for name, value in vars(options).items() if name not in ONCE},
    }


def _recordable(value: Any) -> Any:
    """As a checkpoint may hold it; a span of time in Lightning's notation."""
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        return f"{seconds // 86400:02}:{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return plain(value)


def settings_of(checkpoint: Checkpoint, *, training: bool) -> dict[str, Any]:
    """The settings that a checkpoint was made with, by the names of options.

    Args:
        checkpoint: What ``fit`` wrote.
        training: Whether it is trained on; a validation or a test has limits of its own.
    """
    settings = {f"data.{name}": value for name, value in checkpoint.data_settings.items()}
    settings.setdefault("data.classes", checkpoint.classes)
    for name, value in checkpoint.hyper_parameters.items():
        if name in OPTION_GROUPS:
            settings |= {f"model.{name}.{option}": setting for option, setting in value.items()}
        elif name not in _LINKED:
            settings[f"model.{name}"] = value
    settings |= {f"trainer.{name}": value for name, value in checkpoint.run_length.items() if value is not None}
    settings |= {
        f"trainer.{name}": value
        for name, value in checkpoint.run.get("trainer", {}).items()
        if training or name == "precision"
    }
    settings |= {f"run.{name}": value for name, value in checkpoint.run.get("options", {}).items()}
    if checkpoint.run.get("seed") is not None:
        settings["seed_everything"] = checkpoint.run["seed"]
    return settings


def check_agreement(config: Namespace, checkpoint: Checkpoint) -> None:
    """Refuse what was typed beside a checkpoint and can't be had with it; what was left open follows it.

    Args:
        config: A verb's settings; those that are None are set.
        checkpoint: What they go with.

    Raises:
        CheckpointError: If an option differs from what the network was trained with.
    """
    if config.data.classes is None:
        config.data.classes = checkpoint.classes
    mode = config.data.mode or ("multilabel" if config.data.mask_format == "multilabel" else "multiclass")
    if mode != checkpoint.mode:
        option = "mode" if config.data.mode else "mask_format"
        raise CheckpointError(
            f"--data.{option} is {config.data[option]}; {checkpoint.path} was trained on {checkpoint.mode} data. Leave "
            f"the option away, or fit a model of your own."
        )
    if [name for name in config.data.classes if name != IGNORE] != checkpoint.classes:
        raise CheckpointError(
            f"--data.classes is {config.data.classes}; {checkpoint.path} was trained on {checkpoint.classes}. Leave "
            f"the option away, or fit a model of your own."
        )
    seed = checkpoint.run.get("seed")
    typed = config.seed_everything if "run" in config else True  # a validation draws nothing; without a seed it is True
    if type(typed) is int and seed is not None and typed != seed:
        raise CheckpointError(
            f"--seed_everything is {typed}; {checkpoint.path} is of a run with {seed}, from which the "
            f"order of its epochs follows. Leave the option away."
        )
    for name, saved in checkpoint.hyper_parameters.items():
        if name in ("classes", "mode", "encoder_weights", "init_from", "compile") or name not in config.model:
            continue
        given = config.model[name]
        if (name, given) == ("class_weights", "auto"):
            given = None  # they have been counted
        if name in OPTION_GROUPS:
            given, saved = (OPTION_GROUPS[name].of(options).to_dict() for options in (given.as_dict(), saved))
        if given is None:
            config.model[name] = saved
        elif given != saved:
            option = f"data.{name}" if name in _LINKED else f"model.{name}"
            raise CheckpointError(
                f"--{option} is {given}; {checkpoint.path} was trained with {saved}, and its settings hold. Leave "
                f"the option away; or begin a run of its own from these weights: --model.init_from "
                f"{checkpoint.path}."
            )
