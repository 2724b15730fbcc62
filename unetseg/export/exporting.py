"""A network becomes a file, is compared with itself, and only then appears."""

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import unetseg
from unetseg.config import check_choice
from unetseg.errors import ExportError, OptionError, UnetsegError
from unetseg.export.formats import DEFAULT_OPSET, WRITERS, Content, check_installed
from unetseg.export.network import ExportedNetwork, ExportPrecision, Size, trace
from unetseg.export.verification import TOLERANCES, Check, check_sizes, compare, fixed_cases, least_side
from unetseg.inference.description import ModelDescription
from unetseg.inference.legend import Legend
from unetseg.inference.predictor import Predictor
from unetseg.inference.runtimes import EXPORT_SUFFIXES, INPUT_NAME, ExportFormat, Runtime, open_runtime

__all__ = ["Exported", "export"]

_MEASURED_SIDE = 1024  # pixels, at which the memory of maps is measured


@dataclass(frozen=True)
class Exported:
    """A file that was written and compared.

    Attributes:
        path: The file.
        description: What it says of itself.
        checks: How it did at each size.
        tolerance: How far logits could differ, as a share of the largest.
        file_bytes: Its size, with that of the weights beside it.
        opset: Of ONNX; None for other formats.
    """

    path: Path
    description: ModelDescription
    checks: tuple[Check, ...]
    tolerance: float
    file_bytes: int
    opset: int | None

    @property
    def worst(self) -> Check:
        """The check with the largest difference for its scale."""
        return max(self.checks, key=lambda check: check.difference / (check.scale or 1))


def export(
    predictor: Predictor,
    path: str | Path,
    *,
    file_format: ExportFormat | None = None,
    precision: ExportPrecision = "32-true",
    argmax: bool = False,
    size: Size | None = None,
    opset: int = DEFAULT_OPSET,
    on_check: Callable[[Check], object] | None = None,
) -> Exported:
    """Export a predictor's network: normalisation inside, batch norms folded, any batch, height and width.

    The file takes "image", (N, in_channels, H, W) float32 in [0, 1], and gives "logits", (N, num_logits, H, W) float32,
    or "classes". It is written beside its place, opened by its runtime and compared with the network in float32 at
    nine sizes, and moved there if it agrees; otherwise nothing is left, and a file that was there is as it was.

    Args:
        predictor: On the CPU.
        path: The file; its suffix says the format: ``.onnx``, ``.pt2`` or ``.xml``.
        file_format: "onnx", "torch" or "openvino"; None for that of the suffix.
        precision: "32-true", or "16-true" for weights of float16.
        argmax: Whether it gives classes instead of logits.
        size: (height, width) of the only images that it takes, one at a time; None for any.
        opset: Of ONNX.
        on_check: Told of each size that was compared.

    Raises:
        OptionError: If something is asked for that doesn't go together, isn't installed, or can't be exported.
        ExportError: If the file doesn't compute what the network does.

    Example:
        >>> import tempfile
        >>> from unetseg import UNet
        >>> model = UNet(classes=2, encoder_depth=3, decoder_channels=(16, 8, 8))
        >>> predictor = Predictor(model, ["background", "road"], device="cpu")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     exported = export(predictor, Path(folder, "model.pt2"))
        >>> len(exported.checks), exported.worst.agrees(exported.tolerance)
        (9, True)
    """
    path = Path(path)
    file_format = _format(path, file_format)
    check_choice("precision", precision, ExportPrecision)
    check_installed(file_format)
    _check_size(predictor, size)
    if predictor.device.type != "cpu":
        raise OptionError(f"the predictor is on {predictor.device}; it is exported on the CPU: predictor.to('cpu').")
    network = ExportedNetwork(
        copy.deepcopy(predictor.network),
        mode=predictor.mode,
        argmax=argmax,
        precision="32-true" if file_format == "openvino" else precision,
    ).eval()
    description = predictor.description
    program = trace(
        network,
        description.in_channels,
        total_stride=description.total_stride,
        least=description.min_size,
        size=size,
        drop_unused=file_format == "torch",
    )
    description = replace(
        description,
        colors=Legend.of(description.classes, description.colors, multilabel=predictor.mode == "multilabel").colors,
        output="classes" if argmax else "logits",
        size=size,
        pixel_bytes=predictor.map_bytes(_MEASURED_SIDE, _MEASURED_SIDE) / _MEASURED_SIDE**2,
    )
    told = {"format": file_format, "opset": opset if file_format == "onnx" else None, **_told(predictor, precision)}

    def write(temporary: Path) -> Runtime:
        content = Content(description.to_json(**told), description.output, opset, half=precision == "16-true")
        WRITERS[file_format](program, temporary, content)
        return _opened(temporary, description)

    with _beside(path) as temporary:
        runtime = write(temporary)
        if size is None and (least := least_side(runtime)) > description.min_size:
            description = replace(description, min_size=least)
            del runtime  # as it may have mapped the file
            runtime = write(temporary)
        checks = _verify(runtime, predictor, TOLERANCES[precision], on_check)
        files = sorted(temporary.parent.iterdir(), key=lambda file: file == temporary)  # what it needs comes first
        file_bytes = sum(file.stat().st_size for file in files)
        for file in files:
            file.replace(path.with_name(file.name))
    written_opset = opset if file_format == "onnx" else None
    return Exported(path, description, checks, TOLERANCES[precision], file_bytes, written_opset)


def _format(path: Path, file_format: ExportFormat | None) -> ExportFormat:
    formats = {suffix: name for name, suffix in EXPORT_SUFFIXES.items()}
    if file_format is None:
        if path.suffix not in formats:
            raise OptionError(
                f"{path} has no suffix that says a format: {', '.join(f'{s} ({f})' for s, f in formats.items())}."
            )
        return formats[path.suffix]
    check_choice("format", file_format, ExportFormat)
    if path.suffix != EXPORT_SUFFIXES[file_format]:
        raise OptionError(f"{path}: a file of format {file_format!r} ends in {EXPORT_SUFFIXES[file_format]}.")
    return file_format


def _check_size(predictor: Predictor, size: Size | None) -> None:
    least = predictor.description.min_size
    if size is not None and min(size) < least:
        raise OptionError(f"size is {size[0]} {size[1]}; this network takes images of {least}x{least} and more.")


def _told(predictor: Predictor, precision: ExportPrecision) -> dict[str, object]:
    """What the file tells people and other programs beside."""
    channels = predictor.description.in_channels
    return {
        "precision": precision,
        "preprocessing": {
            "input": INPUT_NAME,
            "layout": "NCHW",
            "dtype": "float32",
            "range": [0, 1],
            "channels": "RGB" if channels == 3 else channels,
            "note": "8-bit values are divided by 255; mean and std are applied by the network itself",
            "mean": predictor.mean,
            "std": predictor.std,
        },
        "written_by": {"unetseg": unetseg.__version__, "torch": torch.__version__},
    }


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """The path in a hidden folder beside its place, which is gone afterwards, as is that of a run that was killed."""
    folder = path.with_name(f".{path.name}.part")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _opened(path: Path, description: ModelDescription) -> Runtime:
    try:
        runtime = open_runtime(path, "cpu")
    except UnetsegError as error:
        raise ExportError(f"the file can't be opened by its runtime, and was not kept: {error}") from error
    if runtime.description != description:
        raise ExportError("the file doesn't describe the network as it is, and was not kept.")
    return runtime


def _verify(
    runtime: Runtime, predictor: Predictor, tolerance: float, on_check: Callable[[Check], object] | None
) -> tuple[Check, ...]:
    description = runtime.description
    if description.size is None:
        cases = check_sizes(description.total_stride, description.min_size)
    else:
        cases = fixed_cases(description.size)
    checks = []
    for check in compare(runtime, predictor.network, cases, mode=predictor.mode, tolerance=tolerance):
        checks.append(check)
        if on_check is not None:
            on_check(check)
    if wrong := [check for check in checks if not check.agrees(tolerance)]:
        raise ExportError(_disagreement(wrong, len(checks), tolerance))
    return tuple(checks)


def _disagreement(wrong: list[Check], count: int, tolerance: float) -> str:
    first = wrong[0]
    size = f"{first.size[1]}x{first.size[0]}"
    if first.error:
        what = f"at {size} it can't be computed ({first.error})"
    elif first.classes:
        what = f"at {size}, {first.difference:.2%} of the pixels have another class"
    else:
        what = f"at {size} logits differ by {first.difference:.3g}, of {first.scale:.3g} at most"
    return (
        f"the file doesn't compute what the network does, and was not kept: {len(wrong)} of {count} comparisons "
        f"failed: {what}; {tolerance:g} of the largest logit is allowed."
    )
