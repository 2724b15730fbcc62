"""Warnings ignored by several threads: who leaves first ends nothing that another asked for."""

import io
import random
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image

from unetseg.data.image_header import open_image
from unetseg.warning_filters import ignored_warnings


class Known(UserWarning):
    """One that is ignored in some places."""


class Other(UserWarning):
    """One that is ignored in others."""


def test_the_first_to_leave_ends_nothing_of_another() -> None:
    before = list(warnings.filters)
    first, second = ExitStack(), ExitStack()
    first.enter_context(ignored_warnings(Known))
    second.enter_context(ignored_warnings(Other))
    first.close()
    warnings.warn("ignored", Other, stacklevel=1)  # a warning is an error here
    second.close()
    assert warnings.filters == before
    with pytest.raises(Other):
        warnings.warn("heard again", Other, stacklevel=1)


def test_the_same_class_twice_is_ignored_until_the_second_leaves() -> None:
    with ignored_warnings(Known):
        with ignored_warnings(Known):
            pass
        warnings.warn("ignored", Known, stacklevel=1)
        with pytest.raises(Other):
            warnings.warn("never asked for", Other, stacklevel=1)


def test_filters_come_back_after_an_error() -> None:
    before = list(warnings.filters)
    with pytest.raises(KeyError), ignored_warnings(Known):
        raise KeyError
    assert warnings.filters == before


def test_threads_that_come_and_go_hear_nothing() -> None:
    before = list(warnings.filters)

    def come_and_go(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(500):
            category = order.choice((Known, Other))
            with ignored_warnings(category):
                warnings.warn("ignored", category, stacklevel=1)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(come_and_go, range(4)))
    assert warnings.filters == before


def test_opening_an_image_ends_nothing_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may begin to write by GDAL while Pillow opens."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((3, 5), np.uint8)).save(file, "PNG")
    before = list(warnings.filters)
    original = Image.open
    with ExitStack() as other:

        def meanwhile(file: io.BytesIO) -> Image.Image:
            other.enter_context(ignored_warnings(Known))
            return original(file)

        monkeypatch.setattr(Image, "open", meanwhile)
        open_image(file).close()
        warnings.warn("ignored", Known, stacklevel=1)
    assert warnings.filters == before
