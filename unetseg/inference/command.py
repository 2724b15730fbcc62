"""The verb predict: files and folders in, masks and what else was asked for out."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from unetseg.config import Precision
from unetseg.errors import DataError, OptionError
from unetseg.inference.augmentation import TTA
from unetseg.inference.base import BasePredictor
from unetseg.inference.gdal import has_rasterio
from unetseg.inference.inputs import plan_outputs
from unetseg.inference.outputs import OutputWriter, Save
from unetseg.inference.pipeline import FilePipeline, Outcome, predict_here
from unetseg.inference.tiling import Blend
from unetseg.verb_parser import VerbParser, count

if TYPE_CHECKING:
    from unetseg.inference.predictor import Predictor

__all__ = ["main"]


def main(args: Sequence[str]) -> int:
    """Predict every image, and write what was asked for.

    An image that can't be read is passed over and reported at the end, with its reason. With ``--model`` nothing of
    torch is loaded, unless the file is torch's own.

    Args:
        args: Options of the verb.

    Returns:
        0, or 1 if an image could not be read.

    Raises:
        UnetsegError: If there is nothing to predict, or the checkpoint isn't one.
    """
    options = _parser().parse_args(args)
    if options.output.exists() and not options.output.is_dir():
        raise DataError(f"--output {options.output} is a file; give a folder.")
    predictor = _from_checkpoint(options) if options.model is None else _exported(options)
    writer = OutputWriter(options.output, predictor.description, options.save)
    plan = plan_outputs(options.inputs, options.output, class_folders=writer.legend.folders or ())
    if options.skip_existing:
        writer.legend.check(options.output)
    if not has_rasterio() and any(source.suffix.lower() in (".tif", ".tiff") for source in plan):
        sys.stdout.write(
            "hint: TIFFs are read whole, and georeferencing is lost, without rasterio (pip install -e '.[raster]')\n"
        )
    pipeline = FilePipeline(
        predictor,
        writer,
        plan,
        batch_size=options.batch_size,
        threads=options.num_workers,
        skip_existing=options.skip_existing,
    )
    outcome = predict_here(pipeline) if options.model is not None else _with_lightning(predictor, pipeline, options)
    if outcome is None:
        return 0
    skipped = f", {outcome.skipped} were there" if outcome.skipped else ""
    sys.stdout.write(f"{outcome.written} of {len(plan)} images predicted to {options.output}{skipped}\n")
    if outcome.failures:
        sys.stderr.write(f"error: {len(outcome.failures)} of {len(plan)} images could not be predicted:\n")
        sys.stderr.writelines(f"  {failure}\n" for failure in outcome.failures)
    return 1 if outcome.failures else 0


def _from_checkpoint(options: argparse.Namespace) -> "Predictor":
    from unetseg.inference.predictor import Predictor

    return Predictor.from_checkpoint(
        options.ckpt_path,
        device="cpu",  # until Lightning knows which one this process has
        precision=options.precision,
        **_tiling(options),
    )


def _exported(options: argparse.Namespace) -> BasePredictor:
    """The network of a file, and what Lightning would do refused."""
    from unetseg.inference.exported import ExportedPredictor

    for name in ("precision", "devices", "num_nodes"):
        if getattr(options, name) != _TRAINER_DEFAULTS[name]:
            raise OptionError(
                f"--trainer.{name} is for a checkpoint (--ckpt_path); an exported network has a precision of its own, "
                f"and is computed by one process. Start one for each part of the images."
            )
    accelerator = {"cuda": "gpu"}.get(options.accelerator, options.accelerator)
    return ExportedPredictor(options.model, accelerator=accelerator, **_tiling(options))


def _tiling(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("tile", "overlap", "blend", "tta", "batch_size")}


def _with_lightning(predictor: Any, pipeline: FilePipeline, options: argparse.Namespace) -> Outcome | None:
    from unetseg.inference.job import predict_files
    from unetseg.trainer_messages import explained, quieten

    quieten()
    names = ("accelerator", "devices", "num_nodes")
    with explained():
        return predict_files(predictor, pipeline, trainer_options={name: getattr(options, name) for name in names})


_TRAINER_DEFAULTS = {"precision": "32-true", "devices": "auto", "num_nodes": 1}


def _parser() -> VerbParser:
    parser = VerbParser(
        "predict",
        "Write a mask for every image: an 8-bit palette PNG of the image's own size, whose values are "
        "the classes, and a legend of their names and colours. Where a pixel may have several classes, it is a mask of "
        "0 and 1 in a folder for each class. Georeferenced and very large TIFFs give TIFFs.",
    )
    add = parser.add_argument
    add("inputs", nargs="+", type=Path, metavar="INPUT", help="image files, and folders of them")
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--ckpt_path", type=Path, help="checkpoint of a fit: runs/.../best.ckpt")
    network.add_argument("--model", type=Path, help="file of an export instead: model.onnx, model.xml or model.pt2")
    add("--output", type=Path, required=True, help="folder for the masks")
    add("--save", type=_kinds, default=["mask"], metavar="KIND,...", help=f"any of {', '.join(get_args(Save))} (mask)")
    add("--skip_existing", action="store_true", help="pass over images whose outputs are there, to go on after a stop")
    tile_help = (
        "most rows and columns that the network sees at a time; none: whole images; auto: whole ones while its maps"
    )
    add("--tile", type=_tile, default="auto", metavar="PIXELS", help=f"{tile_help} take 4 GiB, else 1024 (auto)")
    overlap_help = "that neighbouring tiles share, two fifths of a tile at most (128, or as many)"
    add("--overlap", type=int, metavar="PIXELS", help=overlap_help)
    add("--blend", choices=get_args(Blend), default="gaussian", help="how tiles pass into each other (gaussian)")
    add("--tta", choices=get_args(TTA), default="none", help="mean over mirrored, turned or scaled views (none)")
    add("--batch_size", type=count, default=1, metavar="N", help="images of one size, or tiles, at a time (1)")
    workers = min(4, os.cpu_count() or 1)
    workers_help = f"threads that read, and as many that write ({workers})"
    add("--num_workers", type=count, default=workers, metavar="N", help=workers_help)
    precisions = get_args(Precision)
    add(
        "--trainer.precision",
        dest="precision",
        choices=precisions,
        help="lower is for GPUs (32-true)",
    )
    add("--trainer.accelerator", dest="accelerator", default="auto", metavar="NAME", help="auto, cpu, gpu, ... (auto)")
    devices_help = "processes, each with a device, or which devices: 1,3; auto: all GPUs, else one process (auto)"
    add("--trainer.devices", dest="devices", type=_devices, metavar="N", help=devices_help)
    add("--trainer.num_nodes", dest="num_nodes", type=count, metavar="N", help="machines (1)")
    parser.set_defaults(**_TRAINER_DEFAULTS)
    return parser


def _kinds(text: str) -> list[Save]:
    kinds = [kind.strip() for kind in text.split(",") if kind.strip()]
    if unknown := [kind for kind in kinds if kind not in get_args(Save)]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} can't be saved; it can be any of {', '.join(get_args(Save))}")
    if not kinds:
        raise argparse.ArgumentTypeError(f"nothing would be saved; give any of {', '.join(get_args(Save))}")
    return kinds  # type: ignore[return-value]  # they are in the list


def _tile(text: str) -> int | Literal["auto"] | None:
    if text in ("auto", "none"):
        return "auto" if text == "auto" else None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size in pixels, such as 1024, nor auto or none")
    return int(text)


def _devices(text: str) -> str:
    numbers = text.removesuffix(",").split(",")
    if text not in ("auto", "-1") and (text == "0" or not all(number.isdecimal() for number in numbers)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes, such as 2, nor devices, such as 0,2")
    return text
