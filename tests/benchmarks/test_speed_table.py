"""The speed table: README's is that of the JSON, and the script that measures runs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "speed.py"
RESULT = json.loads((ROOT / "benchmarks" / "results" / "speed_cpu.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("speed")


def test_readme_shows_what_was_measured(script: ModuleType) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- speed -->\n{script.render(RESULT)}\n<!-- end of speed -->" in readme


def test_every_setting_was_measured_with_every_encoder(script: ModuleType) -> None:
    assert set(RESULT["decoders"]) == set(RESULT["memory"]) == set(script.ENCODERS)
    for figures in RESULT["decoders"].values():
        for task in ("inference", "training"):
            assert set(figures[task]["decoder"]) == set(script.SETTINGS)
    assert set(RESULT["layers"]) == {name for name, *_ in script.LAYERS}


@pytest.mark.slow
def test_it_measures(tmp_path: Path) -> None:
    output = tmp_path / "speed.json"
    command = [sys.executable, SCRIPT, "--encoders", "resnet18", "--repetitions", "1", "--output", output]
    subprocess.run(command, check=True, cwd=ROOT)
    result = json.loads(output.read_text())
    # resnet18 and smp.Unet's decoder take longer than nothing and less than a minute
    milliseconds = result["decoders"]["resnet18"]["training"]["milliseconds"]
    assert 0 < milliseconds["encoder"] < milliseconds["smp.Unet"] < 60_000
    assert all(figure > 0 for figure in result["memory"]["resnet18"].values())
