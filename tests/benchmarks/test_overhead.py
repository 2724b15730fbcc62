"""What `fit` costs beside a bare loop: the benchmark runs, and what it measured keeps the bound."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("overhead_*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_step_of_a_recipe_takes_at_most_a_twentieth_more(path: Path) -> None:
    steps = json.loads(path.read_text(encoding="utf-8"))["step"]
    assert steps["mobilenet_v2, 8 crops of 256x256"]["ratio"] <= 1.05


@pytest.mark.slow
def test_it_measures(tmp_path: Path) -> None:
    output = tmp_path / "overhead.json"
    options = ["--steps", "1", "--repetitions", "1", "--output", output]
    subprocess.run([sys.executable, ROOT / "benchmarks" / "overhead.py", *options], check=True, cwd=tmp_path)
    steps = json.loads(output.read_text(encoding="utf-8"))["step"]
    assert len(steps) == 3
    assert all(figures["fit_ms"] > 0 and figures["bare_ms"] > 0 for figures in steps.values())
