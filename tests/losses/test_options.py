"""What can be asked of a loss, and what is said of the rest."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from unetseg.errors import OptionError
from unetseg.losses import build_loss, default_terms
from unetseg.losses.terms import TERMS, read_terms

REFUSED: dict[str, tuple[Any, str, str]] = {
    "empty": ({}, "multiclass", r"loss is {}; it needs a term at least, such as {'ce': 1.0, 'dice': 1.0}. The terms"),
    "text": ("ce", "binary", r"loss is 'ce'; it must be a mapping of terms to weights, such as {'bce': 1.0"),
    "list": (["dice"], "multiclass", r"loss is \['dice'\]; it must be a mapping"),
    "unknown": (
        {"ce": 1, "dise": 1},
        "multiclass",
        r"loss is {'ce': 1, 'dise': 1}; 'dise' is not a term: ce, dice, .*boundary. Did you mean 'dice'\?",
    ),
    "not text": ({1: 1}, "multiclass", "1 is not a term: ce"),
    "ce of binary": ({"ce": 1}, "binary", "ce is not for mode 'binary': use bce. The terms are bce, dice, focal"),
    "ce of multilabel": ({"ce": 1}, "multilabel", "ce is not for mode 'multilabel': use bce"),
    "bce of multiclass": ({"bce": 1}, "multiclass", "bce is not for mode 'multiclass': use ce. The terms are ce, dice"),
    "unknown option": (
        {"tversky": {"alfa": 1}},
        "binary",
        r"'alfa' is not an option of tversky: weight, alpha, beta, gamma. Did you mean 'alpha'\?",
    ),
    "option of another": ({"dice": {"gamma": 1}}, "binary", "'gamma' is not an option of dice: weight.$"),
    "text as weight": ({"dice": "1"}, "binary", "the weight of dice is '1'; it must be a number, at least 0"),
    "nothing as weight": ({"dice": None}, "binary", "the weight of dice is None; it must be a number"),
    "yes as weight": ({"dice": True}, "binary", "the weight of dice is True; it must be a number"),
    "list as option": ({"focal": {"gamma": [2]}}, "binary", r"the gamma of focal is \[2\]; it must be a number"),
    "negative": ({"dice": -1}, "binary", "the weight of dice is -1; it must be finite, at least 0"),
    "infinite": ({"dice": math.inf}, "binary", "the weight of dice is inf; it must be finite"),
    "nan": ({"dice": {"weight": math.nan}}, "binary", "the weight of dice is nan; it must be finite"),
    "too large": ({"dice": 10**400}, "binary", "it must be finite"),
    "no weight": ({"dice": 0, "focal": {"weight": 0}}, "binary", "all its weights are 0, .* Give a term a weight"),
    "smoothing": (
        {"ce": {"label_smoothing": 1}},
        "multiclass",
        "the label_smoothing of ce is 1; it must be finite, at least 0 and below 1",
    ),
    "gamma": ({"focal": {"gamma": -0.1}}, "binary", "the gamma of focal is -0.1; it must be finite, at least 0"),
    "power": ({"tversky": {"gamma": 0}}, "binary", "the gamma of tversky is 0; it must be finite, above 0"),
    "alpha": ({"tversky": {"alpha": -1}}, "binary", "the alpha of tversky is -1; it must be finite, at least 0"),
    "no mistakes": ({"tversky": {"alpha": 0, "beta": 0}}, "binary", "alpha and beta of tversky are both 0"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_says_what_is_wrong_with_the_terms(what: str) -> None:
    terms, mode, message = REFUSED[what]
    with pytest.raises(OptionError, match=message) as error:
        build_loss(terms, mode=mode, classes=2, ignore_index=255)
    assert str(error.value).startswith("loss is ")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"class_weights is \[1, 2\]; it must be a list of 3, one for each class. Leave it out"),
        (2.0, "class_weights is 2.0; it must be a list of 3"),
        ([1, 2, "3"], r"class_weights is \[1, 2, '3'\]; all must be numbers"),
        ([1, 2, True], "all must be numbers"),
        ([1, 2, -1], "all must be finite and at least 0"),
        ([1, 2, math.inf], "all must be finite and at least 0"),
        ([1, 2, math.nan], "all must be finite and at least 0"),
        ([0, 0, 0.0], "all are 0, so that no class counts; give one a weight above 0"),
    ],
)
def test_says_what_is_wrong_with_class_weights(weights: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        build_loss(None, mode="multiclass", classes=3, ignore_index=255, class_weights=weights)


def test_says_what_is_wrong_with_mode_and_classes() -> None:
    with pytest.raises(OptionError, match=r"mode is 'binari'; .* Did you mean 'binary'\?"):
        build_loss(None, mode="binari", classes=2, ignore_index=255)
    with pytest.raises(OptionError, match="classes is 3; mode 'binary' takes 2 classes"):
        build_loss(None, mode="binary", classes=3, ignore_index=255)


@pytest.mark.parametrize(
    ("mode", "logits", "mask", "takes"),
    [
        ("multiclass", (1, 1, 4, 5), (1, 4, 5), r"logits \(N, 2, H, W\) and a mask \(N, H, W\)"),
        ("binary", (1, 2, 4, 5), (1, 4, 5), r"logits \(N, 1, H, W\) and a mask \(N, H, W\)"),
        ("binary", (1, 1, 4, 5), (1, 1, 4, 5), r"logits \(N, 1, H, W\) and a mask \(N, H, W\)"),
        ("multilabel", (1, 2, 4, 5), (1, 4, 5), r"logits \(N, 2, H, W\) and a mask \(N, 2, H, W\)"),
    ],
)
def test_logits_and_masks_of_another_mode_are_refused(mode: str, logits: Any, mask: Any, takes: str) -> None:
    loss = build_loss(None, mode=mode, classes=2, ignore_index=255)
    with pytest.raises(OptionError, match=f"mask is .*; the loss of 2 classes in mode '{mode}' takes {takes}"):
        loss(torch.zeros(logits), torch.zeros(mask, dtype=torch.uint8))


@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
def test_every_term_is_built_with_every_default(mode: str) -> None:
    own = {name: 1.0 for name in TERMS if name != ("bce" if mode == "multiclass" else "ce")}
    loss = build_loss(own, mode=mode, classes=2, ignore_index=7)
    assert list(loss.terms) == list(own)
    assert (loss.mode, loss.ignore_index) == (mode, 7)
    assert set(default_terms(mode)) < set(own)


def test_numbers_of_numpy_are_numbers() -> None:
    assert read_terms({"focal": {"weight": np.float32(2), "gamma": np.int64(3)}}, "binary") == {
        "focal": {"weight": 2.0, "gamma": 3.0}
    }
