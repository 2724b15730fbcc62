"""What exported networks cost beside the eager one: milliseconds a forward and megabytes, all in one interleaved run.

    python benchmarks/export.py --output benchmarks/results/export_cpu.json

On a GPU, after pip install onnxruntime-gpu:

    python benchmarks/export.py --device gpu --output benchmarks/results/export_gpu.json

Eager is the network of ``Predictor``: batch norms folded, channels last, inference mode. Each file takes turns with it,
one image at a time; a ratio is the median of the repetitions' own. The checkpoint's megabytes are those of its weights.
A call that isn't timed precedes each that is: threads of the runtime before it spin for a while.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unetseg import Predictor, UNet
from unetseg.export import export
from unetseg.inference.runtimes import EXPORT_SUFFIXES, open_runtime

CLASSES = ["a", "b", "c", "d", "e", "f"]

FILES: dict[str, dict[str, Any]] = {
    "torch": {"file_format": "torch"},
    "onnx": {"file_format": "onnx"},
    "onnx fixed size": {"file_format": "onnx", "size": True},
    "onnx float16": {"file_format": "onnx", "precision": "16-true"},
    "openvino": {"file_format": "openvino"},
    "openvino fixed size": {"file_format": "openvino", "size": True},
    "openvino float16": {"file_format": "openvino", "precision": "16-true"},
}


def measure(encoder: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A row for eager and for each file."""
    torch.manual_seed(0)
    model = UNet(encoder, classes=len(CLASSES))
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    predictor = Predictor(model, CLASSES, device="cpu")
    size = (args.height, args.width)
    runs, rows = {}, {"eager": {"mb": round(weights / 1e6, 2)}}
    for name in args.files:
        options = FILES[name]
        if args.device == "gpu" and options["file_format"] == "openvino":
            continue  # it computes on GPUs of its maker
        options = {**options, "size": size if options.get("size") else None}
        path = folder / (f"{encoder} {name}".replace(" ", "_") + EXPORT_SUFFIXES[options["file_format"]])
        exported = export(predictor, path, **options)
        share = exported.worst.difference / exported.worst.scale
        rows[name] = {"mb": round(exported.file_bytes / 1e6, 2), "largest_difference": float(f"{share:.1e}")}
        runs[name] = open_runtime(path, args.device).run
    image = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    if args.device == "gpu":
        predictor.to("cuda")
    eager = torch.from_numpy(image).to(predictor.device)
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for repetition in range(args.repetitions + args.warmups):
        for name in rows:
            taken = forward(predictor, eager) if name == "eager" else timed(functools.partial(runs[name], image))
            if repetition >= args.warmups:
                seconds[name].append(taken)
    for name, row in rows.items():
        row["ms"] = round(1000 * statistics.median(seconds[name]), 1)
        ratios = [own / bare for own, bare in zip(seconds[name], seconds["eager"], strict=True)]
        row["time_against_eager"] = round(statistics.median(ratios), 3)
    return rows


@torch.inference_mode()
def forward(predictor: Predictor, image: torch.Tensor) -> float:
    """Seconds of an eager forward, back in the CPU's memory as those of the runtimes are."""
    image = image.contiguous(memory_format=torch.channels_last)
    return timed(lambda: predictor.network(image).cpu())


def timed(run: Callable[[], Any]) -> float:
    """Seconds that a call takes, after one that isn't timed."""
    run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def circumstances(args: argparse.Namespace) -> dict[str, Any]:
    """Machine and versions."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next(line.split(": ")[1] for line in lines if "model name" in line)
    device = torch.cuda.get_device_name() if args.device == "gpu" else processor
    packages = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino")
    return {
        "machine": {"device": device, "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=["mobilenet_v2", "resnet34"])
    parser.add_argument("--files", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--warmups", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = {encoder: measure(encoder, args, Path(folder)) for encoder in args.encoders}
    given = [word for word in sys.argv[1:] if word != str(args.output) and word != "--output"]
    result = {
        "size": f"{args.width}x{args.height}",
        "export": rows,
        "command": " ".join(["python benchmarks/export.py", *given]),
        **circumstances(args),
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
