"""What prediction costs: what was measured keeps the bounds, and the script measures."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def test_memory_and_time_do_not_grow_with_the_image() -> None:
    sides = json.loads((RESULTS / "prediction_scale_cpu.json").read_text(encoding="utf-8"))["scale"]["sides"]
    assert max(row["peak_rss_mb"] for row in sides.values()) * 2**20 < 2e9
    later = [row for row in sides.values() if "cpu_s_per_megapixel_against_the_one_before" in row]
    assert len(later) == 2
    assert max(row["cpu_s_per_megapixel_against_the_one_before"] for row in later) < 1.1


@pytest.mark.parametrize("path", sorted(RESULTS.glob("prediction_throughput_*.json")), ids=lambda path: path.stem)
def test_reading_and_writing_cost_at_most_a_tenth(path: Path) -> None:
    rows = json.loads(path.read_text(encoding="utf-8"))["throughput"]
    assert min(row["ratio"] for row in rows.values()) >= 0.9


@pytest.mark.slow
def test_it_measures(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.fromarray(np.zeros((45, 67, 3), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    for part, options in {
        "throughput": ["--images", tmp_path / "photos", "--encoders", "resnet18", "--repetitions", "1"],
        "scale": ["--sides", "300", "600", "--encoders", "resnet18"],
    }.items():
        output = tmp_path / f"{part}.json"
        command = [sys.executable, ROOT / "benchmarks" / "prediction.py", part, *options, "--output", output]
        subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
        assert json.loads(output.read_text(encoding="utf-8"))[part]
