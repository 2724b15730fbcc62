"""The verb predict: files and folders in, masks out."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from unetseg.data.decoding import IMAGE_SUFFIXES
from unetseg.errors import DataError, ImageError
from unetseg.inference.outputs import MaskWriter
from unetseg.inference.predictor import Predictor

__all__ = ["main", "plan_outputs"]


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
    for source, target in tqdm(outputs.items(), desc="predict", unit="image", disable=None):
        try:
            image = predictor.read(source)
            classes = predictor(image)
        except ImageError as error:
            failures.append(_about(source, error))
            continue
        writer.write(target, image, classes)
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


def plan_outputs(inputs: Iterable[Path], output: Path) -> dict[Path, Path]:
    """Which mask each image gets.

    A file's mask is named after it; a folder's images, found in all its subfolders, keep their path below the
    folder. Where two images would share a name (a.jpg and a.png), both keep their suffix: a.jpg.png, a.png.png.

    Args:
        inputs: Image files and folders.
        output: Folder for the masks; images inside it aren't inputs.

    Returns:
        Mask of each image, in the order of the inputs.

    Raises:
        DataError: If an input doesn't exist, there is no image at all, two images can't but share a mask, or a mask
            would overwrite an image.
    """
    relative: dict[Path, Path] = {}
    for path in inputs:
        if path.is_dir():
            found = [file for file in sorted(path.rglob("*")) if _is_image(file, path, output)]
            relative |= {file: file.relative_to(path) for file in found}
        elif path.is_file():
            relative[path] = Path(path.name)
        else:
            raise DataError(f"there is no file or folder {path}.")
    if not relative:
        raise DataError(
            f"no images in {', '.join(map(str, inputs))}; image files end in {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    shared = Counter(name.with_suffix(".png") for name in relative.values())
    outputs = {
        source: output / (name.with_suffix(".png") if shared[name.with_suffix(".png")] == 1 else f"{name}.png")
        for source, name in relative.items()
    }
    counts = Counter(outputs.values())
    if clash := [str(source) for source, target in outputs.items() if counts[target] > 1]:
        raise DataError(f"{' and '.join(clash[:2])} would write the same mask; predict them into separate folders.")
    sources = {source.resolve() for source in outputs}
    if overwritten := [str(target) for target in outputs.values() if target.resolve() in sources]:
        raise DataError(f"the mask {overwritten[0]} would overwrite an image; give another --output.")
    return outputs


def _is_image(file: Path, folder: Path, output: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    inside = file.resolve().is_relative_to(output.resolve()) and not folder.resolve().is_relative_to(output.resolve())
    return file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and not hidden and not inside
