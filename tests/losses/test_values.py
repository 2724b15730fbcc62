"""Every term against its definition, in every mode, on masks of every kind."""

from typing import Any

import numpy as np
import pytest
import torch
from loss_references import distances, reference
from scipy.ndimage import distance_transform_edt

from unetseg.losses import build_loss
from unetseg.losses.boundary import signed_distances

MASKS: dict[str, dict[str, Any]] = {
    "random": {},
    "nothing ignored": {"shape": (1, 6, 3), "ignored": 0},
    "a class absent": {"shape": (1, 5, 7), "values": "some"},
    "one class": {"shape": (1, 4, 5), "values": "one"},
    "all ignored": {"ignored": 1.1},
    "one pixel": {"shape": (1, 1, 1), "values": "one", "ignored": 0},
}
CLASS_WEIGHTS = [None, [0.5, 3.0, 1.5], [2.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize("masks", MASKS)
def test_is_its_definition(case: Any, masks: str) -> None:
    logits, mask = case.batch(**MASKS[masks])
    for weights in CLASS_WEIGHTS:
        own = weights and weights[: 2 if case.mode == "binary" else 3]
        expected = reference(case.term, logits.numpy(), mask.numpy(), case.mode, own, **case.options)
        value = case.build(own)(logits, mask)
        assert value.dtype == torch.float32
        assert value.shape == ()
        assert value.item() == pytest.approx(expected, abs=1e-6, rel=1e-5), own
        assert torch.equal(case.build(own)(logits, mask.long()), value)


def test_is_its_definition_far_from_zero(case: Any) -> None:
    logits, mask = case.batch()
    logits *= 1e4
    expected = reference(case.term, logits.numpy(), mask.numpy(), case.mode, **case.options)
    assert case.build()(logits, mask).item() == pytest.approx(expected, abs=1e-6, rel=1e-5)


@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
def test_unless_told_otherwise_it_is_cross_entropy_plus_dice(mode: str) -> None:
    logits = torch.randn(2, 1 if mode == "binary" else 4, 5, 7)
    mask = torch.randint(0, 3, (2, 5, 7)) if mode == "multiclass" else torch.randint(0, 2, logits.shape)
    mask = mask[:, 0] if mode == "binary" else mask
    mask.view(-1)[:5] = 255
    entropy = "ce" if mode == "multiclass" else "bce"
    expected = sum(reference(term, logits.numpy(), mask.numpy(), mode) for term in (entropy, "dice"))
    loss = build_loss(None, mode=mode, classes=2 if mode == "binary" else 4, ignore_index=255)
    assert loss(logits, mask).item() == pytest.approx(expected, abs=1e-6)


def test_terms_add_up_by_their_weights() -> None:
    logits, mask = torch.randn(2, 3, 5, 7), torch.randint(0, 3, (2, 5, 7))
    values = {term: reference(term, logits.numpy(), mask.numpy(), "multiclass") for term in ("ce", "dice", "lovasz")}
    loss = build_loss(
        {"ce": 0.5, "dice": {}, "lovasz": {"weight": 2}, "boundary": 0}, mode="multiclass", classes=3, ignore_index=255
    )
    expected = 0.5 * values["ce"] + values["dice"] + 2 * values["lovasz"]
    assert loss(logits, mask).item() == pytest.approx(expected, abs=1e-5)
    assert "0.5 ce, 1 dice, 2 lovasz" in repr(loss)
    assert "Boundary" not in repr(loss)


@pytest.mark.parametrize("weights", [[1, 3, 2], [1e300, 3e300, 2e300], np.array([1e-9, 3e-9, 2e-9])])
def test_only_the_ratios_of_class_weights_matter(case: Any, weights: Any) -> None:
    if case.mode == "binary":
        weights = weights[:2]
    logits, mask = case.batch()
    expected = case.build([0.1, 0.3, 0.2][: len(weights)])(logits, mask)
    torch.testing.assert_close(case.build(weights)(logits, mask), expected)


def test_class_weights_are_not_in_the_state() -> None:
    loss = build_loss(None, mode="multiclass", classes=2, ignore_index=255, class_weights=[1, 2])
    assert loss.state_dict() == {}
    assert loss.class_weights.tolist() == [0.5, 1]


@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
def test_even_tversky_is_dice(mode: str) -> None:
    logits, mask = torch.randn(2, 1 if mode == "binary" else 3, 5, 7), torch.randint(0, 2, (2, 5, 7))
    mask = mask[:, None].repeat(1, 3, 1, 1) if mode == "multilabel" else mask
    tversky, dice = (
        build_loss(terms, mode=mode, classes=2 if mode == "binary" else 3, ignore_index=255)
        for terms in ({"tversky": {"alpha": 0.5, "beta": 0.5}}, {"dice": 1})
    )
    torch.testing.assert_close(tversky(logits, mask), dice(logits, mask))


@pytest.mark.parametrize(("height", "width"), [(17, 23), (1, 20), (20, 1)])
def test_distances_are_euclidean(height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    truth, counted = rng.random((height, width)) < 0.2, rng.random((height, width)) < 0.8
    inside, outside = truth & counted, ~truth & counted
    expected = distance_transform_edt(~inside) * outside - distance_transform_edt(~outside) * inside
    own = signed_distances(truth, counted)
    np.testing.assert_allclose(own, expected / np.hypot(height, width), atol=1e-6)
    np.testing.assert_allclose(own, distances(np.where(counted, truth, 255)), atol=1e-6)


def test_the_ignored_make_no_boundary() -> None:
    truth = np.array([[True, True, False, False, False]])
    counted = np.array([[True, True, False, False, True]])
    pixel = 1 / np.hypot(1, 5)
    np.testing.assert_allclose(signed_distances(truth, counted) / pixel, [[-4, -3, 0, 0, 3]], atol=1e-6)
