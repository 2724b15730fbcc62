"""Sheets of pictures: sizes, and a legend that fits."""

import numpy as np

from unetseg.report.sheet import Row, fit_to_cell, sheet

RED = (230, 46, 46)


def test_shrunk_classes_are_never_mixed() -> None:
    stripes = np.zeros((700, 1400, 3), np.uint8)
    stripes[:, ::2] = RED
    shown = np.asarray(fit_to_cell(stripes, classes=True))
    assert shown.shape == (256, 512, 3)
    assert {tuple(color) for color in shown.reshape(-1, 3)} == {(0, 0, 0), RED}
    assert np.ptp(np.asarray(fit_to_cell(stripes, classes=False))[..., 0]) < 230


def test_a_long_legend_takes_more_lines() -> None:
    row = Row("a", [np.zeros((300, 300, 3), np.uint8)] * 2)
    short = sheet(["one", "two"], [row], [("a class", RED)])
    assert short.shape == (10 + 22 + 22 + 300 + 10 + 22 + 10, 3 * 10 + 2 * 300, 3)
    long = sheet(["one", "two"], [row], [(f"class number {i}", RED) for i in range(9)])
    assert long.shape == (short.shape[0] + 2 * 22, *short.shape[1:])
    assert (long[-10:] == 255).all()
    assert (long[:, -10:] == 255).all()


def test_names_of_any_length_and_script_fit() -> None:
    row = Row("folder/" * 50 + "photo", [np.zeros((300, 20, 3), np.uint8)])
    shown = sheet(["one"], [row], [("道路" * 100, RED), ("x", RED)])
    assert shown.shape[1] == 10 + 160 + 10
    assert (shown[:, -10:] == 255).all()
