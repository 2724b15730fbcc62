"""Every encoder under odd sizes: does a UNet's output have the input's size?

    python benchmarks/encoders.py                       # all of them; goes on where it was stopped
    python benchmarks/encoders.py --limit 400           # the first 400: every family comes early
    python benchmarks/encoders.py --names resnet18 tu-swin_tiny_patch4_window7_224
    python benchmarks/encoders.py --render              # writes docs/encoders.md from the rows

Offline, with random weights. Each encoder has a process of its own, so that one which hangs or dies is a row too. A row
says what the probe found and what came of it:

    any size  the UNet gave logits of the image's size at each of four sizes, and the encoder took what the probe tried
    padded    so it did, and the encoder pads images to a multiple by itself
    refused   the UNet could not be built, and the message says why
    failed    anything else

Sizes are run on the meta device, which computes shapes, and one of them on the CPU. The largest goes through what the
verb inspect prints, too; the row's GFLOPs are the encoder's share of it.
"""

import argparse
import json
import multiprocessing
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch

from unetseg import UNet
from unetseg.encoders import encoder_geometry
from unetseg.errors import UnetsegError
from unetseg.inspection import inspect_model
from unetseg.inspection.table import render_table

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "benchmarks" / "results" / "encoders.jsonl"
TABLE = ROOT / "docs" / "encoders.md"

NO_PYRAMID = "no feature maps that halve"  # what the message says of those that can't serve any UNet
SIZES = [(67, 101), (96, 129), (113, 150), (251, 333)]


def all_names() -> list[str]:
    """segmentation-models-pytorch's own encoders, then timm's, one of every family before the second of any."""
    families: dict[str, list[str]] = defaultdict(list)
    for name in timm.list_models():
        families[re.match(r"[a-z]+", name)[0]].append(name)
    order = sorted((i, family) for family, names in families.items() for i in range(len(names)))
    return [*smp.encoders.get_encoder_names(), *(f"tu-{families[family][i]}" for i, family in order)]


@torch.no_grad()
def measure(name: str) -> dict[str, Any]:
    """The row of an encoder."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = UNet(name, classes=2, decoder_channels=(8, 8, 8, 8, 8)).eval()
    geometry = encoder_geometry(model.encoder, name)
    row: dict[str, Any] = {
        "result": "any size" if geometry.padded_to == 1 else "padded",
        "parameters": sum(parameter.numel() for parameter in model.encoder.parameters()),
        "strides": geometry.strides,
        "channels": geometry.channels,
        "rounding": geometry.rounding,
        "min_size": geometry.min_size,
        "padded_to": geometry.padded_to,
        "sizes": [(max(height, geometry.min_size), max(width, geometry.min_size)) for height, width in SIZES],
    }
    image = torch.rand(1, 3, *row["sizes"][0])
    logits = model(image)
    wrong = [] if logits.shape[-2:] == image.shape[-2:] and logits.isfinite().all() else [row["sizes"][0]]
    model = model.to("meta")
    wrong += [size for size in row["sizes"] if model(torch.empty(1, 3, *size, device="meta")).shape[-2:] != size]
    if wrong:
        return row | {"result": "failed", "message": f"wrong logits at {wrong}"}
    inspected = inspect_model(model, row["sizes"][-1])
    render_table(inspected, decoder="unet", methods=["conv_transpose"])  # raises nothing
    if (shown := inspected.stages[-1].upsampling.wanted) != row["sizes"][-1]:
        return row | {"result": "failed", "message": f"inspect shows {shown} for {row['sizes'][-1]}"}
    return row | {"gflops": round(inspected.encoder.flops / 1e9, 3)}


def work(name: str, answer: Connection) -> None:
    """Measure in a process of its own, and send the row."""
    start = time.monotonic()
    try:
        row = measure(name)
    except UnetsegError as error:
        row = {"result": "refused", "message": str(error)}
    except Exception as error:  # what must not happen is what this looks for
        row = {"result": "failed", "message": f"{type(error).__name__}: {error}"[:300]}
    answer.send({"name": name, **row, "seconds": round(time.monotonic() - start, 1)})


def isolated(name: str, timeout: float) -> dict[str, Any]:
    """The row of an encoder, even if its process dies or hangs."""
    # forked, so that the libraries are imported once; this process has computed nothing, so it has no threads
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(name, sender), daemon=True)
    process.start()
    sender.close()
    try:
        if receiver.poll(timeout):
            return dict(receiver.recv())
        message = f"took more than {timeout:.0f} s"
    except EOFError:
        process.join()
        message = f"its process ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()
    return {"name": name, "result": "failed", "message": message}


def read(path: Path) -> list[dict[str, Any]]:
    """Rows that are there already; a last line that was cut off by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """All rows, a line each; complete or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    partial.replace(path)


def summary(rows: list[dict[str, Any]]) -> str:
    """How many came to what, of segmentation-models-pytorch's own and of timm's."""
    results = ("any size", "padded", "refused", NO_PYRAMID, "failed")
    lines = [f"| encoders | tried | {' | '.join(results)} |", "|---|---|---|---|---|---|---|"]
    for source, prefix in (("segmentation-models-pytorch", False), ("timm", True)):
        these = [row for row in rows if row["name"].startswith("tu-") == prefix]
        counts = Counter(NO_PYRAMID if NO_PYRAMID in row.get("message", "") else row["result"] for row in these)
        cells = [counts.total(), *(counts[result] for result in results)]
        lines.append(f"| {source} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def render(rows: list[dict[str, Any]]) -> str:
    """The rows as a page."""
    lines = [
        "# Encoders",
        "",
        "Written by `python benchmarks/encoders.py --render` from [the rows](../benchmarks/results/encoders.jsonl).",
        f"GFLOPs are the encoder's at {'x'.join(map(str, SIZES[-1]))} pixels, as `inspect` counts them. Rounding goes",
        "from each feature map to the next deeper one, deepest first: u(p), d(own), or a(ny) where it is both or can't",
        "be told. The least side is of square images, in pixels. An encoder that takes multiples of a size only pads",
        "images to it by itself. `tu-` stands before timm's names; those tried are the first of every family, then the",
        "second, and so on.",
        "",
        summary(rows),
        "",
        "| encoder | million parameters | GFLOPs | rounding | least side | padded to |",
        "|---|---|---|---|---|---|",
    ]
    refused = ["", "Refused when built:", "", "| encoder | why |", "|---|---|"]
    for row in sorted(rows, key=lambda row: (row["name"].startswith("tu-"), row["name"])):
        if row["result"] in ("refused", "failed"):
            reason = re.split(r" (?:For example|Use one|Another depth) ", row["message"])[0]
            reason = reason.removeprefix(f"encoder {row['name']!r} ")
            refused.append(f"| {row['name']} | {reason} |")
            continue
        rounding = "".join(word[0] for word in row["rounding"])
        padded = "" if row["padded_to"] == 1 else row["padded_to"]
        cost = f"{row['parameters'] / 1e6:.1f} | {row['gflops']:.1f}"
        lines.append(f"| {row['name']} | {cost} | {rounding} | {row['min_size']} | {padded} |")
    return "\n".join([*lines, *refused]) + "\n"


def main() -> None:
    """Measure what is missing, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", help="these only; default: all")
    parser.add_argument("--limit", type=int, help="the first so many only")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one encoder")
    parser.add_argument("--output", type=Path, default=ROWS, help="where the rows go")
    parser.add_argument("--render", action="store_true", help=f"write {TABLE.relative_to(ROOT)} and measure nothing")
    args = parser.parse_args()
    rows = read(args.output)
    if args.render:
        TABLE.write_text(render(rows), encoding="utf-8")
        return
    names = all_names()
    if unknown := set(args.names or []) - set(names):
        parser.error(f"--names: there is no encoder {', '.join(sorted(unknown))}")
    rows = [row for row in rows if row["result"] != "failed"]  # they have another try
    done = {row["name"] for row in rows}
    write(args.output, rows)
    for name in (args.names or names)[: args.limit]:
        if name in done:
            continue
        row = isolated(name, args.timeout)
        rows.append(row)
        print(f"{name}: {row['result']} {row.get('message', '')}", flush=True)
        with args.output.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(row)}\n")
    print(summary(rows))


if __name__ == "__main__":
    main()
