"""The curves of real runs: ended, interrupted, resumed, and without matplotlib."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from unetseg.callbacks import CurvesPlot
from unetseg.report import curves

Build = Callable[..., Any]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """The epochs of the losses in each picture."""
    seen: list[list[float]] = []
    draw = curves.draw_curves

    def watch(rows: list[dict[str, float]]) -> Any:
        figure = draw(rows)
        seen.append(figure.axes[0].lines[0].get_xdata().tolist())
        return figure

    monkeypatch.setattr(curves, "draw_curves", watch)
    return seen


class Interrupt(Callback):
    """As Ctrl+C, before the second epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def logger(tmp_path: Path) -> CSVLogger:
    return CSVLogger(tmp_path, name="runs")


def test_a_run_has_a_picture_of_all_its_epochs(
    tmp_path: Path, trainer: Build, data: Build, threshold: Build, drawn: list[list[float]]
) -> None:
    trainer(callbacks=[CurvesPlot()], logger=logger(tmp_path), max_epochs=3).fit(threshold(), data())
    assert drawn == [[1, 2, 3]]
    with Image.open(tmp_path / "runs" / "version_0" / "curves.png") as picture:
        assert picture.width > 800


def test_an_interrupted_run_has_one_too(
    tmp_path: Path, trainer: Build, data: Build, threshold: Build, drawn: list[list[float]]
) -> None:
    one = trainer(callbacks=[CurvesPlot(), Interrupt()], logger=logger(tmp_path), max_epochs=3)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit):
        one.fit(threshold(), data())
    signal.signal(signal.SIGINT, handler)  # Lightning has it ignored
    assert drawn == [[1]]
    assert (tmp_path / "runs" / "version_0" / "curves.png").is_file()


def test_a_run_that_ends_before_its_first_epoch_has_none(
    tmp_path: Path, trainer: Build, data: Build, threshold: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fail(Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            raise RuntimeError("as it happens")

    with pytest.raises(RuntimeError, match="as it happens"):
        trainer(callbacks=[CurvesPlot(), Fail()], logger=logger(tmp_path)).fit(threshold(), data())
    assert list(tmp_path.rglob("curves.png")) == []
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path., callbacks")
def test_a_resumed_run_begins_with_the_earlier_ones_epochs(
    tmp_path: Path, trainer: Build, data: Build, threshold: Build, drawn: list[list[float]]
) -> None:
    folder = tmp_path / "runs" / "version_0"
    save = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    options = {"logger": logger(tmp_path), "enable_checkpointing": True}
    trainer(callbacks=[CurvesPlot(), save], max_epochs=3, **options).fit(threshold(), data())
    # from the second of three epochs, as a best one may be
    again = trainer(callbacks=[CurvesPlot()], max_epochs=5, logger=logger(tmp_path))
    again.fit(threshold(), data(), ckpt_path=folder / "epoch=1.ckpt")
    assert drawn == [[1, 2, 3], [1, 2, 3, 4, 5]]
    assert (tmp_path / "runs" / "version_1" / "curves.png").is_file()


def test_without_matplotlib_a_line_says_how_to_get_it(
    tmp_path: Path,
    trainer: Build,
    data: Build,
    threshold: Build,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    trainer(callbacks=[CurvesPlot()], logger=logger(tmp_path), max_epochs=2).fit(threshold(), data())
    assert capsys.readouterr().out == (
        "hint: no curves.png was drawn: curves need matplotlib, which isn't installed: pip install -e '.[plot]'\n"
    )
    assert list(tmp_path.rglob("curves.png")) == []


def test_without_metrics_there_are_none(tmp_path: Path, trainer: Build, data: Build, threshold: Build) -> None:
    trainer(callbacks=[CurvesPlot()]).fit(threshold(), data())
    assert list(tmp_path.rglob("curves.png")) == []
