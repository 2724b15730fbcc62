"""What exported networks cost: the table in the docs is what was measured, and the script measures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULT = json.loads((ROOT / "benchmarks" / "results" / "export_cpu.json").read_text(encoding="utf-8"))
DOCUMENT = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


def test_the_docs_show_what_was_measured() -> None:
    encoders = RESULT["export"]
    for name in encoders["mobilenet_v2"]:
        cells = [f"{rows[name][key]}" for rows in encoders.values() for key in ("mb", "ms", "time_against_eager")]
        assert f"| {name} | {' | '.join(cells)} |" in DOCUMENT


def test_files_compute_the_same_and_half_is_half() -> None:
    for rows in RESULT["export"].values():
        for name, row in rows.items():
            if name != "eager":
                half = "float16" in name
                assert row["largest_difference"] < (3e-2 if half else 1e-4)
                assert row["mb"] < (0.55 if half else 1.05) * rows["eager"]["mb"]


@pytest.mark.slow
def test_it_measures(tmp_path: Path) -> None:
    options = ["--encoders", "resnet18", "--files", "onnx", "--repetitions", "1", "--warmups", "1"]
    command = [sys.executable, ROOT / "benchmarks" / "export.py", *options, "--output", tmp_path / "out.json"]
    subprocess.run([*command, "--height", "33", "--width", "65"], check=True, cwd=tmp_path, capture_output=True)
    rows = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["export"]["resnet18"]
    assert set(rows) == {"eager", "onnx"}
    assert rows["eager"]["time_against_eager"] == 1
    assert all(row["ms"] > 0 for row in rows.values())
