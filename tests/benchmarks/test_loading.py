"""The loader's benchmark runs and writes its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_measures(squares: Path, tmp_path: Path) -> None:
    output, recipe = tmp_path / "loading.json", tmp_path / "recipe.yaml"
    recipe.write_text(
        "data: {classes: [background, square], crop_size: 32, batch_size: 2}\n"
        "model: {encoder: resnet18, encoder_depth: 3, decoder_channels: [16, 8, 8]}\n"
    )
    options = ["--root", squares, "--workers", "0", "1", "--steps", "2", "--repetitions", "1", "--output", output]
    command = [sys.executable, ROOT / "benchmarks" / "loading.py", "--config", recipe, *options]
    subprocess.run(command, check=True, cwd=ROOT)
    figures = json.loads(output.read_text())["samples_per_second"]
    assert set(figures["loader"]) == {f"{n} workers, {where}" for n in (0, 1) for where in ("files", "cache")}
    assert min(figures["loader"].values()) > 0
    assert all(0 < share < 10 for share in figures["training_by_step"].values())
