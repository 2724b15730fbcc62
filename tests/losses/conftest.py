"""Every term in every mode that it is for, on masks of every kind."""

from typing import NamedTuple

import pytest
import torch
from loss_references import IGNORED

from unetseg.losses import SegmentationLoss, build_loss


class Case(NamedTuple):
    """A term with its options in a mode, for three classes or the two of "binary"."""

    term: str
    mode: str
    options: dict[str, float]

    def build(self, class_weights: list[float] | None = None, ignore_index: int = IGNORED) -> SegmentationLoss:
        classes = 2 if self.mode == "binary" else 3
        return build_loss(
            {self.term: self.options},
            mode=self.mode,
            classes=classes,
            ignore_index=ignore_index,
            class_weights=class_weights,
        )

    def batch(
        self, shape: tuple[int, int, int] = (2, 5, 7), values: str = "all", ignored: float = 0.2
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and a mask of `values`: "all", "some" or "one" of those that there are."""
        rng = torch.Generator().manual_seed(0)
        images, *size = shape
        logits = torch.randn(images, 1 if self.mode == "binary" else 3, *size, generator=rng)
        masks = logits.shape if self.mode == "multilabel" else shape
        chosen = {"all": [0, 1, 2], "some": [0, 2], "one": [1]} if self.mode == "multiclass" else _TWO
        options = torch.tensor(chosen[values], dtype=torch.uint8)
        mask = options[torch.randint(len(options), masks, generator=rng)]
        mask[torch.rand(masks, generator=rng) < ignored] = IGNORED
        return logits, mask


_TWO = {"all": [0, 1], "some": [0], "one": [1]}
_MODES = {"ce": ["multiclass"], "bce": ["binary", "multilabel"]}
_OPTIONS: dict[str, list[dict[str, float]]] = {
    "ce": [{}, {"label_smoothing": 0.2}],
    "bce": [{}, {"label_smoothing": 0.2}],
    "dice": [{}],
    "focal": [{"gamma": 2.0}, {"gamma": 0.5}],
    "lovasz": [{}],
    "tversky": [{}, {"alpha": 1.0, "beta": 0.2, "gamma": 0.75}],
    "boundary": [{}],
}
CASES = [
    Case(term, mode, options)
    for term, choices in _OPTIONS.items()
    for options in choices
    for mode in _MODES.get(term, ["multiclass", "binary", "multilabel"])
]


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case.term, case.mode, *map(str, case.options.values())]))
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
