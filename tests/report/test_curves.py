"""Curves hold what was logged, at the epoch that it belongs to."""

import math
import sys
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from unetseg.errors import UnetsegError
from unetseg.report.curves import NoCurvesError, draw_curves, plot_curves, read_metrics

# as Lightning writes: rows of learning rates, of validation and of training, two steps an epoch
METRICS = """epoch,lr-AdamW,step,train_loss,val_iou,val_iou_road,val_iou_sky,val_loss
,0.001,0,,,,,
,0.002,1,,,,,
0,,1,,0.5,0.25,0.75,1.5
0,,1,2.0,,,,
,0.003,2,,,,,
1,,3,,0.7,,0.7,1.25
1,,3,1.0,,,,
2,,5,,0.7,0.7,nan,1.75
2,,5,0.5,,,,
,0.004,6,,,,,
"""


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.csv"
    path.write_text(METRICS)
    return path


def lines(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    points = {line.get_label(): zip(*line.get_data(), strict=True) for line in axes.lines}
    return {label: [(float(x), float(y)) for x, y in line] for label, line in points.items()}


def test_the_drawn_data_is_the_logged(metrics: Path) -> None:
    loss, iou, rate = draw_curves(read_metrics(metrics)).axes
    assert lines(loss) == {
        "train_loss": [(1, 2.0), (2, 1.0), (3, 0.5)],
        "val_loss": [(1, 1.5), (2, 1.25), (3, 1.75)],
    }
    drawn = lines(iou)
    assert drawn.pop("sky")[:2] == [(1, 0.75), (2, 0.7)]
    assert drawn == {
        "mean": [(1, 0.5), (2, 0.7), (3, 0.7)],
        "best: 0.7000, epoch 2": [(2, 0.7)],  # the first of equals
        "road": [(1, 0.25), (3, 0.7)],
    }
    assert lines(rate) == {"lr-AdamW": [(0.5, 0.001), (1, 0.002), (2, 0.003), (4, 0.004)]}
    assert rate.get_xlabel() == "epoch"


def test_several_validations_of_an_epoch_are_spread_over_it() -> None:
    rows = [{"epoch": epoch, "val_iou": iou} for epoch, iou in ((0, 0.1), (0, 0.4), (1, 0.3), (1, 0.2))]
    (iou,) = draw_curves(rows).axes
    assert lines(iou) == {
        "mean": [(0.5, 0.1), (1, 0.4), (1.5, 0.3), (2, 0.2)],
        "best: 0.4000, epoch 1": [(1, 0.4)],
    }


@pytest.mark.parametrize(("classes", "shown"), [(20, 22), (21, 2)])
def test_more_classes_than_an_eye_can_follow_are_left_out(classes: int, shown: int) -> None:
    row = {"epoch": 0.0, "val_iou": 0.5} | {f"val_iou_{i}": 0.5 for i in range(classes)}
    (iou,) = draw_curves([row]).axes
    assert len(iou.lines) == shown


def test_a_diverged_run_can_be_drawn(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train_loss,val_iou,val_loss\n0,1,nan,nan,inf\n1,3,nan,nan,inf\n")
    plot_curves(path, tmp_path / "curves.png")
    _, iou = draw_curves(read_metrics(path)).axes
    assert list(lines(iou)) == ["mean"]  # and no best


def test_any_name_of_a_class_can_be_drawn(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,val_iou,val_iou__hidden,val_iou_a $ and $b,val_iou_道路\n0,1,0.5,0.1,0.2,0.3\n")
    plot_curves(path, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
    (iou,) = draw_curves(read_metrics(path)).axes
    assert [text.get_text().strip() for text in iou.get_legend().get_texts()][2:] == [
        "_hidden",
        r"a \$ and \$b",
        "道路",
    ]


def test_an_earlier_run_comes_before(metrics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.csv"
    own.write_text("epoch,step,train_loss\n2,5,0.25\n3,7,0.125\n")
    seen = []
    monkeypatch.setattr("unetseg.report.curves.draw_curves", lambda rows: seen.append(draw_curves(rows)) or seen[0])
    plot_curves(own, tmp_path / "curves.png", earlier=metrics)
    assert lines(seen[0].axes[0])["train_loss"] == [(1, 2.0), (2, 1.0), (3, 0.25), (4, 0.125)]


def test_a_row_that_was_cut_off_keeps_its_cells(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train_loss\n0,1,0.5\n1,3")
    assert read_metrics(path) == [{"epoch": 0, "step": 1, "train_loss": 0.5}, {"epoch": 1, "step": 3}]


def test_what_cannot_be_drawn_is_said(metrics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoCurvesError, match="no train_loss, val_loss, val_iou or learning rate was logged"):
        draw_curves([{"epoch": 0.0, "step": 1.0}])
    other = tmp_path / "other.csv"
    other.write_text("name,size\nphoto,12\n")
    with pytest.raises(UnetsegError, match=r"other\.csv isn't what CSVLogger writes: .*photo"):
        read_metrics(other)
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnetsegError, match=r"curves need matplotlib, .* pip install -e '\.\[plot\]'"):
        plot_curves(metrics, tmp_path / "curves.png")
    assert not math.isnan(read_metrics(metrics)[0]["epoch"])  # reading needs none


def test_a_full_disk_leaves_the_curves_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(_figure: Figure, path: Path, **_options: object) -> None:
        path.write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    (tmp_path / "curves.png").write_text("before")
    (tmp_path / "metrics.csv").write_text("epoch,step,val_loss\n0,1,0.5\n1,2,0.25\n")
    monkeypatch.setattr(Figure, "savefig", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        plot_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "metrics.csv"]
    assert (tmp_path / "curves.png").read_text() == "before"
