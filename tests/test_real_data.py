"""The real data sets of the recipes: checked, packed, and trained from by two processes. Skipped where they are absent.

They are looked for in the folder that UNETSEG_DATA names, or in ../shared/data; a folder each, called as the recipe.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unetseg.__main__ import main

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("UNETSEG_DATA", ROOT.parent / "shared" / "data"))
RECIPES = sorted((ROOT / "configs").glob("*.yaml"))

pytestmark = pytest.mark.slow


def folder(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} isn't there; UNETSEG_DATA can name the folder of the data sets")
    return DATA / name


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_nothing_is_wrong_with_it(recipe: Path, tmp_path: Path) -> None:
    root = folder(recipe.stem)
    report = tmp_path / "report.json"
    assert main(["check-data", f"--config={recipe}", f"--data.root={root}", f"--json={report}"]) == 0
    content = json.loads(report.read_text(encoding="utf-8"))
    listed = sum(len((root / f"{split}.txt").read_text().split()) for split in ("train", "val", "test"))
    assert (content["pairs"], content["num_problems"]) == (listed, 0)


NOTE_NAMES = """
import json, sys
from pytorch_lightning import Trainer
from unetseg.data.datamodule import SegmentationDataModule
from unetseg.task import SegmentationTask

class Noting(SegmentationTask):
    def training_step(self, batch, index):
        self.seen = getattr(self, "seen", []) + batch["name"]
        return super().training_step(batch, index)

if __name__ == "__main__":
    data = SegmentationDataModule(shards=sys.argv[1], crop_size=32, batch_size=4, num_workers=2)
    task = Noting(data.classes, encoder_depth=3, decoder_channels=[8, 8, 8])
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, limit_val_batches=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.fit(task, data)
    with open(f"{sys.argv[2]}/{trainer.global_rank}.json", "w") as file:
        json.dump(task.seen, file)
"""


def test_two_processes_train_from_its_shards_and_see_each_pair_once(tmp_path: Path) -> None:
    root = folder("dsb2018")
    shards = tmp_path / "shards"
    options = [f"--config={ROOT / 'configs' / 'dsb2018.yaml'}", f"--data.root={root}", "--shard_mb=4"]
    assert main(["pack", *options, f"--output={shards}", "--data.num_workers=2"]) == 0
    (tmp_path / "run.py").write_text(NOTE_NAMES)
    command = [sys.executable, tmp_path / "run.py", shards, tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert run.returncode == 0, run.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert len(first) == len(second) == 232  # 464 in whole batches of 4 for each
    assert {*first, *second} == set((root / "train.txt").read_text().split())
