"""The verbs fit, validate and test: LightningCLI, whose settings a checkpoint brings along."""

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jsonargparse import Namespace
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from unetseg.callbacks import RunRecord
from unetseg.checkpoint import Checkpoint, read_checkpoint
from unetseg.checkpoint_io import AtomicCheckpointIO
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.errors import CheckpointError, OptionError, first_line
from unetseg.parser import ExplainingParser
from unetseg.resuming import ONCE, check_agreement, run_settings, settings_of
from unetseg.run_options import RunOptions, run_callbacks, run_loggers
from unetseg.task import SegmentationTask
from unetseg.trainer_messages import explained, quieten
from unetseg.tuning import find_batch_size, find_lr

__all__ = ["main"]

DEFAULT_EPOCHS = 40
_LEAST = {  # below which Lightning divides by zero, or takes it for something else
    "accumulate_grad_batches": 1,
    "gradient_clip_val": 0,
    "check_val_every_n_epoch": 1,
    "val_check_interval": 1e-6,
}

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
    quieten()
    with explained():
        _run(args)


def _run(args: Sequence[str]) -> None:
    _Command(
        SegmentationTask,
        SegmentationDataModule,
        args=list(args),
        parser_class=_Parser,
        # options are typed whole: a cut one may be another tomorrow
        parser_kwargs={"allow_abbrev": False}
        | {verb: {"prog": f"python -m unetseg {verb}", "allow_abbrev": False} for verb in _Command.subcommands()},
        save_config_callback=_SavedConfig,
        load_from_checkpoint_support=False,  # task and data module store plain arguments by themselves
        save_config_kwargs={"overwrite": True},  # a run's folder is new, so there is nothing to lose
        trainer_defaults={
            "max_epochs": DEFAULT_EPOCHS,
            "default_root_dir": RunOptions.folder,
            "enable_model_summary": False,
            "log_every_n_steps": 10,
        },
    )


class _Parser(ExplainingParser, LightningArgumentParser):
    """Lightning's parser, which explains mistakes."""


class _SavedConfig(SaveConfigCallback):
    """Writes ``config.yaml``, which some options of other packages' callbacks can't be written to."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        try:
            super().setup(trainer, pl_module, stage)
        except ValueError as error:  # of jsonargparse
            sys.stdout.write(f"hint: no config.yaml was written: {first_line(error)}\n")


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
        if str(parser.prog).endswith(" fit"):
            parser.add_class_arguments(RunOptions, "run")

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
            known = {action.dest for action in self._parser(verb)._actions}
            settings = settings_of(self.checkpoint, training=verb == "fit")
            self._parser(verb).set_defaults({name: value for name, value in settings.items() if name in known})
            self.config = parser.parse_args(args)
            check_agreement(self.config[verb], self.checkpoint)
            if not self.checkpoint.data_settings and self._has_no_data(verb):
                raise CheckpointError(f"{path} holds no data settings, as it wasn't made by `fit`; give --data.root.")
        elif verb != "fit":
            example = f"{RunOptions.folder}/version_0/best.ckpt"
            raise CheckpointError(f"{verb} needs --ckpt_path, for example --ckpt_path {example}.")
        elif self._has_no_data(verb):
            settings = dict(BUILT_IN)
            if self.config[verb].model.encoder_depth == len(BUILT_IN_DECODER_CHANNELS):
                blocks = len(BUILT_IN_DECODER_CHANNELS) - (self.config[verb].model.head == "upsample")
                settings["model.decoder_channels"] = BUILT_IN_DECODER_CHANNELS[:blocks]
            self._parser(verb).set_defaults(settings)
            self.config = parser.parse_args(args)
        _check_settings(self.config[verb], resumed=path is not None)
        seeded = type(self.config[verb].seed_everything) is int  # without a seed it is True
        recorded = self.checkpoint is not None and self.checkpoint.run  # which a resumed run goes on with
        if seeded and not recorded and self.config[verb].trainer.deterministic is None and torch.cuda.is_available():
            # "warn": some CUDA operations have no deterministic form; those of a CPU need no other
            self.config[verb].trainer.deterministic = "warn"

    def _has_no_data(self, verb: str) -> bool:
        return self.config[verb].data.root is None and self.config[verb].data.shards is None

    def _parse_ckpt_path(self) -> None:
        """Lightning's own way takes the model's settings only, and over what was typed."""

    def before_instantiate_classes(self) -> None:
        if self.checkpoint:
            # the checkpoint's weights follow
            self.config[str(self.subcommand)].model.encoder_weights = None
            self.config[str(self.subcommand)].model.init_from = None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """With loggers, checkpoints and callbacks of our own beside those that were asked for."""
        config = self.config_init[str(self.subcommand)]
        options = config.get("run") or RunOptions()
        if config.trainer.default_root_dir == RunOptions.folder:
            kwargs["default_root_dir"] = options.folder  # what has no logger is written there
        logger, plugins = config.trainer.logger, _listed(config.trainer.plugins)
        if logger is not False:
            kwargs["logger"] = [*run_loggers(options), *(_listed(logger) if logger is not True else [])]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, AtomicCheckpointIO()]
        record = RunRecord(run_settings(config.trainer, options))
        callbacks = [*run_callbacks(options), record]
        if config.trainer.enable_checkpointing is False:
            callbacks = [callback for callback in callbacks if not isinstance(callback, ModelCheckpoint)]
        kwargs["callbacks"] = [*_listed(config.trainer.callbacks), *callbacks]
        _expect_missing_callbacks(everything=self.subcommand != "fit")
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Look for a batch size and a learning rate if that was asked for."""
        options = self.config_init.fit.run
        if options.find_batch_size:
            find_batch_size(self.trainer, self.model, self.datamodule)
        if options.find_lr:
            find_lr(self.trainer, self.model, self.datamodule)

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
        if self.model.transfer:
            sys.stdout.write(f"{self.model.transfer}\n")
        model = self.config[str(self.subcommand)].model
        if self.subcommand == "fit" and not (self.checkpoint or model.encoder_weights or model.init_from):
            sys.stdout.write(
                f"hint: the encoder {model.encoder} starts from random weights; pretrained ones usually help "
                f"(--model.encoder_weights imagenet)\n"
            )


def _expect_missing_callbacks(*, everything: bool) -> None:
    """Let Lightning say nothing of a checkpoint's callbacks that aren't here: a validation or a test needs none."""
    own = r"\['(WeightAverage|Patience\{.*\})'\]|\[\"Patience\{.*\}\"\]"  # which were switched off
    which = "" if everything else f".*Please add the following callbacks: ({own})"
    warnings.filterwarnings("ignore", f"Be aware that when using `ckpt_path`{which}")


def _check_settings(config: Namespace, *, resumed: bool) -> None:
    for name, least in _LEAST.items():
        value = config.trainer[name]
        if isinstance(value, int | float) and value < least:
            raise OptionError(
                f"trainer.{name} is {value}; it must be {'above 0' if 0 < least < 1 else f'at least {least}'}."
            )
    for name in ONCE if resumed else ():
        if "run" in config and config.run[name]:
            raise OptionError(
                f"run.{name} looks before a run begins, and --ckpt_path goes on with one. Leave it out; or begin a run "
                f"of its own from these weights: --model.init_from {config.ckpt_path}."
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


def _listed(value: Any) -> list[Any]:
    """What may be nothing, one or several, as a list."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
