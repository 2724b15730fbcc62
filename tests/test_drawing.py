"""Colours that can be told apart, and pictures that a person can look at."""

import numpy as np
import pytest

from unetseg.drawing import overlay, palette, preview


@pytest.mark.parametrize("classes", [2, 21, 150, 255])
def test_colours_are_distinct(classes: int) -> None:
    colors = palette(classes)
    assert colors[0] == (0, 0, 0)
    assert len(set(colors)) == classes


def test_a_preview_is_rgb_of_8_bits() -> None:
    grey = np.array([[[0.0], [0.5]]], dtype=np.float32)
    np.testing.assert_array_equal(preview(grey), [[[0] * 3, [128] * 3]])
    bands = np.arange(5, dtype=np.uint8).reshape(1, 1, 5)
    np.testing.assert_array_equal(preview(bands), [[[0, 1, 2]]])


def test_an_overlay_is_half_of_each() -> None:
    image = np.full((1, 2, 3), 200, dtype=np.uint8)
    blend = overlay(image, np.array([[0, 1]], dtype=np.uint8), [(0, 0, 0), (0, 0, 100)])
    np.testing.assert_array_equal(blend, [[[200, 200, 200], [100, 100, 150]]])
