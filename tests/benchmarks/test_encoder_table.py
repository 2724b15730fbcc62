"""The table of encoders: its rows are true, complete and explained, and the script that writes them goes on."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import segmentation_models_pytorch as smp
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "encoders.py"
ROWS = [json.loads(line) for line in (ROOT / "benchmarks" / "results" / "encoders.jsonl").read_text().splitlines()]
BY_NAME = {row["name"]: row for row in ROWS}


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("encoders")


def test_all_of_segmentation_models_and_300_of_timm_are_in_it() -> None:
    natives = {name for name in BY_NAME if not name.startswith("tu-")}
    assert natives <= set(smp.encoders.get_encoder_names())
    assert len(natives) == 76
    assert len(BY_NAME) - len(natives) >= 300
    assert len(BY_NAME) == len(ROWS)


def test_none_failed_and_what_is_refused_is_explained() -> None:
    counts = Counter(row["result"] for row in ROWS)
    assert set(counts) <= {"any size", "padded", "refused"}
    reasons = ("pixels only", "no feature maps that halve", "fit no stride", "can't be built with depth 5")
    assert [
        r["name"] for r in ROWS if r["result"] == "refused" and not any(why in r["message"] for why in reasons)
    ] == []


def test_nine_in_ten_of_those_with_feature_maps_that_halve_take_any_size() -> None:
    pyramids = [row for row in ROWS if "no feature maps that halve" not in row.get("message", "")]
    assert sum(row["result"] != "refused" for row in pyramids) >= 0.9 * len(pyramids)
    timms = [row["result"] for row in pyramids if row["name"].startswith("tu-")]
    counts = f"{len(timms) - timms.count('refused')} of the {len(timms)} whose feature maps halve"
    assert counts in (ROOT / "README.md").read_text(encoding="utf-8")


def test_inspect_showed_every_one_that_is_accepted() -> None:
    assert [row["name"] for row in ROWS if row["result"] != "refused" and not row["gflops"] > 0] == []


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mit_b0", "tu-dla34"])
def test_a_sample_of_it_is_measured_again(script: ModuleType, name: str) -> None:
    threads = torch.get_num_threads()
    try:
        again = json.loads(json.dumps(script.measure(name)))
    finally:
        torch.set_num_threads(threads)
    recorded = {key: value for key, value in BY_NAME[name].items() if key not in ("name", "seconds")}
    assert again == recorded


def test_the_page_is_written_from_the_rows(script: ModuleType) -> None:
    assert (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8") == script.render(ROWS)


@pytest.mark.slow
def test_it_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"name": "resnet34", "result": "any size"}) + '\n{"name": "tu-coat_ti')
    command = [sys.executable, SCRIPT, "--output", rows, "--names", "resnet34", "tu-coat_tiny", "resnet18"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "resnet34:" not in said  # it was there already
    results = {row["name"]: row["result"] for row in map(json.loads, rows.read_text().splitlines())}
    assert results == {"resnet34": "any size", "tu-coat_tiny": "refused", "resnet18": "any size"}
    mistyped = subprocess.run([*command, "resnet43"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert "there is no encoder resnet43" in mistyped.stderr


def test_an_encoder_whose_process_hangs_or_dies_is_a_row(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "work", lambda name, answer: __import__("time").sleep(60))
    assert script.isolated("resnet18", timeout=0.1)["message"] == "took more than 0 s"
    monkeypatch.setattr(script, "work", lambda name, answer: __import__("os")._exit(7))
    assert script.isolated("resnet18", timeout=30)["message"] == "its process ended with 7"
