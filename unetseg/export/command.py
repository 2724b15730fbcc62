"""The verb export: a checkpoint becomes a file that runs without this package, and proves itself."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from unetseg.errors import DataError
from unetseg.export.exporting import Exported, export
from unetseg.export.formats import DEFAULT_OPSET
from unetseg.export.network import ExportPrecision
from unetseg.export.verification import Check
from unetseg.inference.predictor import Predictor
from unetseg.inference.runtimes import ExportFormat
from unetseg.verb_parser import VerbParser, count

__all__ = ["main"]


def main(args: Sequence[str]) -> int:
    """Export a checkpoint's network.

    Args:
        args: Options of the verb.

    Returns:
        0.

    Raises:
        UnetsegError: If it can't be exported, or the file doesn't compute what the network does.
    """
    options = _parser().parse_args(args)
    if options.output.is_dir():
        raise DataError(f"--output {options.output} is a folder; give a file, such as {options.output / 'model.onnx'}.")
    predictor = Predictor.from_checkpoint(options.ckpt_path, device="cpu")
    sys.stdout.write(f"{'batch x size':>16}  {'largest logit':>13}  {'difference':>10}\n")
    exported = export(
        predictor,
        options.output,
        file_format=options.format,
        precision=options.precision,
        argmax=options.argmax,
        size=None if options.size is None else tuple(options.size),
        opset=options.opset,
        on_check=_tell,
    )
    sys.stdout.write(_summary(exported))
    return 0


def _tell(check: Check) -> None:
    size = f"{check.batch} x {check.size[1]}x{check.size[0]}"
    difference = f"{check.difference:.2%}" if check.classes else f"{check.difference:.2e}"
    sys.stdout.write(f"{size:>16}  {check.scale:>13.3f}  {difference:>10}\n")
    sys.stdout.flush()


def _summary(exported: Exported) -> str:
    description, worst = exported.description, exported.worst
    if description.size is None:
        taken = "any batch, height and width"
        taken += "" if description.min_size == 1 else f" from {description.min_size} pixels on"
    else:
        taken = f"one image of {description.size[1]}x{description.size[0]}"
    if worst.classes:
        proof = "no class differs where logits aren't as close as rounding"
    else:
        share = worst.difference / (worst.scale or 1)
        proof = f"largest difference {worst.difference:.2e}, {share:.1e} of the largest logit"
        proof += f" ({exported.tolerance:g} allowed)"
    opset = "" if exported.opset is None else f", opset {exported.opset}"
    return (
        f"{exported.path}: {exported.file_bytes / 1e6:.1f} MB{opset}; takes {taken}; gives {description.output}\n"
        f"verified at {len(exported.checks)} sizes: {proof}\n"
    )


def _parser() -> VerbParser:
    parser = VerbParser(
        "export",
        "Write a checkpoint's network as a file that runs without PyTorch, for images of any size, normalisation "
        "inside. It is compared with the network before it appears; where they differ, no file is left.",
    )
    add = parser.add_argument
    add("--ckpt_path", type=Path, required=True, help="checkpoint of a fit: runs/.../best.ckpt")
    add("--output", type=Path, required=True, help="file to write: model.onnx, model.pt2 (torch), model.xml (OpenVINO)")
    add("--format", choices=get_args(ExportFormat), help="by the suffix of --output if it isn't given")
    precisions = get_args(ExportPrecision)
    add("--precision", choices=precisions, default="32-true", help="of weights; 16-true is float16 (32-true)")
    add("--argmax", action="store_true", help="give classes, not logits: then no tiles, averaging or probabilities")
    size_help = "take one image of this size only, for runtimes that want that, such as TensorRT"
    add("--size", type=count, nargs=2, metavar=("HEIGHT", "WIDTH"), help=size_help)
    add("--opset", type=count, default=DEFAULT_OPSET, metavar="N", help=f"of ONNX ({DEFAULT_OPSET})")
    return parser
