"""Files that programs and people read: masks, overlays, the legend."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetseg.drawing import palette
from unetseg.inference import writers


def test_a_masks_values_are_its_classes(tmp_path: Path) -> None:
    class_map = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)
    colors = palette(3)
    writers.write_mask(tmp_path / "deep" / "mask.png", class_map, colors)
    with Image.open(tmp_path / "deep" / "mask.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), class_map)
        shown = np.asarray(mask.convert("RGB"))
    np.testing.assert_array_equal(shown, np.array(colors, dtype=np.uint8)[class_map])


def test_probabilities_are_halves_in_range_and_as_near_as_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    spread = rng.random((2, 61, 47), dtype=np.float32)
    edges = np.array([0, 1e-45, 3e-8, 6e-5, np.nextafter(1, 0, dtype=np.float32), 1], dtype=np.float32)
    probabilities = np.concatenate([spread, 10 ** (-9 * spread)])
    probabilities[0].flat[: len(edges)] = edges
    writers.write_probabilities(tmp_path / "deep" / "a.b.npy", probabilities)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.b.npy"]
    written = np.load(tmp_path / "deep" / "a.b.npy")
    assert written.dtype == np.float16
    assert written.shape == (4, 61, 47)
    assert 0 <= written.min() <= written.max() <= 1
    error = np.abs(written.astype(np.float64) - probabilities)
    assert error.max() <= 0.00025
    assert (error <= np.maximum(0.0005 * probabilities, 3e-8)).all()
    assert error.max() > 0.0002  # the bound says no more than it has to


def test_an_overlay_leaves_the_first_class_clear(tmp_path: Path) -> None:
    image = np.full((16, 16, 3), 200, dtype=np.uint8)
    class_map = np.zeros((16, 16), dtype=np.uint8)
    class_map[:, 8:] = 1
    writers.write_overlay(tmp_path / "over.jpg", image, class_map, [(0, 0, 0), (0, 0, 100)])
    with Image.open(tmp_path / "over.jpg") as picture:
        pixels = np.asarray(picture).astype(int)
    assert np.abs(pixels[:, :6] - 200).max() < 6
    assert np.abs(pixels[:, 10:] - [100, 100, 150]).max() < 12


def test_the_legend_names_every_class(tmp_path: Path) -> None:
    writers.write_legend(tmp_path, ["background", "Straße"], [(0, 0, 0), (1, 2, 3)])
    rows = json.loads((tmp_path / "_legend.json").read_text(encoding="utf-8"))
    assert rows[1] == {"value": 1, "name": "Straße", "color": [1, 2, 3]}
    with Image.open(tmp_path / "_legend.png") as picture:
        assert picture.getpixel((15, 35)) == (1, 2, 3)


def test_a_failed_write_leaves_nothing_and_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(_image: Image.Image, path: Path, **_options: object) -> None:
        path.write_bytes(b"half a mask")
        raise OSError(28, "No space left on device")

    target = tmp_path / "mask.png"
    writers.write_mask(target, np.zeros((2, 2), np.uint8), [(0, 0, 0)])
    before = target.read_bytes()
    monkeypatch.setattr(Image.Image, "save", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        writers.write_mask(target, np.ones((2, 2), np.uint8), [(0, 0, 0)])
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]
    assert target.read_bytes() == before
