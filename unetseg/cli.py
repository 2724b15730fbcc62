"""The verbs fit, validate and test: LightningCLI, whose settings a checkpoint brings along."""

import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jsonargparse import Namespace, lazy_instance  # type: ignore[attr-defined]  # public, but not in its __all__
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger

from unetseg.callbacks import BestAndLastCheckpoint, IoUTable
from unetseg.checkpoint import Checkpoint, read_checkpoint
from unetseg.config import BlockOptions, UpsampleOptions
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.data.masks import IGNORE
from unetseg.errors import CheckpointError, UnetsegError
from unetseg.parser import ExplainingParser
from unetseg.task import SegmentationTask

__all__ = ["main"]

OPTION_GROUPS: dict[str, type[UpsampleOptions] | type[BlockOptions]] = {
    "upsample": UpsampleOptions,
    "block": BlockOptions,
}
RUNS = "runs"
_LINKED = ("classes", "mode", "ignore_index", "in_channels")  # the model's arguments that the data brings
DEFAULT_EPOCHS = 40

# Without --data.root: what learns the built-in scenes in about two minutes on two cores. Typed options come before.
BUILT_IN: dict[str, Any] = {"model.lr": 3e-3, "trainer.max_epochs": 9}
BUILT_IN_DECODER_CHANNELS = [128, 64, 32, 16, 8]


def main(args: Sequence[str]) -> None:
    """Run ``fit``, ``validate`` or ``test``.

    Args:
        args: The verb and its options.

    Raises:
        UnetsegError: For a mistake of the user's, to be shown without a traceback.
        SystemExit: With code 2, for options that can't be parsed (already explained), or 0 for ``--help``.
    """
    _quieten()
    try:
        _run(args)
    except MisconfigurationException as error:  # Lightning's word for options that don't go together
        raise UnetsegError(str(error).splitlines()[0]) from error


def _run(args: Sequence[str]) -> None:
    _Command(
        SegmentationTask,
        SegmentationDataModule,
        args=list(args),
        parser_class=_Parser,
        # options are typed whole: a cut one may be another tomorrow
        parser_kwargs={"allow_abbrev": False}
        | {verb: {"prog": f"python -m unetseg {verb}", "allow_abbrev": False} for verb in _Command.subcommands()},
        load_from_checkpoint_support=False,  # task and data module store plain arguments by themselves
        save_config_kwargs={"overwrite": True},  # a run's folder is new, so there is nothing to lose
        trainer_defaults={
            "max_epochs": DEFAULT_EPOCHS,
            "default_root_dir": RUNS,
            "enable_model_summary": False,
            "log_every_n_steps": 10,
            "logger": lazy_instance(CSVLogger, save_dir=RUNS, name=""),
            "callbacks": [BestAndLastCheckpoint(), IoUTable()],
        },
    )


def _quieten() -> None:
    """Leave out what Lightning says of things that are as they should be here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for message in (
        "No seed found",  # then it is 0
        "Checkpoint directory .* exists",  # the configuration has just been written to it
        ".*LeafSpec",  # Lightning's own use of torch
        ".*smaller than the logging interval",
        ".*does not have many workers",  # the data module chooses them by the cores
    ):
        warnings.filterwarnings("ignore", message)


class _Parser(ExplainingParser, LightningArgumentParser):
    """Lightning's parser, which explains mistakes."""


class _Command(LightningCLI):
    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        # prediction is a verb of its own, which needs neither data settings nor a trainer
        hidden = {"model", "dataloaders", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"}
        return {verb: set(hidden) for verb in ("fit", "validate", "test")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # the data module knows the classes of the built-in data, so they are linked once it is built
        parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")
        parser.link_arguments("data.mode", "model.mode", apply_on="instantiate")
        parser.link_arguments("data.ignore_index", "model.ignore_index")
        parser.link_arguments("data.in_channels", "model.in_channels")

    checkpoint: Checkpoint | None = None

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse once to learn of a checkpoint and of the data, and again with the defaults that these bring."""
        for verb in ("validate", "test"):
            self._parser(verb).set_defaults(verbose=False)  # the table of IoUs takes the place of Lightning's
        args = _checkpoint_last(args)
        self.config = parser.parse_args(args)
        verb = str(self.config["subcommand"])
        path = self.config[verb].ckpt_path
        if path is not None:
            self.checkpoint = read_checkpoint(path)
            self._take_settings(self._parser(verb), self.checkpoint)
            self.config = parser.parse_args(args)
            _check_agreement(self.config[verb], self.checkpoint)
            if not self.checkpoint.data_settings and self._has_no_data(verb):
                raise CheckpointError(f"{path} holds no data settings, as it wasn't made by `fit`; give --data.root.")
        elif verb != "fit":
            raise CheckpointError(f"{verb} needs --ckpt_path, for example --ckpt_path {RUNS}/version_0/best.ckpt.")
        elif self._has_no_data(verb):
            settings = dict(BUILT_IN)
            if self.config[verb].model.encoder_depth == len(BUILT_IN_DECODER_CHANNELS):
                blocks = len(BUILT_IN_DECODER_CHANNELS) - (self.config[verb].model.head == "upsample")
                settings["model.decoder_channels"] = BUILT_IN_DECODER_CHANNELS[:blocks]
            self._parser(verb).set_defaults(settings)
            self.config = parser.parse_args(args)
        seeded = type(self.config[verb].seed_everything) is int  # without a seed it is True
        if seeded and self.config[verb].trainer.deterministic is None and torch.cuda.is_available():
            # "warn": some CUDA operations have no deterministic form; those of a CPU need no other
            self.config[verb].trainer.deterministic = "warn"

    def _has_no_data(self, verb: str) -> bool:
        return self.config[verb].data.root is None and self.config[verb].data.shards is None

    def _take_settings(self, parser: LightningArgumentParser, checkpoint: Checkpoint) -> None:
        settings = {f"data.{name}": value for name, value in checkpoint.data_settings.items()}
        settings.setdefault("data.classes", checkpoint.classes)
        for name, value in checkpoint.hyper_parameters.items():
            if name in OPTION_GROUPS:
                settings |= {f"model.{name}.{option}": setting for option, setting in value.items()}
            elif name not in _LINKED:
                settings[f"model.{name}"] = value
        settings |= {f"trainer.{name}": value for name, value in checkpoint.run_length.items() if value is not None}
        known = {action.dest for action in parser._actions}
        parser.set_defaults({name: value for name, value in settings.items() if name in known})

    def _parse_ckpt_path(self) -> None:
        """Lightning's own way takes the model's settings only, and over what was typed."""

    def before_instantiate_classes(self) -> None:
        if self.checkpoint:
            self.config[str(self.subcommand)].model.encoder_weights = None  # the checkpoint's weights follow

    def after_instantiate_classes(self) -> None:
        """Say what is about to run."""
        if not self.trainer.is_global_zero:
            return
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        device = f"{self.trainer.num_devices} x {self.trainer.strategy.root_device.type}"
        sys.stdout.write(
            f"{self.datamodule.description}\nmodel: {self.model.model.encoder_name} UNet, {parameters / 1e6:.1f} M "
            f"parameters, on {device}\n"
        )
        model = self.config[str(self.subcommand)].model
        if self.subcommand == "fit" and self.checkpoint is None and model.encoder_weights is None:
            sys.stdout.write(
                f"hint: the encoder {model.encoder} starts from random weights; pretrained ones usually help "
                f"(--model.encoder_weights imagenet)\n"
            )


def _checkpoint_last(args: Sequence[str]) -> list[str]:
    """Move ``--ckpt_path`` behind a ``--config``, which would set it to what an earlier run began from."""
    others, checkpoint = [], []
    remaining = iter(args)
    for word in remaining:
        if word == "--ckpt_path":
            checkpoint = [word, *[value for value in [next(remaining, None)] if value is not None]]
        elif word.startswith("--ckpt_path="):
            checkpoint = [word]
        else:
            others.append(word)
    return others + checkpoint


def _check_agreement(config: Namespace, checkpoint: Checkpoint) -> None:
    """What was typed beside a checkpoint can't change the network that it holds; what was left open follows it."""
    if config.data.classes is None:
        config.data.classes = checkpoint.classes
    mode = "multilabel" if config.data.mask_format == "multilabel" else "multiclass"
    if mode != checkpoint.mode:
        raise CheckpointError(
            f"--data.mask_format is {config.data.mask_format}; {checkpoint.path} was trained on {checkpoint.mode} "
            f"data. Leave the option away, or fit a model of your own."
        )
    if [name for name in config.data.classes if name != IGNORE] != checkpoint.classes:
        raise CheckpointError(
            f"--data.classes is {config.data.classes}; {checkpoint.path} was trained on {checkpoint.classes}. Leave "
            f"the option away, or fit a model of your own."
        )
    for name, saved in checkpoint.hyper_parameters.items():
        if name in ("classes", "mode", "encoder_weights") or name not in config.model:
            continue
        given = config.model[name]
        if name in OPTION_GROUPS:
            given, saved = (OPTION_GROUPS[name].of(options).to_dict() for options in (given.as_dict(), saved))
        if given is None:
            config.model[name] = saved
        elif given != saved:
            option = f"data.{name}" if name in _LINKED else f"model.{name}"
            raise CheckpointError(
                f"--{option} is {given}; {checkpoint.path} was trained with {saved}, and its settings hold. Leave "
                f"the option away."
            )
