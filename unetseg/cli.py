"""The verbs fit, validate and test: LightningCLI, whose settings a checkpoint brings along."""

import difflib
import logging
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import Namespace, lazy_instance  # type: ignore[attr-defined]  # public, but not in its __all__
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger

from unetseg.callbacks import BestAndLastCheckpoint, IoUTable
from unetseg.checkpoint import Checkpoint, read_checkpoint
from unetseg.config import UpsampleOptions
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.errors import CheckpointError
from unetseg.task import SegmentationTask

__all__ = ["main"]

RUNS = "runs"
DEFAULT_EPOCHS = 20


def main(args: Sequence[str]) -> None:
    """Run ``fit``, ``validate`` or ``test``.

    Args:
        args: The verb and its options.

    Raises:
        UnetsegError: For a mistake of the user's, to be shown without a traceback.
        SystemExit: With code 2, for options that can't be parsed (already explained), or 0 for ``--help``.
    """
    _quieten()
    _Command(
        SegmentationTask,
        SegmentationDataModule,
        args=list(args),
        parser_class=_Parser,
        parser_kwargs={verb: {"prog": f"python -m unetseg {verb}"} for verb in _Command.subcommands()},
        save_config_kwargs={"overwrite": True},  # a run's folder is new, so there is nothing to lose
        trainer_defaults={
            "max_epochs": DEFAULT_EPOCHS,
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


class _Parser(LightningArgumentParser):
    """Explains a mistake in a line or two instead of a page of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        text = " ".join(lines[:2])[:400]
        options = [option for action in self._actions for option in action.option_strings]
        for word in re.findall(r"--[\w.]+", message):
            if word not in options and (close := difflib.get_close_matches(word, options, n=1)):
                text += f" Did you mean {close[0]}?"
                break
        sys.stderr.write(f"error: {text}\n")
        self.exit(2)


class _Command(LightningCLI):
    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        # prediction is a verb of its own, which needs neither data settings nor a trainer
        hidden = {
            "model",
            "dataloaders",
            "train_dataloaders",
            "val_dataloaders",
            "datamodule",
            "weights_only",
        }
        return {verb: set(hidden) for verb in ("fit", "validate", "test")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # the data module knows the classes of the built-in data, so they are linked once it is built
        parser.link_arguments("data.classes", "model.classes", apply_on="instantiate")
        parser.link_arguments("data.ignore_index", "model.ignore_index")

    checkpoint: Checkpoint | None = None

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse once to learn of a checkpoint, and again with its settings as the defaults."""
        for verb in ("validate", "test"):
            self._parser(verb).set_defaults(verbose=False)  # the table of IoUs takes the place of Lightning's
        self.config = parser.parse_args(args)
        verb = str(self.config["subcommand"])
        path = self.config[verb].ckpt_path
        if path is not None:
            self.checkpoint = read_checkpoint(path)
            self._take_settings(self._parser(verb), self.checkpoint)
            self.config = parser.parse_args(args)
            _check_agreement(self.config[verb], self.checkpoint)
        elif verb != "fit":
            raise CheckpointError(f"{verb} needs --ckpt_path, for example --ckpt_path {RUNS}/version_0/best.ckpt.")
        if type(self.config[verb].seed_everything) is int and self.config[verb].trainer.deterministic is None:
            # a seed was given; "warn", because some CUDA operations have no deterministic form
            self.config[verb].trainer.deterministic = "warn"

    def _take_settings(self, parser: LightningArgumentParser, checkpoint: Checkpoint) -> None:
        settings = {f"data.{name}": value for name, value in checkpoint.data_settings.items()}
        settings["data.classes"] = checkpoint.classes
        for name, value in checkpoint.hyper_parameters.items():
            if name == "upsample":
                settings |= {f"model.upsample.{option}": setting for option, setting in value.items()}
            elif name not in ("classes", "ignore_index"):
                settings[f"model.{name}"] = value
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


def _check_agreement(config: Namespace, checkpoint: Checkpoint) -> None:
    """What was typed beside a checkpoint can't change the network that it holds."""
    if config.data.classes != checkpoint.classes:
        raise CheckpointError(
            f"--data.classes is {config.data.classes}; {checkpoint.path} was trained on {checkpoint.classes}. Leave "
            f"the option away, or fit a model of your own."
        )
    for name, saved in checkpoint.hyper_parameters.items():
        if name in ("classes", "encoder_weights"):
            continue
        given = config.model[name]
        if name == "upsample":
            given = UpsampleOptions.of(given.as_dict()).to_dict()
        if given != saved:
            raise CheckpointError(
                f"--model.{name} is {given}; {checkpoint.path} was trained with {saved}, and its settings hold. Leave "
                f"the option away."
            )
