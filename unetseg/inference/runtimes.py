"""What computes an exported network: ONNX Runtime, OpenVINO, or torch for its own exported programs."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from unetseg.errors import CheckpointError, ImageError, OptionError, UnetsegError, first_line
from unetseg.inference.description import METADATA_KEY, ModelDescription

__all__ = [
    "EXPORT_SUFFIXES",
    "INPUT_NAME",
    "Accelerator",
    "ExportFormat",
    "Runtime",
    "import_onnxruntime",
    "import_openvino",
    "open_runtime",
]

ExportFormat = Literal["onnx", "torch", "openvino"]

EXPORT_SUFFIXES: dict[ExportFormat, str] = {"onnx": ".onnx", "torch": ".pt2", "openvino": ".xml"}
"""How the file of each format ends."""

INPUT_NAME = "image"
"""Name of the only input."""

Accelerator = Literal["auto", "cpu", "gpu"]
"""Where a network is computed: on a GPU if the runtime has one, on the CPU, or on a GPU or not at all."""


class Runtime(Protocol):
    """An opened network.

    Attributes:
        description: What the file says of it.
    """

    description: ModelDescription

    def run(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        """Compute.

        Args:
            batch: (N, in_channels, H, W) float32 in [0, 1].

        Returns:
            Logits (N, num_logits, H, W) float32, or classes, as the description says.
        """


def open_runtime(path: str | Path, accelerator: Accelerator = "auto", *, threads: int | None = None) -> Runtime:
    """Open a file that ``python -m unetseg export`` wrote.

    Args:
        path: The file; its suffix says what it is: ``.onnx``, ``.pt2`` or ``.xml``.
        accelerator: Where it is computed.
        threads: Of the CPU; None for the runtime's own choice.

    Raises:
        CheckpointError: If there is no such file, or it isn't such a network.
        OptionError: If the runtime isn't installed, or has no such accelerator.
    """
    path = Path(path)
    if path.suffix not in EXPORT_SUFFIXES.values():
        raise CheckpointError(
            f"{path} is no exported network; these end in {', '.join(EXPORT_SUFFIXES.values())}. A checkpoint of a "
            f"fit is given as --ckpt_path."
        )
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}. `python -m unetseg export` writes such files.")
    if accelerator not in ("auto", "cpu", "gpu"):
        raise OptionError(f"accelerator {accelerator!r} is unknown; an exported network takes auto, cpu or gpu.")
    openers: dict[str, Callable[[Path, Accelerator, int | None], Runtime]] = {
        ".onnx": _OnnxRuntime,
        ".pt2": _TorchRuntime,
        ".xml": _OpenVinoRuntime,
    }
    return openers[path.suffix](path, accelerator, threads)


def import_onnxruntime() -> Any:
    """The package, kept from reporting its use to Microsoft, as it does from 1.29 on, unless the user wants that.

    It reads the variable once, when it is loaded.

    Raises:
        OptionError: If it isn't installed.

    Source: the "Privacy" document of microsoft/onnxruntime.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise OptionError("an ONNX file needs onnxruntime, which isn't installed: pip install onnxruntime") from error
    return onnxruntime


def import_openvino() -> Any:
    """The package, kept from reporting its use to Intel and from asking whether it may.

    Raises:
        OptionError: If it isn't installed.
    """
    reporter = "openvino_telemetry"  # without it openvino reports nothing
    hidden = reporter not in sys.modules
    if hidden:
        sys.modules[reporter] = None  # type: ignore[assignment]  # Python's way to say that there is no such module
    try:
        import openvino
    except ImportError as error:
        raise OptionError("an OpenVINO file needs openvino, which isn't installed: pip install openvino") from error
    finally:
        if hidden:
            sys.modules.pop(reporter, None)
    return openvino


class _OnnxRuntime:
    def __init__(self, path: Path, accelerator: Accelerator, threads: int | None) -> None:
        onnxruntime = import_onnxruntime()
        available: Sequence[str] = onnxruntime.get_available_providers()
        providers = [name for name in ("CUDAExecutionProvider",) if name in available and accelerator != "cpu"]
        if accelerator == "gpu" and not providers:
            raise OptionError(
                f"this onnxruntime has no GPU ({', '.join(available)}); install onnxruntime-gpu, or use the CPU."
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; warnings tell of its own optimisations
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                os.fspath(path), options, providers=[*providers, "CPUExecutionProvider"]
            )
        except Exception as error:  # it has a class of its own for each way in which a file can be broken
            raise _broken(path, error) from error
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        self.description = ModelDescription.from_json(text, path)

    def run(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        try:
            (output,) = self._session.run(None, {INPUT_NAME: batch})
        except Exception as error:
            raise _failed(batch, error) from error
        result: NDArray[Any] = output
        return result


class _OpenVinoRuntime:
    def __init__(self, path: Path, accelerator: Accelerator, threads: int | None) -> None:
        openvino = import_openvino()
        core = openvino.Core()
        if accelerator == "gpu" and "GPU" not in core.available_devices:
            raise OptionError(f"OpenVINO finds no GPU of its own ({', '.join(core.available_devices)}); use the CPU.")
        device = "GPU" if accelerator == "gpu" else "CPU"
        # by itself it computes in bfloat16 where a CPU has it, with other classes than were verified
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None and device == "CPU":
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(path)
            key = [METADATA_KEY, "description"]
            text = model.get_rt_info(key).astype(str) if model.has_rt_info(key) else None
        except Exception as error:
            raise _broken(path, error) from error
        self.description = ModelDescription.from_json(text, path)
        try:
            self._model = core.compile_model(model, device, settings)
        except Exception as error:
            raise _broken(path, error) from error

    def run(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        try:
            result: NDArray[Any] = self._model([batch])[0].copy()  # its memory is used again
        except Exception as error:
            raise _failed(batch, error) from error
        return result


class _TorchRuntime:
    def __init__(self, path: Path, accelerator: Accelerator, threads: int | None) -> None:
        try:
            import torch
        except ImportError as error:
            raise OptionError("a .pt2 file needs torch, which isn't installed: pip install torch") from error
        if accelerator == "gpu" and not torch.cuda.is_available():
            raise OptionError("torch finds no GPU; use the CPU.")
        self._torch = torch
        self._device = "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
        files = {METADATA_KEY: ""}
        log = logging.getLogger("torch.export")  # it tells of a damaged file by a traceback
        level = log.level
        log.setLevel(logging.CRITICAL)
        try:
            program = torch.export.load(path, extra_files=files)
        except Exception as error:
            raise _broken(path, error) from error
        finally:
            log.setLevel(level)
        self.description = ModelDescription.from_json(files[METADATA_KEY] or None, path)
        if self._device != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, self._device)
        self._module = program.module()
        if threads is not None:
            torch.set_num_threads(threads)

    def run(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        torch = self._torch
        with torch.inference_mode():
            try:
                output = self._module(torch.from_numpy(batch).to(self._device))
            except (RuntimeError, AssertionError) as error:
                raise _failed(batch, error) from error
        result: NDArray[Any] = output.cpu().numpy()
        return result


def _broken(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} is no exported network, or is damaged: {_reason(error)} Export the checkpoint again."
    )


def _failed(batch: NDArray[Any], error: Exception) -> UnetsegError:
    count, _, height, width = batch.shape
    return ImageError(
        f"the exported network can't compute {count} x {width}x{height} pixels: {_reason(error)} If the "
        f"memory is too small, use tiles (--tile 512) or a smaller --batch_size."
    )


def _reason(error: Exception) -> str:
    """What a runtime says, shortened; OpenVINO names its own lines of code first."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
    return first_line(RuntimeError("\n".join(lines)) if lines else error)[:300]
