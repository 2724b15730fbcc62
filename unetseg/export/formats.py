"""A graph as files: ONNX, torch's exported program, OpenVINO IR, each with the description in it."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from unetseg.errors import OptionError, first_line
from unetseg.export.network import quiet
from unetseg.export.onnx_graph import tidy
from unetseg.inference.description import METADATA_KEY, OutputKind
from unetseg.inference.runtimes import INPUT_NAME, ExportFormat, import_openvino

__all__ = ["DEFAULT_OPSET", "WRITERS", "check_installed"]

DEFAULT_OPSET = 18
"""Of ONNX: that which torch's exporter writes without converting, and the runtimes of the last years read."""

_LARGEST_ONNX = 2**31 - 2**24  # bytes of weights; one file of protobuf holds 2 GiB

_PACKAGES: dict[ExportFormat, tuple[str, Sequence[str]]] = {
    "onnx": ("onnx", ("onnxscript", "onnxruntime")),
    "torch": ("", ()),
    "openvino": ("openvino", ("onnxscript", "openvino")),
}
"""Extra that brings them, and what each format is written and compared with."""

Program = torch.export.ExportedProgram


def check_installed(file_format: ExportFormat) -> None:
    """Refuse a format whose packages are missing.

    Raises:
        OptionError: It says how to install them.
    """
    extra, packages = _PACKAGES[file_format]
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise OptionError(
            f"format {file_format!r} needs {', '.join(missing)}, which isn't installed: pip install -e '.[{extra}]'"
        )


@dataclass(frozen=True)
class Content:
    """What goes into a file beside the graph.

    Attributes:
        text: The description.
        output: Name of the output.
        opset: Of ONNX.
        half: Whether OpenVINO stores weights in float16; other graphs are in float16 already.
    """

    text: str
    output: OutputKind
    opset: int
    half: bool


def write_onnx(program: Program, path: Path, content: Content) -> None:
    """Write one ``.onnx`` file, weights and all.

    Args:
        program: The graph.
        path: The file.
        content: What goes in beside.

    Raises:
        OptionError: If it can't be written as ONNX.
    """
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    if size > _LARGEST_ONNX:
        raise OptionError(
            f"the network's {size / 1e9:.1f} GB of weights don't fit into one ONNX file, which holds 2 GB. Use "
            f"--precision 16-true, or --format torch."
        )
    with quiet():
        try:
            made: Any = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[INPUT_NAME],
                output_names=[content.output],
                opset_version=content.opset,
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # it has many classes
            raise OptionError(
                f"torch.onnx can't write this network with opset {content.opset}: {_cause(error)} Use --opset "
                f"{DEFAULT_OPSET}, or --format torch."
            ) from error
        model = made.model
        if model.opset_imports.get("") != content.opset:
            raise OptionError(
                f"opset {content.opset} can't be written; this torch.onnx writes {model.opset_imports.get('')}. "
                f"Use --opset {DEFAULT_OPSET}."
            )
        tidy(model)
        model.producer_name = "unetseg"
        model.metadata_props[METADATA_KEY] = content.text
        made.save(path, external_data=False)


def write_torch(program: Program, path: Path, content: Content) -> None:
    """Write a ``.pt2`` file; as ``write_onnx``."""
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    with quiet():
        torch.export.save(program, path, extra_files={METADATA_KEY: content.text})


def write_openvino(program: Program, path: Path, content: Content) -> None:
    """Write an ``.xml`` file and, beside it, the weights as ``.bin``; as ``write_onnx``.

    Weights of half precision are stored in float16, and computed with as the device likes.
    """
    openvino = import_openvino()
    between = path.with_suffix(".onnx")
    write_onnx(program, between, replace(content, opset=DEFAULT_OPSET))
    with quiet():
        try:
            model = openvino.Core().read_model(between)
        except Exception as error:
            raise OptionError(f"OpenVINO can't read this network: {first_line(error)[:300]}") from error
    model.set_rt_info(content.text, [METADATA_KEY, "description"])
    openvino.save_model(model, path, compress_to_fp16=content.half)
    between.unlink()


WRITERS: dict[ExportFormat, Callable[[Program, Path, Content], None]] = {
    "onnx": write_onnx,
    "torch": write_torch,
    "openvino": write_openvino,
}


def _cause(error: BaseException) -> str:
    """What torch.onnx says lies a few causes deep, below a page of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error if isinstance(error, Exception) else Exception(str(error)))[:300]
