"""Several processes predict as one does: each image once, and what they say is said once."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prediction_jobs import files, pixels, predict, write_image, write_raster

pytestmark = pytest.mark.slow

ALL = "--save=mask,overlay,probabilities,polygons,shares"

# what each process puts into its place
RECORD = """
import atexit, os, sys
from pathlib import Path
import torch.distributed as dist
from unetseg.__main__ import main

replace = Path.replace

def recorded(path, target):
    with open(f"record/{os.getpid()}", "a") as file:
        file.write(f"{Path(target).name}\\n")
    return replace(path, target)

Path.replace = recorded
atexit.register(lambda: open(f"group/{os.getpid()}", "w").write(str(dist.is_initialized())))
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""

LIGHTNING = [sys.executable, "record.py"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "record.py"]


def start(
    launcher: list[str], folder: Path, *args: str, code: int = 0
) -> tuple[subprocess.CompletedProcess[str], list[Counter[str]]]:
    """Run the verb in two processes; return what it said, and what each of them wrote."""
    record = folder / "record"
    record.mkdir(exist_ok=True)
    for path in record.iterdir():
        path.unlink()
    (folder / "group").mkdir(exist_ok=True)  # whether a process was in one when it ended
    (folder / "record.py").write_text(RECORD)
    own = ["--trainer.accelerator=cpu", *([] if launcher is TORCHRUN else ["--trainer.devices=2"])]
    command = [*launcher, "predict", *args, *own]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr[-3000:]
    assert {path.read_text() for path in (folder / "group").iterdir()} == {"False"}
    return done, [Counter(path.read_text().split()) for path in sorted(record.iterdir())]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(6):
        write_image(tmp_path / "in" / f"{number}.png", 33 + number % 2, 41)
    write_raster(tmp_path / "in" / "7.tif", pixels(71, 66))
    return tmp_path / "in"


@pytest.mark.parametrize("launcher", [LIGHTNING, TORCHRUN], ids=["lightning", "torchrun"])
def test_each_image_is_written_once(tmp_path: Path, photos: Path, checkpoint: Path, launcher: list[str]) -> None:
    (photos / "8.png").write_bytes(b"")
    (photos / "a.png").write_text("text")  # the others are two processes'
    (photos / "b.png").write_bytes((photos / "0.png").read_bytes()[:900])
    args = ["in", f"--ckpt_path={checkpoint}", "--output=out", ALL]
    done, written = start(launcher, tmp_path, *args, code=1)
    assert predict(photos, checkpoint, tmp_path / "whole", ALL) == 1
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    both = written[0] + written[1]
    assert set(both.values()) == {1}
    assert set(both) == {Path(name).name for name in files(tmp_path / "whole")}
    assert [len(one) for one in written] in ([4 * 4 + 3, 4 * 3], [4 * 3, 4 * 4 + 3])
    assert done.stdout.count("7 of 10 images predicted to out") == 1
    (at,) = [i for i, line in enumerate(done.stderr.splitlines()) if line.startswith("error: 3 of 10 images could")]
    listed = [line.split(":")[0] for line in done.stderr.splitlines()[at + 1 : at + 4]]
    assert listed == ["  in/8.png", "  in/a.png", "  in/b.png"]
    assert launcher is TORCHRUN or "Traceback" not in done.stderr  # torchrun tells of exit code 1 itself
    lines = (tmp_path / "out" / "_shares.jsonl").read_text().splitlines()
    assert [json.loads(line)["image"] for line in lines] == [*(f"{i}.png" for i in range(6)), "7.tif"]
    for number in range(6):
        with Image.open(tmp_path / "out" / f"{number}.png") as mask:
            assert np.asarray(mask).shape == (33 + number % 2, 41)


def test_two_processes_go_on(tmp_path: Path, photos: Path, checkpoint: Path) -> None:
    args = ["in", f"--ckpt_path={checkpoint}", "--output=out", ALL, "--skip_existing"]
    start(LIGHTNING, tmp_path, *args)
    whole = files(tmp_path / "out")
    for name in ("2.png", "3.geojson", "7.tif"):
        (tmp_path / "out" / name).unlink()
    done, written = start(LIGHTNING, tmp_path, *args)
    assert "3 of 7 images predicted to out, 4 were there" in done.stdout
    both = sum(written, Counter())
    assert {name.split(".")[0] for name in both} == {"2", "3", "7", "_legend", "_shares"}
    assert files(tmp_path / "out") == whole


def test_a_process_may_have_nothing_to_do(tmp_path: Path, photos: Path, checkpoint: Path) -> None:
    args = ["in/1.png", f"--ckpt_path={checkpoint}", "--output=out", ALL]
    done, written = start(LIGHTNING, tmp_path, *args)
    assert "1 of 1 images predicted" in done.stdout
    assert len(written) == 1
    assert len(files(tmp_path / "out")) == 4 + 3


def test_a_mistake_of_the_second_process_ends_both(tmp_path: Path, photos: Path, checkpoint: Path) -> None:
    """A folder stands where its file belongs."""
    (tmp_path / "out" / "1.png").mkdir(parents=True)
    done, _ = start(LIGHTNING, tmp_path, "in", f"--ckpt_path={checkpoint}", "--output=out", code=1)
    assert "error: " in done.stderr
    assert "1.png can't be written to out: Is a directory." in done.stderr
