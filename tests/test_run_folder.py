"""Each run has a folder of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from unetseg.run_folder import RunLogger


def test_numbers_go_on_where_there_is_a_gap(tmp_path: Path) -> None:
    for name in ("version_0", "version_4", "other"):
        (tmp_path / name).mkdir()
    assert Path(RunLogger(str(tmp_path)).log_dir) == tmp_path / "version_5"
    assert (tmp_path / "version_5").is_dir()


def test_a_folder_that_somebody_else_has_just_made_is_left_to_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("pytorch_lightning.loggers.CSVLogger._get_next_version", lambda self: 0)
    (tmp_path / "version_0").mkdir()
    logger = RunLogger(str(tmp_path))
    assert Path(logger.log_dir).name == "version_1"
    logger.log_metrics({"loss": 0.5}, step=1)
    logger.save()
    assert [path.name for path in tmp_path.glob("*/metrics.csv")] == ["metrics.csv"]


@pytest.mark.slow
def test_runs_that_start_together_do_not_meet(tmp_path: Path) -> None:
    code = f"from unetseg.run_folder import RunLogger; print(RunLogger({str(tmp_path)!r}).log_dir)"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    folders = {run.communicate()[0].strip() for run in runs}
    assert {Path(folder).name for folder in folders} == {"version_0", "version_1", "version_2"}
