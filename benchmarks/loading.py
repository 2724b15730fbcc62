"""How many samples a second the data module loads, against how many a training step consumes.

    python benchmarks/loading.py --config configs/camvid.yaml --root DIR --output benchmarks/results/loading_cpu.json
    python benchmarks/loading.py --config configs/camvid.yaml --root DIR --device cuda --dtype bfloat16 \
        --workers 0 2 4 8 16 --output benchmarks/results/loading_gpu.json

Three figures take turns, repetition by repetition, and each is the median: what a loader gives when nothing else runs,
with each number of workers, from files and from the cache; what a step (forward, the recipe's loss, backward, AdamW)
consumes on a batch that is in memory; and both together, steps on what the loader gives. The last as a share of the
second says what loading costs.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.utils.data import DataLoader

from unetseg.data.datamodule import SegmentationDataModule
from unetseg.task import SegmentationTask

PREFETCHED = 2  # batches a worker, PyTorch's default


def endless(loader: DataLoader[Any]) -> Iterator[dict[str, Any]]:
    """Batches, epoch after epoch."""
    while True:
        yield from loader


class Training:
    """A recipe's network and how it takes a step."""

    def __init__(self, data: SegmentationDataModule, model: dict[str, Any], device: str, dtype: str) -> None:
        self.device, self.dtype = torch.device(device), getattr(torch, dtype)
        options = {name: value for name, value in model.items() if name != "encoder_weights"}
        self.task = SegmentationTask(data.classes, in_channels=data.in_channels, mode=data.mode, **options)
        self.task.to(self.device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.AdamW(self.task.parameters(), lr=1e-6)

    def step(self, batch: dict[str, Any]) -> None:
        """One step, and wait for it."""
        image: Tensor = batch["image"].to(self.device, non_blocking=True)
        mask: Tensor = batch["mask"].to(self.device, non_blocking=True)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            loss = self.task.loss(self.task(image), mask)
        loss.backward()
        self.optimizer.step()
        loss.item()


def samples_per_second(run: Callable[[], None], samples: int) -> float:
    """How many samples a run gets through in a second."""
    start = time.perf_counter()
    run()
    return samples / (time.perf_counter() - start)


def measure(args: argparse.Namespace, recipe: dict[str, Any]) -> dict[str, Any]:
    """Samples a second of loaders, of the step, and of both together."""
    settings = recipe["data"] | {"root": args.root}
    sources: dict[str, Iterator[dict[str, Any]]] = {}
    for workers in args.workers:
        for cache_gb in (0.0, args.cache_gb):
            data = SegmentationDataModule(**(settings | {"num_workers": workers, "cache_gb": cache_gb}))
            data.setup("fit")
            loader = data.train_dataloader()
            name = f"{workers} workers, {'cache' if cache_gb else 'files'}"
            sources[name] = endless(loader)
            for _ in range(len(loader) if cache_gb else 3):  # an epoch fills the cache
                next(sources[name])
    training = Training(data, recipe["model"], args.device, args.dtype)
    batch = next(sources[name])
    samples = args.steps * len(batch["name"])

    def drained(name: str) -> Iterator[Any]:
        """A loader without the batches that its workers made while others had their turn."""
        for _ in range(PREFETCHED * int(name.split()[0])):
            next(sources[name])
        return sources[name]

    def load(source: Iterator[Any]) -> None:
        for _ in range(args.steps):
            next(source)

    def train(source: Iterator[Any] | None) -> None:
        for _ in range(args.steps):
            training.step(batch if source is None else next(source))

    train(None)
    figures: dict[str, list[float]] = {"step": []}
    together: dict[str, list[float]] = {}
    for _ in range(args.repetitions):
        figures["step"].append(samples_per_second(lambda: train(None), samples))
        for name in sources:
            source = drained(name)
            figures.setdefault(name, []).append(samples_per_second(lambda s=source: load(s), samples))
            source = drained(name)
            both = samples_per_second(lambda s=source: train(s), samples)
            together.setdefault(name, []).append(both / figures["step"][-1])
    medians = {name: round(statistics.median(values), 1) for name, values in figures.items()}
    step = medians.pop("step")
    return {
        "step": step,
        "loader": medians,
        "loader_by_step": {name: round(value / step, 2) for name, value in medians.items()},
        "training_by_step": {name: round(statistics.median(values), 3) for name, values in together.items()},
    }


def cpu_name() -> str:
    """The processor's name, as Linux gives it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(line.split(": ")[1] for line in lines if "model name" in line)


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="recipe")
    parser.add_argument("--root", required=True, help="folder of its data set")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cache_gb", type=float, default=2.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--steps", type=int, default=8, help="steps a repetition")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--output", type=Path, help="JSON file")
    args = parser.parse_args()
    recipe = yaml.safe_load(args.config.read_text(encoding="utf-8"))
    cuda = torch.device(args.device).type == "cuda"
    result = {
        "samples_per_second": measure(args, recipe),
        "recipe": str(args.config),
        "command": f"python benchmarks/loading.py --config {args.config} --root DIR --device {args.device} "
        f"--dtype {args.dtype} --workers {' '.join(map(str, args.workers))} --steps {args.steps} "
        f"--repetitions {args.repetitions}",
        "machine": {
            "device": torch.cuda.get_device_name() if cuda else cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
