"""What a training step through `fit` takes, against a bare PyTorch loop over the same model and batches.

    python benchmarks/overhead.py --output benchmarks/results/overhead_cpu.json
    python benchmarks/overhead.py --device gpu --precision bf16-mixed --output benchmarks/results/overhead_gpu.json

Both take turns: a run of `fit` with all that it does by default (loggers, checks, pictures, checkpoints), then a loop
of forward, loss, backward, optimizer and schedule. The batches lie in memory. A repetition's figure is the median of
the times from the start of one step to that of the next; the result is the median of the repetitions' ratios.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from unetseg import cli
from unetseg.__main__ import main as unetseg
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.losses import build_loss
from unetseg.optimization import build_optimizer, build_scheduler
from unetseg.task import SegmentationTask

# (encoder, pairs in a batch, side of the crops): from steps where all is overhead to those of a recipe
JOBS = [("resnet18", 2, 64), ("resnet18", 4, 128), ("mobilenet_v2", 8, 256)]
WARM_UP = 3  # steps that aren't counted


class StepTimes(pl.Callback):
    """When each step began."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Note it."""
        wait(trainer.strategy.root_device)
        self.starts.append(time.perf_counter())


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def median_step(starts: list[float]) -> float:
    """Seconds from one start to the next."""
    steps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    return statistics.median(steps[WARM_UP:])


def through_fit(job: tuple[str, int, int], batches: list[Any], args: argparse.Namespace) -> float:
    """Seconds of a step in a run as it is typed."""
    encoder, batch_size, side = job
    times = StepTimes()
    callbacks, loader = cli.run_callbacks, SegmentationDataModule.train_dataloader
    cli.run_callbacks = lambda options: [*callbacks(options), times]
    SegmentationDataModule.train_dataloader = lambda _: DataLoader(batches, batch_size=None)
    try:
        with tempfile.TemporaryDirectory() as folder:
            options = [f"--model.encoder={encoder}", f"--data.batch_size={batch_size}", f"--data.crop_size={side}"]
            options += [f"--trainer.accelerator={args.device}", f"--trainer.precision={args.precision}"]
            options += ["--trainer.max_epochs=1", "--data.synthetic_length=8", "--data.num_workers=0"]
            unetseg(["fit", *options, f"--run.folder={folder}", "--trainer.enable_progress_bar=false"])
    finally:
        cli.run_callbacks, SegmentationDataModule.train_dataloader = callbacks, loader
    return median_step(times.starts)


def bare(job: tuple[str, int, int], batches: list[Any], args: argparse.Namespace) -> float:
    """Seconds of a step in a loop as a tutorial has it."""
    device = torch.device("cuda" if args.device == "gpu" else "cpu")
    classes = SegmentationDataModule(synthetic_length=8, num_workers=0).classes
    model = SegmentationTask(classes, encoder=job[0], decoder_channels=cli.BUILT_IN_DECODER_CHANNELS).model
    model = model.to(device, memory_format=torch.channels_last).train()
    loss = build_loss(None, mode="multiclass", classes=len(classes), ignore_index=255).to(device)
    optimizer = build_optimizer(model, lr=1e-3, encoder_lr=1e-3)
    schedule = build_scheduler(optimizer, total_steps=len(batches), total_epochs=1)["scheduler"]
    lower = args.precision == "bf16-mixed"
    starts = []
    for batch in batches:
        wait(device)
        starts.append(time.perf_counter())
        image, mask = batch["image"].to(device), batch["mask"].to(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16) if lower else nullcontext():
            value = loss(model(image.contiguous(memory_format=torch.channels_last)), mask)
        value.backward()
        optimizer.step()
        schedule.step()
    return median_step(starts)


def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Milliseconds of both and their ratio, for each job."""
    results = {}
    for job in JOBS:
        encoder, batch_size, side = job
        data = SegmentationDataModule(synthetic_length=8, num_workers=0, batch_size=batch_size, crop_size=side)
        batch = next(iter(data.train_dataloader()))
        batches = [batch] * (args.steps + WARM_UP + 1)
        seconds: dict[str, list[float]] = {"fit": [], "bare": []}
        for _ in range(args.repetitions):
            seconds["fit"].append(through_fit(job, batches, args))
            seconds["bare"].append(bare(job, batches, args))
        ratios = [one / other for one, other in zip(seconds["fit"], seconds["bare"], strict=True)]
        results[f"{encoder}, {batch_size} crops of {side}x{side}"] = {
            "fit_ms": round(1000 * statistics.median(seconds["fit"]), 1),
            "bare_ms": round(1000 * statistics.median(seconds["bare"]), 1),
            "ratio": round(statistics.median(ratios), 3),
        }
    return results


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--steps", type=int, default=30, help="steps a repetition")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--output", type=Path, help="JSON file")
    args = parser.parse_args()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next(line.split(": ")[1] for line in lines if "model name" in line)
    result = {
        "step": measure(args),
        "command": f"python benchmarks/overhead.py --device {args.device} --precision {args.precision} "
        f"--steps {args.steps} --repetitions {args.repetitions}",
        "machine": {
            "device": torch.cuda.get_device_name() if args.device == "gpu" else processor,
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pytorch_lightning": pl.__version__,
        },
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
