"""The verb inspect: a network's geometry at one image size, as a table, as JSON and as a drawing."""

import dataclasses
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from jsonargparse import SUPPRESS, ActionConfigFile, Namespace  # type: ignore[attr-defined]  # public, not in __all__
from jsonargparse.typing import PositiveInt

from unetseg.checkpoint import read_checkpoint
from unetseg.data.masks import IGNORE
from unetseg.errors import CheckpointError, OptionError
from unetseg.inspection.measure import Inspection, Upsampling, inspect_model
from unetseg.inspection.plot import check_plot_file, plot_upsampling
from unetseg.inspection.table import render_table
from unetseg.model import UNet
from unetseg.parser import ExplainingParser
from unetseg.task import SegmentationTask

__all__ = ["main"]

DEFAULT_SIZE = [256, 256]
DEFAULT_CLASSES = 2
# what a run's config.yaml holds besides the model
_OTHER_SECTIONS = ("data", "trainer", "seed_everything", "optimizer", "lr_scheduler", "weights_only")


def main(args: Sequence[str]) -> None:
    """Print what a network does at an image size.

    Nothing is computed and nothing downloaded: weights don't matter to the geometry.

    Args:
        args: Options of the verb.

    Raises:
        UnetsegError: If the network or the size can't be, or the options don't go together.
        SystemExit: With code 2, for options that can't be parsed (already explained), or 0 for ``--help``.
    """
    options = _parser().parse_args(list(args))
    if options.plot is None and options.plot_stage is not None:
        raise OptionError(f"--plot_stage {options.plot_stage} needs --plot FILE.png, the file to draw to.")
    if options.plot is not None:
        check_plot_file(options.plot)
    if options.json is not None and not options.json.parent.is_dir():
        raise OptionError(f"--json is {options.json}; there is no folder {options.json.parent}.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = _build(args, options)
    notes = list(dict.fromkeys(str(warning.message) for warning in caught))
    inspection = inspect_model(model, options.size)
    said = _write_files(options, inspection, notes)
    config: dict[str, Any] = model.config
    method = config["upsample"]["method"]
    methods = [method] if isinstance(method, str) else method
    sys.stdout.write(render_table(inspection, decoder=config["decoder"], methods=methods, notes=notes) + said)


class _Parser(ExplainingParser):
    examples: ClassVar[dict[str, str]] = ExplainingParser.examples | {"size": "251 333", "classes": "12"}


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m unetseg inspect",
        description="What a network does to an image of a given size: a table of sizes, signed output padding, "
        "parameters and FLOPs, a line a stage. Any --model option of `fit` can be given, or a checkpoint.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", action=ActionConfigFile, help="recipe, such as configs/camvid.yaml: its model")
    parser.add_argument("--ckpt_path", type=Path | None, help="checkpoint of a fit, in place of --model options")
    parser.add_argument(
        "--size",
        type=PositiveInt,
        nargs=2,
        metavar=("H", "W"),
        default=DEFAULT_SIZE,
        help="the image's height and width",
    )
    parser.add_argument(
        "--classes",
        type=PositiveInt | None,
        help=f"number of classes; those of a --config or a checkpoint, else {DEFAULT_CLASSES}",
    )
    parser.add_argument("--plot", type=Path | None, metavar="FILE.png", help="draw how a stage aligns its grids")
    parser.add_argument(
        "--plot_stage",
        type=int | None,
        metavar="I",
        help="stage to draw, 0 is the deepest; without it the first whose output padding isn't 0, or the last",
    )
    parser.add_argument("--json", type=Path | None, metavar="FILE", help="write what the table shows as JSON, too")
    parser.add_class_arguments(SegmentationTask, "model", skip={"classes", "ignore_index", "mode"}, sub_configs=True)
    for section in _OTHER_SECTIONS:
        parser.add_argument(f"--{section}", type=dict[str, Any] | None if section == "data" else Any, help=SUPPRESS)
    return parser


def _build(args: Sequence[str], options: Namespace) -> UNet:
    typed = [word.split("=")[0] for word in args if word.startswith("--")]
    if options.ckpt_path is not None and "--ckpt_path" in typed:  # that of a --config is what its run began from
        if other := [word for word in typed if word.split(".")[0] in ("--model", "--config", "--classes")]:
            raise CheckpointError(
                f"{other[0]} and --ckpt_path don't go together: a checkpoint brings its own network and classes. Leave "
                f"one of them away."
            )
        return read_checkpoint(options.ckpt_path).build_model()
    settings = options.model.as_dict() | {"encoder_weights": None}  # the geometry doesn't depend on them
    data = options.data or {}
    if "in_channels" in data:  # a recipe says it of the data
        settings["in_channels"] = data["in_channels"]
    names = [name for name in data.get("classes") or () if name != IGNORE]
    classes = options.classes or len(names) or DEFAULT_CLASSES
    return SegmentationTask([f"class {i}" for i in range(classes)], **settings).model


def _write_files(options: Namespace, inspection: Inspection, notes: Sequence[str]) -> str:
    """Write what was asked for, and say so."""
    said = ""
    if options.plot is not None:
        layer = _layer_to_draw(inspection.upsamplings, options.plot_stage)
        axis = plot_upsampling(layer, options.plot)
        said += f"\n{layer.label}, {axis}, drawn to {options.plot}\n"
    if options.json is not None:
        content = dataclasses.asdict(inspection) | {"warnings": list(notes)}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        said += f"\ntable written to {options.json}\n"
    return said


def _layer_to_draw(layers: Sequence[Upsampling], stage: int | None) -> Upsampling:
    if stage is None:
        return next((layer for layer in layers if any(layer.output_padding or ())), layers[-1])
    if not 0 <= stage < len(layers):
        raise OptionError(
            f"--plot_stage is {stage}; this network upsamples in stages 0 (deepest) to {len(layers) - 1}."
        )
    return layers[stage]
