"""The verb predict: files and folders in, masks out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from unetseg.errors import DataError, ImageError
from unetseg.inference.inputs import plan_outputs
from unetseg.inference.outputs import MaskWriter
from unetseg.inference.predictor import Predictor

__all__ = ["main"]


def main(args: Sequence[str]) -> int:
    """Write a mask for every image.

    An image that can't be read is passed over and reported at the end, with its reason.

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
    outputs = plan_outputs(options.inputs, options.output)
    predictor = Predictor.from_checkpoint(options.ckpt_path, device=options.device)
    writer = MaskWriter(options.output, predictor, overlays=options.save_overlay)
    failures: list[str] = []
    for source, stem in tqdm(outputs.items(), desc="predict", unit="image", disable=None):
        try:
            image = predictor.read(source)
            classes = predictor(image)
        except ImageError as error:
            failures.append(_about(source, error))
            continue
        writer.write(options.output / f"{stem}.png", image, classes)
    sys.stdout.write(f"{len(outputs) - len(failures)} of {len(outputs)} masks written to {options.output}\n")
    if failures:
        sys.stderr.write(f"error: {len(failures)} of {len(outputs)} images gave no mask:\n")
        sys.stderr.writelines(f"  {failure}\n" for failure in failures)
    return 1 if failures else 0


def _about(source: Path, error: ImageError) -> str:
    text = str(error)
    return text if str(source) in text else f"{source}: {text}"


class _Parser(argparse.ArgumentParser):
    """Explains a mistake in one line instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}. See `python -m unetseg predict --help`.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m unetseg predict",
        description="Write a mask for every image: an 8-bit palette PNG of the image's own size, whose values are "
        "the classes, and a legend of their names and colours. Where a pixel may have several classes, it is a mask of "
        "0 and 1 in a folder for each class.",
        allow_abbrev=False,
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="image files, and folders of them")
    parser.add_argument("--ckpt_path", type=Path, required=True, help="checkpoint of a fit: runs/.../best.ckpt")
    parser.add_argument("--output", type=Path, required=True, help="folder for the masks")
    parser.add_argument("--save_overlay", action="store_true", help="write the image with the classes over it, too")
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1")
    return parser
