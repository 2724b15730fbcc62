"""What README and docs/export.md show of exports is true, and takes no more than they say."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prediction_jobs import files, make_task, save, write_image

from unetseg import Predictor
from unetseg.__main__ import main

ROOT = Path(__file__).parents[2]
EXPORT = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
SHIPPING = re.search(r"## Ship it\n.*?(?=\n## )", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group()

# the only packages of a machine to which a network is shipped, with the libraries that they bring
SHIPPED = ["numpy", "numpy.libs", "PIL", "pillow.libs", "onnxruntime"]


def commands(text: str) -> list[list[str]]:
    """The lines of its shell blocks, as words after python."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines()]


def code(text: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return block


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a reader types: a trained model, and photos."""
    (tmp_path / "runs" / "version_0").mkdir(parents=True)
    save(make_task(), tmp_path / "runs" / "version_0" / "best.ckpt")
    for name, size in {"photo.jpg": (35, 49), "photos/a.jpg": (33, 61), "photos/deep/one.png": (64, 50)}.items():
        write_image(tmp_path / name, *size)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Isolated:
    """A Python that sees the shipped packages and this one: neither torch nor what this package depends on."""

    def __init__(self, folder: Path) -> None:
        (installed,) = {Path(__import__(name).__file__).parents[1] for name in ("numpy", "PIL", "onnxruntime")}
        packages, self.home = folder / "packages", folder / "home"
        packages.mkdir()
        self.home.mkdir()
        for name in SHIPPED:
            if (installed / name).exists():
                (packages / name).symlink_to(installed / name)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ORT_"))}
        path = os.pathsep.join([str(packages), str(ROOT)])
        self.environment = kept | {"PYTHONPATH": path, "HOME": str(self.home)}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", *words]  # without site-packages
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_readme_ships_a_network_to_a_machine_with_three_packages(folder: Path) -> None:
    export, predict = commands(SHIPPING)
    subprocess.run([sys.executable, *export], check=True, capture_output=True)
    isolated = Isolated(folder)
    assert "No module named 'torch'" in isolated.run("-c", "import torch").stderr

    options = ["--save=mask,overlay,probabilities,shares", "--tile=40", "--overlap=8", "--tta=flips"]
    done = isolated.run(*predict, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("2 of 2 images predicted to masks/\n") or "2 of 2 images" in done.stdout
    checkpoint = ["--ckpt_path=runs/version_0/best.ckpt", "--output=expected", "--trainer.accelerator=cpu"]
    assert main(["predict", "photos", *checkpoint, *options]) == 0
    shipped, expected = files(folder / "masks"), files(folder / "expected")
    assert shipped.keys() == expected.keys()
    masks = [name for name in expected if name.endswith(".png")]
    assert len(masks) == 3
    assert {name: shipped[name] for name in masks} == {name: expected[name] for name in masks}
    assert list(isolated.home.iterdir()) == []  # nothing is kept for reports of its use

    assert isolated.run("-c", code(SHIPPING) + "np.save('classes.npy', class_map)").stderr == ""
    predictor = Predictor.from_checkpoint("runs/version_0/best.ckpt", device="cpu")
    np.testing.assert_array_equal(np.load("classes.npy"), predictor(predictor.read("photo.jpg")))


def test_what_needs_more_packages_says_so(folder: Path) -> None:
    isolated = Isolated(folder)
    for words, package in ((["fit"], "torch"), (["predict", "a", "--ckpt_path=b", "--output=c"], "torch")):
        done = isolated.run("-m", "unetseg", *words)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {words[0]} needs {package}, which isn't installed: pip install -e .")


@pytest.mark.slow
def test_the_commands_about_export_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = commands(EXPORT)
    assert len(shown) == 7
    for words in shown:
        assert words[:2] == ["-m", "unetseg"]
        assert main(words[2:]) == 0, words
    assert {path.name for path in folder.iterdir() if path.suffix in (".onnx", ".pt2", ".xml", ".bin")} == {
        *("model.onnx", "model.pt2", "model.xml", "model.bin"),
        *("classes.onnx", "half.onnx", "fixed.onnx"),
    }
    assert {path.name for path in (folder / "masks").iterdir()} >= {"a.png", "a.overlay.jpg", "deep"}


@pytest.mark.slow
def test_the_code_about_export_runs(folder: Path) -> None:
    names: dict[str, Any] = {}
    exec(compile(code(EXPORT), "docs/export.md", "exec"), names)
    assert names["class_map"].shape == (35, 49)
    np.testing.assert_array_equal(names["class_map"], names["predictor"](names["predictor"].read("photo.jpg")))


def test_the_options_about_export_exist(capsys: pytest.CaptureFixture[str]) -> None:
    known: set[str] = set()
    for verb in ("export", "predict"):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        known |= set(re.findall(r"--[\w.]+", capsys.readouterr().out))
    others = {"--no", "--onnx", "--opt_out"}  # of pip, trtexec and opt_in_out
    assert set(re.findall(r"(?<![\w|-])--[a-z][\w.]+\b", EXPORT)) - known == others
