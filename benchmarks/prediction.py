"""What prediction costs beside a bare forward, how it scales with an image, and what tiles change.

    python benchmarks/prediction.py throughput --images DIR --output benchmarks/results/prediction_throughput_cpu.json
    python benchmarks/prediction.py scale --output benchmarks/results/prediction_scale_cpu.json
    python benchmarks/prediction.py tiles --ckpt_path CKPT --images DIR --output tiles.json

On a GPU: throughput with --device gpu --precision bf16-mixed --batch_size 8.

throughput: all of the job behind `predict` (read, decode, predict, encode, write) against a loop of forwards of the
same folded network over the same images, which lie in memory as tensors; both take turns, and the ratio is the median
of the repetitions'. Masks of random weights are noise, which takes PNG several times as long as others; those of a
checkpoint (--ckpt_path, with its encoder's name) are such as people see. scale: seconds and resident memory of
`predict`, each in a process of its own, for GeoTIFFs of 4 times the pixels each. tiles: the share of pixels whose class
tiles change, over all pixels and within 16 pixels of the tiles' seams.
"""

import argparse
import functools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from unetseg import Predictor, UNet
from unetseg.data.image_header import image_size
from unetseg.data.synthetic import SyntheticScenes
from unetseg.inference.inputs import plan_outputs
from unetseg.inference.job import predict_files
from unetseg.inference.outputs import OutputWriter
from unetseg.inference.pipeline import FilePipeline
from unetseg.inference.tiling import split_axis
from unetseg.trainer_messages import quieten

CLASSES = ["a", "b", "c", "d", "e", "f"]
SCENE = 1000  # side of the texture that a large image repeats


def network(encoder: str) -> UNet:
    """With random weights, which cost as much as others."""
    torch.manual_seed(0)
    return UNet(encoder, classes=len(CLASSES), head="upsample")


def throughput(args: argparse.Namespace) -> dict[str, Any]:
    """Images a second of both, for each encoder."""
    quieten()
    sources = sorted(path for path in args.images.iterdir() if path.is_file())[: args.count]
    device = "cuda" if args.device == "gpu" else "cpu"
    results = {}
    for encoder in args.encoders:
        if args.ckpt_path:
            predictor = Predictor.from_checkpoint(args.ckpt_path, device=device, precision=args.precision)
        else:
            predictor = Predictor(network(encoder), CLASSES, device=device, precision=args.precision)
        images = [predictor.read(path) for path in sources]
        batches = [predictor._batch(images[i : i + args.batch_size]) for i in range(0, len(images), args.batch_size)]
        runs = {
            "predict": functools.partial(end_to_end, predictor, sources, args),
            "bare": functools.partial(bare, predictor, batches, args.precision),
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for repetition in range(args.repetitions + 1):
            for name, run in runs.items():
                taken = run()
                if repetition:  # the first is a warm-up
                    seconds[name].append(taken)
        ratios = [bare_s / own for own, bare_s in zip(seconds["predict"], seconds["bare"], strict=True)]
        results[encoder] = {
            "images": len(sources),
            "size": f"{images[0].shape[1]}x{images[0].shape[0]}",
            "predict_images_per_s": round(len(sources) / statistics.median(seconds["predict"]), 2),
            "bare_images_per_s": round(len(sources) / statistics.median(seconds["bare"]), 2),
            "ratio": round(statistics.median(ratios), 3),
        }
    return results


def end_to_end(predictor: Predictor, sources: list[Path], args: argparse.Namespace) -> float:
    """Seconds of the whole job, from files to masks."""
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_outputs(sources, Path(folder) / "masks")
        writer = OutputWriter(Path(folder) / "masks", predictor.description)
        start = time.perf_counter()
        pipeline = FilePipeline(
            predictor, writer, plan, batch_size=args.batch_size, threads=args.threads, skip_existing=False
        )
        options = {"accelerator": args.device, "devices": 1, "num_nodes": 1}
        outcome = predict_files(predictor, pipeline, trainer_options=options)
        taken = time.perf_counter() - start
    assert outcome is not None
    assert outcome.written == len(sources)
    return taken


@torch.inference_mode()
def bare(predictor: Predictor, batches: list[Any], precision: str) -> float:
    """Seconds of the forwards alone."""
    lower = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    device = predictor.device.type
    start = time.perf_counter()
    with torch.autocast(device, lower, enabled=lower is not None):
        for batch in batches:
            predictor.network(batch)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def scale(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory for each side, each in a process of its own."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in args.sides:
            source = Path(folder) / f"{side}.tif"
            write_scene(source, side)
            command = [sys.executable, __file__, "one", "--source", str(source), "--masks", f"{folder}/masks"]
            done = subprocess.run([*command, "--encoder", args.encoders[0]], check=True, capture_output=True, text=True)
            row = json.loads(done.stdout.splitlines()[-1])
            results[f"{side}x{side}"] = row
            print(side, row, file=sys.stderr)
            source.unlink()
    for smaller, larger in zip(args.sides, args.sides[1:], strict=False):
        before, after = results[f"{smaller}x{smaller}"], results[f"{larger}x{larger}"]
        for name in ("s_per_megapixel", "cpu_s_per_megapixel"):
            after[f"{name}_against_the_one_before"] = round(after[name] / before[name], 3)
    return {"encoder": args.encoders[0], "head": "upsample", "classes": len(CLASSES), "sides": results}


def write_scene(path: Path, side: int) -> None:
    """A georeferenced image, by rows of blocks."""
    import rasterio
    from rasterio.windows import Window

    scene, _ = SyntheticScenes(1, seed=0).render(0)
    scene = np.asarray(Image.fromarray(scene).resize((SCENE, SCENE)))
    band = np.tile(scene.transpose(2, 0, 1), (1, 1, -(-side // SCENE)))[..., :side]
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "bigtiff": "if_safer"}
    transform = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)
    shape = {"width": side, "height": side, "count": 3, "dtype": "uint8", "interleave": "pixel", "zlevel": 1}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=transform, **shape, **options) as file:
        for top in range(0, side, 512):
            rows = [(top + i) % SCENE for i in range(min(512, side - top))]
            file.write(band[:, rows], window=Window(0, top, side, len(rows)))


def one(args: argparse.Namespace) -> dict[str, Any]:
    """Predict one image; the process's own peak of resident memory."""
    quieten()
    predictor = Predictor(network(args.encoder), CLASSES, device="cpu")
    writer = OutputWriter(args.masks, predictor.description)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    options = {"accelerator": "cpu", "devices": 1, "num_nodes": 1}
    plan = plan_outputs([args.source], args.masks)
    start, start_cpu = time.perf_counter(), time.process_time()
    pipeline = FilePipeline(predictor, writer, plan, batch_size=1, threads=1, skip_existing=False)
    outcome = predict_files(predictor, pipeline, trainer_options=options)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    assert outcome is not None
    assert outcome.failures == []
    height, width = image_size(args.source)
    megapixels = height * width / 1e6
    return {
        "seconds": round(seconds, 1),
        "s_per_megapixel": round(seconds / megapixels, 4),
        "cpu_s_per_megapixel": round(cpu_seconds / megapixels, 4),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "rss_before_mb": round(before / 1024),
    }


def tiles(args: argparse.Namespace) -> dict[str, Any]:
    """How tiles differ from the whole, for each way to cut."""
    sources = sorted(path for path in args.images.iterdir() if path.is_file())[: args.count]
    whole = Predictor.from_checkpoint(args.ckpt_path, device="cpu", tile=None)
    images = [whole.read(path) for path in sources]
    expected = [whole.predict([image], probabilities=True)[0] for image in images]
    rows = []
    for tile, overlap, blend in [(256, 0, "none"), (256, 64, "none"), (256, 64, "linear"), (256, 64, "gaussian"),
                                 (512, 128, "gaussian")]:  # fmt: skip
        predictor = Predictor.from_checkpoint(args.ckpt_path, device="cpu", tile=tile, overlap=overlap, blend=blend)
        differ, near, far, most = [], [], [], 0.0
        for image, target in zip(images, expected, strict=True):
            (got,) = predictor.predict([image], probabilities=True)
            changed = got.classes != target.classes
            seam = near_seams(image.shape[:2], predictor)
            differ.append(changed.mean())
            near.append(changed[seam].mean())
            far.append(changed[~seam].mean())
            most = max(most, float(np.abs(got.probabilities - target.probabilities).max()))
        rows.append(
            {
                "tile": tile,
                "overlap": overlap,
                "blend": blend,
                "pixels_that_differ": round(float(np.mean(differ)), 6),
                "within_16_pixels_of_a_seam": round(float(np.mean(near)), 6),
                "elsewhere": round(float(np.mean(far)), 6),
                "largest_difference_of_a_probability": round(most, 4),
            }
        )
    return {"images": len(images), "size": f"{images[0].shape[1]}x{images[0].shape[0]}", "rows": rows}


def near_seams(size: tuple[int, int], predictor: Predictor) -> np.ndarray:
    """(H, W) bool: pixels within 16 of the middle of an overlap."""
    near = np.zeros(size, bool)
    for axis, length in enumerate(size):
        for start, _ in split_axis(length, predictor.tiling)[1:]:
            middle = start + predictor.tiling.overlap // 2
            near[(slice(None),) * axis + (slice(max(0, middle - 16), middle + 16),)] = True
    return near


def circumstances(args: argparse.Namespace) -> dict[str, Any]:
    """Machine and versions."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    processor = next(line.split(": ")[1] for line in lines if "model name" in line)
    device = torch.cuda.get_device_name() if args.device == "gpu" else processor
    return {
        "machine": {"device": device, "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["throughput", "scale", "tiles", "one"])
    parser.add_argument("--images", type=Path, help="folder of images")
    parser.add_argument("--count", type=int, default=200, help="how many of them")
    parser.add_argument("--ckpt_path", type=Path)
    parser.add_argument("--encoders", nargs="+", default=["mobilenet_v2", "resnet34"])
    parser.add_argument("--sides", nargs="+", type=int, default=[7500, 15_000, 30_000])
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed", "16-mixed"])
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="that read, and as many that write")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file")
    for name in ("source", "masks"):
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--encoder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "one":
        print(json.dumps(one(args)))
        return
    result = {args.part: {"throughput": throughput, "scale": scale, "tiles": tiles}[args.part](args)}
    given = [word for word in sys.argv[1:] if word != str(args.output) and word != "--output"]
    hidden = {str(args.images): "DIR", str(args.ckpt_path): "CKPT"}
    result["command"] = " ".join(["python benchmarks/prediction.py", *(hidden.get(word, word) for word in given)])
    result |= circumstances(args)
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
