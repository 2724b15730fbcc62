"""How the command line explains a mistake in its options: in one line, with the nearest name."""

import difflib
import re
import sys
from typing import ClassVar, NoReturn, get_args

from jsonargparse import ArgumentParser

from unetseg.config import Activation, Attention, Merge, Norm, UpsampleInit, UpsampleMethod

__all__ = ["ExplainingParser"]


class ExplainingParser(ArgumentParser):
    """Explains a mistake in a line or two instead of a page of usage.

    Attributes:
        examples: What can be typed for an option, by its name without dashes.
    """

    examples: ClassVar[dict[str, str]] = {
        "data.classes": "'[background, road]', or colours: '{background: [0, 0, 0], road: [128, 64, 128]}'",
        "data.coco": "instances.json, or '{train: train.json, val: val.json}'",
        "data.scale_range": "'[0.6, 1.6]'",
        "data.transforms": "'[HorizontalFlip, {Affine: {rotate: [-20, 20]}}]'",
        "data.value_map": "'{7: 0, 8: 1, 0: ignore}'",
        "model.class_weights": "auto, or one a class: '[1, 5]'",
        "model.decoder_channels": "'[256, 128, 64, 32, 16]'",
        "model.freeze": "'[encoder]'",
        "model.loss": "'{ce: 1, dice: 1}', or with options: '{ce: {weight: 1, label_smoothing: 0.1}}'",
        "model.optimizer": "SGD, or with arguments: '{SGD: {momentum: 0.9}}'",
        "model.scheduler": "'{CosineAnnealingLR: {T_max: run}}'",
        "model.upsample.kernel_size": "4, or one a stage, deepest first: '[4, 4, 3, 3, [4, 2]]'",
        "model.upsample.padding": "auto, or one a stage, deepest first: '[1, 1, auto, auto, auto]'",
    } | {
        f"model.{name}": f"{get_args(choices)[0]}; it can be {', '.join(get_args(choices))}, or a list of one a stage"
        for name, choices in {
            "upsample.method": UpsampleMethod,
            "upsample.init": UpsampleInit,
            "block.norm": Norm,
            "block.activation": Activation,
            "block.attention": Attention,
            "block.merge": Merge,
        }.items()
    }

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong, with an example or the option that was probably meant, and exit with code 2."""
        lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
        given = [line for line in lines[1:] if line.startswith("Given value:")]
        text = " ".join([lines[0], *(given[:1] or lines[1:2])])[:400]
        if key := next((key for key in self.examples if re.search(rf"\b{re.escape(key)}\b(?!_)", lines[0])), None):
            text += f" For example: --{key} {self.examples[key]}"
        parsers = [self, *(p for a in self._actions if isinstance(a.choices, dict) for p in a.choices.values())]
        options = {option for parser in parsers for action in parser._actions for option in action.option_strings}
        for word in re.findall(r"--[\w.]+|(?<=[Oo]ption ')[\w.]+|(?<=[Kk]ey ')[\w.]+", message):
            option = f"--{word.removeprefix('--')}"
            if option not in options and (close := difflib.get_close_matches(option, options, n=1)):
                text += f" Did you mean {close[0]}?"
                break
        sys.stderr.write(f"error: {text}\n")
        self.exit(2)
