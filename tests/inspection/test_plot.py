"""The drawing: a file that can be opened, of the axis that shows something."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from unetseg.errors import OptionError, UnetsegError
from unetseg.geometry import signed_output_padding
from unetseg.inspection.measure import Upsampling
from unetseg.inspection.plot import check_plot_file, choose_axis, plot_upsampling

K4 = (4, 2, 1, 1)


def layer(source: tuple[int, int], wanted: tuple[int, int], axis: tuple[int, int, int, int] = K4) -> Upsampling:
    rows, columns = (signed_output_padding(n, size, *axis) for n, size in zip(source, wanted, strict=True))
    return Upsampling("decoder stage 1 (stride 16 to 8)", source, wanted, "any", (axis, axis), (rows, columns), (0, 0))


@pytest.mark.parametrize(
    ("one", "name"),
    [
        (layer((7, 10), (15, 21)), "height"),
        (layer((16, 126), (32, 251)), "width"),
        (layer((128, 128), (256, 256)), "height"),
        (layer((5, 4), (11, 8), (2, 2, 0, 1)), "height"),
        (layer((25, 33), (97, 131), (12, 4, 4, 1)), "height"),
        (layer((1, 1), (1, 1)), "height"),
    ],
    ids=["added", "cropped in width only", "nothing to do", "bias alone", "stride 4", "one pixel"],
)
def test_a_drawing_is_a_picture(one: Upsampling, name: str, tmp_path: Path) -> None:
    path = tmp_path / "stage.png"
    assert plot_upsampling(one, path) == name
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert 800 <= picture.width <= 1800
        assert 400 <= picture.height <= 700
        assert len(picture.convert("RGB").getcolors(maxcolors=1 << 20)) > 10


def test_the_words_say_what_the_signs_do(tmp_path: Path) -> None:
    for one, words in (
        (layer((7, 10), (15, 21)), "padding 1 alone give 14 rows, 1 too few: output padding +1"),
        (layer((7, 10), (13, 20)), "padding 1 alone give 14 rows, 1 too many: output padding -1"),
        (layer((7, 10), (14, 20)), "padding 1 alone give 14 rows, as wanted: output padding 0"),
    ):
        plot_upsampling(one, tmp_path / "stage.svg")
        # each letter of an SVG is a glyph, but the text stands in a comment beside it
        assert words in (tmp_path / "stage.svg").read_text(encoding="utf-8")


def test_an_axis_is_chosen_by_its_output_padding() -> None:
    assert choose_axis(layer((7, 10), (14, 21))) == 1
    assert choose_axis(layer((7, 10), (15, 21))) == 0
    with pytest.raises(OptionError, match=r"stage 0 interpolates, so there is no kernel to draw\. Choose another"):
        choose_axis(Upsampling("decoder stage 0", (7, 10), (15, 21), "any", (), None, None))


def test_a_file_that_cannot_be_drawn_to_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_plot_file(tmp_path / "a.png")
    with pytest.raises(OptionError, match=r"--plot is a\.gif; give a file that ends in \.png, \.svg, \.pdf"):
        check_plot_file(Path("a.gif"))
    with pytest.raises(OptionError, match=r"there is no folder .*nowhere"):
        check_plot_file(tmp_path / "nowhere" / "a.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UnetsegError, match=r"needs matplotlib, which isn't installed: pip install -e '\.\[plot\]'"):
        check_plot_file(tmp_path / "a.png")
