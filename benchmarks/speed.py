"""How long layers and decoders take, against PyTorch's own layer and smp.Unet's decoder.

    python benchmarks/speed.py --output benchmarks/results/speed_cpu.json
    python benchmarks/speed.py --device cuda --dtype bfloat16 --output benchmarks/results/speed_gpu.json
    python benchmarks/speed.py --render                 # writes README's table from the JSON

Everything is channels_last. What is compared takes turns, repetition by repetition, and a figure is the median of the
repetitions' ratios. A decoder's time is the model's less that of the encoder alone, in the same repetition: for
inference of one 512x512 image, and for a training step (forward, cross entropy, backward, AdamW) on 4 crops of 256x256.
Memory is what one training step on one thread adds to the process at its peak, with a process for each model; it has no
repetitions. Layers have 20 times as many as are asked for, as they take milliseconds.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unetseg import UNet
from unetseg.nn import AlignedConvTranspose2d

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"

CLASSES = 12
ENCODERS = ("resnet34", "mobilenet_v2", "tu-convnext_tiny")
ADD, CONCAT = {"merge": "add"}, {"merge": "concat"}
SETTINGS: dict[str, dict[str, Any]] = {
    "kernel 4, add, conv head": {"block": ADD},
    "kernel 4, concat, conv head": {"block": CONCAT},
    "kernel 4, add, upsampling head": {"block": ADD, "head": "upsample"},
    "kernel 4, concat, upsampling head": {"block": CONCAT, "head": "upsample"},
    "kernel 2, add, upsampling head": {"block": ADD, "head": "upsample", "upsample": {"kernel_size": 2}},
    "kernel 2, concat, upsampling head": {"block": CONCAT, "head": "upsample", "upsample": {"kernel_size": 2}},
}
PARTS = ("layers", "decoders", "memory")
BATCHES = {"inference": (1, 512), "training": (4, 256)}
# (name, kernel, rounding of the stage, input side, wanted side)
LAYERS = [
    ("kernel 3 after rounding up, even", 3, "up", 64, 128),
    ("kernel 3 after rounding up, odd", 3, "up", 64, 127),
    ("kernel 4 after rounding down, even", 4, "down", 64, 128),
    ("kernel 4 after rounding down, odd", 4, "down", 64, 129),
    ("kernel 4 after rounding up, odd: cropped", 4, "up", 64, 127),
]

Run = Callable[[], None]


class Machine:
    """Where the models run: device, data type, and how to wait for it."""

    def __init__(self, device: str, dtype: str) -> None:
        self.device, self.dtype = torch.device(device), getattr(torch, dtype)

    def place(self, module: nn.Module) -> Any:
        """Bring a module there."""
        return module.to(self.device, memory_format=torch.channels_last)

    def image(self, batch: int, side: int) -> Tensor:
        """Random images there."""
        return torch.rand(batch, 3, side, side, device=self.device).contiguous(memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        """Lower precision, where it was asked for."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def seconds(self, run: Run) -> float:
        """How long a run takes."""
        self._wait()
        start = time.perf_counter()
        run()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def take_turns(
    machine: Machine, runs: Mapping[str, Run], repetitions: int, *, alternate: bool = False
) -> dict[str, list[float]]:
    """Seconds of each run in each repetition, after two that aren't counted.

    What comes first finds other caches than what comes second; to alternate evens out these few per cent.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repetition in range(-2, repetitions):
        for name in list(runs)[:: -1 if alternate and repetition % 2 else 1]:
            taken = machine.seconds(runs[name])
            if repetition >= 0:
                seconds[name].append(taken)
    return seconds


def median_ratio(these: list[float], those: list[float]) -> float:
    """Median of the repetitions' ratios."""
    return round(statistics.median(a / b for a, b in zip(these, those, strict=True)), 3)


def measure_layers(machine: Machine, repetitions: int) -> dict[str, float]:
    """The aligned layer's time as a multiple of a bare one's with the right fixed output padding."""
    figures = {}
    for name, kernel, rounding, side, wanted in LAYERS:
        aligned = AlignedConvTranspose2d(64, 32, kernel, 2, rounding=rounding, label="layer")
        excess = wanted - ((side - 1) * 2 - 2 * aligned.padding[0] + kernel)
        # where rows are too many, PyTorch's layer has no padding that leaves only the last ones away
        bare = nn.ConvTranspose2d(64, 32, kernel, 2, padding=aligned.padding, output_padding=max(0, excess))
        bare.load_state_dict(aligned.state_dict())
        machine.place(aligned), machine.place(bare)
        x = torch.rand(4, 64, side, side, device=machine.device).contiguous(memory_format=torch.channels_last)

        def aligned_run(layer: nn.Module = aligned, x: Tensor = x, wanted: int = wanted) -> None:
            with torch.no_grad(), machine.autocast():
                layer(x, size=(wanted, wanted))

        def bare_run(layer: nn.Module = bare, x: Tensor = x) -> None:
            with torch.no_grad(), machine.autocast():
                layer(x)

        seconds = take_turns(machine, {"aligned": aligned_run, "bare": bare_run}, 20 * repetitions, alternate=True)
        figures[name] = median_ratio(seconds["aligned"], seconds["bare"])
    return figures


def build(encoder: str, setting: str) -> nn.Module:
    """smp.Unet, its encoder alone, or a UNet with a setting."""
    torch.manual_seed(0)
    if setting in ("smp.Unet", "encoder"):
        peer = smp.Unet(encoder, encoder_weights=None, classes=CLASSES)
        return peer.encoder if setting == "encoder" else peer  # type: ignore[no-any-return]  # smp is untyped
    return UNet(encoder, classes=CLASSES, **SETTINGS[setting])


def inference(machine: Machine, model: nn.Module) -> Run:
    """One image through a model."""
    model = machine.place(model).eval()
    image = machine.image(*BATCHES["inference"])

    def run() -> None:
        with torch.inference_mode(), machine.autocast():
            model(image)

    return run


def training(machine: Machine, model: nn.Module) -> Run:
    """A training step; an encoder's loss is the sum of its feature maps."""
    model = machine.place(model).train()
    image = machine.image(*BATCHES["training"])
    mask = torch.randint(0, CLASSES, (image.shape[0], *image.shape[-2:]), device=machine.device)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)

    def run() -> None:
        optimizer.zero_grad()
        with machine.autocast():
            output = model(image)
            if isinstance(output, Tensor):
                loss = F.cross_entropy(output, mask)
            else:
                loss = torch.stack([feature.float().sum() for feature in output if feature.requires_grad]).sum() * 1e-6
        loss.backward()
        optimizer.step()

    return run


def measure_decoders(machine: Machine, encoder: str, repetitions: int) -> dict[str, Any]:
    """Decoder's and whole model's time of each setting as a multiple of smp.Unet's."""
    figures: dict[str, Any] = {}
    for task, make in (("inference", inference), ("training", training)):
        names = ("encoder", "smp.Unet", *SETTINGS)
        seconds = take_turns(machine, {name: make(machine, build(encoder, name)) for name in names}, repetitions)
        decoder = {
            name: [whole - alone for whole, alone in zip(seconds[name], seconds["encoder"], strict=True)]
            for name in names[1:]
        }
        figures[task] = {
            "milliseconds": {name: round(1000 * statistics.median(taken), 1) for name, taken in seconds.items()},
            "decoder": {name: median_ratio(decoder[name], decoder["smp.Unet"]) for name in SETTINGS},
            "model": {name: median_ratio(seconds[name], seconds["smp.Unet"]) for name in SETTINGS},
        }
        print(encoder, task, json.dumps(figures[task]), flush=True)
    return figures


def peak_megabytes(device: str, dtype: str, encoder: str, setting: str) -> float:
    """Memory that a training step adds at its peak, in MB; to be run in a process of its own."""
    machine = Machine(device, dtype)
    torch.set_num_threads(1)
    if machine.device.type == "cuda":
        run = training(machine, build(encoder, setting))
        run()
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return round((torch.cuda.max_memory_allocated() - before) / 1e6, 1)
    run = training(machine, build(encoder, setting))
    before = _resident("VmRSS")
    run()
    return round(_resident("VmHWM") - before, 1)


def _resident(field: str) -> float:
    """Resident memory of this process in MB: now (VmRSS), or at its peak (VmHWM)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024 / 1e6


def measure_memory(device: str, dtype: str, encoder: str) -> dict[str, float]:
    """Peak memory of a training step, for each model in a fresh process."""
    figures = {}
    for setting in ("smp.Unet", *SETTINGS):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures[setting] = pool.apply(peak_megabytes, (device, dtype, encoder, setting))
    print(encoder, "memory", json.dumps(figures), flush=True)
    return figures


def describe(machine: Machine) -> dict[str, Any]:
    """The machine and the versions."""
    cpu = [line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "device": torch.cuda.get_device_name() if machine.device.type == "cuda" else cpu[0],
        "dtype": str(machine.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "segmentation_models_pytorch": smp.__version__,
        "timm": timm.__version__,
        "seed": 0,
    }


def render(result: dict[str, Any]) -> str:
    """The README's table: decoder's time as a multiple of smp.Unet's."""
    encoders = list(result["decoders"])
    tasks = ("inference", "training")
    lines = [
        f"| decoder | {' | '.join(f'{name}, {task}' for name in encoders for task in tasks)} |",
        "|---" * (1 + len(encoders) * len(tasks)) + "|",
    ]
    for setting in SETTINGS:
        ratios = [f"{result['decoders'][name][task]['decoder'][setting]:.2f}" for name in encoders for task in tasks]
        lines.append(f"| {setting} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, or write README's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, help="of the CPU; default: PyTorch's")
    parser.add_argument("--encoders", nargs="+", default=ENCODERS)
    parser.add_argument("--repetitions", type=int, default=11)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="others stay as the output has them")
    parser.add_argument("--output", type=Path, default=RESULTS / "speed_cpu.json")
    parser.add_argument("--render", action="store_true", help="write README's table and measure nothing")
    args = parser.parse_args()
    if args.render:
        before, _, after = README.read_text(encoding="utf-8").partition("<!-- speed -->\n")
        rest = after.partition("<!-- end of speed -->\n")[2]
        table = render(json.loads(args.output.read_text(encoding="utf-8")))
        README.write_text(f"{before}<!-- speed -->\n{table}\n<!-- end of speed -->\n{rest}", encoding="utf-8")
        return
    warnings.filterwarnings("ignore", category=UserWarning)  # kernel 2's last row is known
    if args.threads:
        torch.set_num_threads(args.threads)
    machine = Machine(args.device, args.dtype)
    result = json.loads(args.output.read_text(encoding="utf-8")) if args.output.is_file() else {}
    conditions = describe(machine)
    if set(args.parts) < set(PARTS) and any(result.get(name, value) != value for name, value in conditions.items()):
        parser.error(f"{args.output} was measured elsewhere or otherwise; measure all parts, or give another --output")
    result |= conditions
    result["repetitions"] = result.get("repetitions", {}) | dict.fromkeys(args.parts, args.repetitions)
    if "layers" in args.parts:
        result["layers"] = measure_layers(machine, args.repetitions)
    if "decoders" in args.parts:
        result["decoders"] = {name: measure_decoders(machine, name, args.repetitions) for name in args.encoders}
    if "memory" in args.parts:
        result["memory"] = {name: measure_memory(args.device, args.dtype, name) for name in args.encoders}
    args.output.write_text(f"{json.dumps(result, indent=1)}\n", encoding="utf-8")
    print(json.dumps({part: result[part] for part in args.parts}, indent=1))


if __name__ == "__main__":
    main()
