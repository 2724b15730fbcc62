"""The loss that trains a network: a weighted sum of terms."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from unetseg.config import Mode, check_choice, plain
from unetseg.errors import OptionError
from unetseg.losses.boundary import Boundary
from unetseg.losses.entropy import BinaryCrossEntropy, CrossEntropy, Focal
from unetseg.losses.labelled import LabelledLogits
from unetseg.losses.lovasz import Lovasz
from unetseg.losses.overlap import Dice, Tversky
from unetseg.losses.terms import LossTerms, default_terms, read_terms

__all__ = ["SegmentationLoss", "build_loss"]

_MODULES: dict[str, type[nn.Module]] = {
    "ce": CrossEntropy,
    "bce": BinaryCrossEntropy,
    "dice": Dice,
    "focal": Focal,
    "lovasz": Lovasz,
    "tversky": Tversky,
    "boundary": Boundary,
}


class SegmentationLoss(nn.Module):
    """A weighted sum of terms, all without the ignored pixels.

    Computed in float32 under autocast too. Ignored pixels get no gradient; a batch of nothing else gives 0 with a
    gradient of zeros, as does one whose pixels are all of classes with weight 0 for the terms that weigh pixels.

    Args:
        terms: By name a weight > 0 and a module that makes a scalar of a batch.
        mode: What a pixel can be.
        ignore_index: Mask value of the pixels to leave out.
        class_weights: A weight >= 0 for each class; only their ratios matter.

    Shape:
        - logits: (N, classes, H, W), for "binary" (N, 1, H, W), floating point
        - mask: integer; "multiclass": (N, H, W) of class indices; "binary": (N, H, W) of 0 and 1; "multilabel":
          (N, classes, H, W) of 0 and 1; or ignore_index
        - output: a float32 scalar

    Raises:
        OptionError: From a batch without these shapes.
    """

    class_weights: Tensor

    def __init__(
        self,
        terms: Mapping[str, tuple[float, nn.Module]],
        *,
        mode: Mode,
        ignore_index: int,
        class_weights: Sequence[float],
    ) -> None:
        super().__init__()
        self.mode = mode
        self.ignore_index = ignore_index
        self.weights = {name: weight for name, (weight, _) in terms.items()}
        self.terms = nn.ModuleDict({name: term for name, (_, term) in terms.items()})
        # by the largest, lest float32 takes them for infinite; a checkpoint holds them as an option, not as weights
        shares = torch.tensor(class_weights, dtype=torch.float64) / max(class_weights)
        self.register_buffer("class_weights", shares.float(), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The loss of a batch."""
        with torch.autocast(logits.device.type, enabled=False):
            batch = LabelledLogits.of(
                logits,
                mask,
                mode=self.mode,
                ignore_index=self.ignore_index,
                class_weights=self.class_weights.float(),  # a network in half precision has its loss with it
            )
            terms = [self.weights[name] * term(batch) for name, term in self.terms.items()]
            return torch.stack(terms).sum()

    def extra_repr(self) -> str:
        """The weights of the terms."""
        return ", ".join(f"{weight:g} {name}" for name, weight in self.weights.items())


def build_loss(
    terms: LossTerms | None,
    *,
    mode: Mode,
    classes: int,
    ignore_index: int,
    class_weights: Sequence[float] | None = None,
) -> SegmentationLoss:
    """Build a loss from the names of its terms.

    Args:
        terms: By name a weight, or a mapping of the weight (1 where there is none) and the term's options. "ce", for
            "multiclass", and "bce", for the other modes, take ``label_smoothing``, "focal" ``gamma``, "tversky"
            ``alpha`` (of false positives), ``beta`` (of false negatives) and ``gamma``; "dice", "lovasz" and
            "boundary" nothing. None: ``default_terms``.
        mode: What a pixel can be.
        classes: Number of classes; 2 for "binary".
        ignore_index: Mask value of the pixels to leave out.
        class_weights: A weight for each class, None for equal ones. "ce", "bce" and "focal" weigh pixels by them, the
            other terms classes, of which "binary" has but one. A class of weight 0 is left out.

    Raises:
        OptionError: If a term, an option, the mode or the class weights aren't what they may be.

    Example:
        >>> loss = build_loss({"ce": 1.0, "tversky": {"weight": 0.5, "beta": 0.8}}, mode="multiclass", classes=2,
        ...                   ignore_index=255)
        >>> round(loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.uint8)).item(), 4)
        0.8043
    """
    check_choice("mode", mode, Mode)
    if mode == "binary" and classes != 2:
        raise OptionError(f"classes is {classes}; mode 'binary' takes 2 classes. Give 2, or choose another mode.")
    read = read_terms(default_terms(mode) if terms is None else terms, mode)
    weights = [1.0] * classes if class_weights is None else _checked(class_weights, classes)
    modules: dict[str, tuple[float, nn.Module]] = {}
    for name, options in read.items():
        weight = options.pop("weight")
        if weight:
            modules[name] = weight, _MODULES[name](**options)
    return SegmentationLoss(modules, mode=mode, ignore_index=ignore_index, class_weights=weights)


def _checked(class_weights: Sequence[float], classes: int) -> list[float]:
    """The weights as a list of numbers that fits the classes."""
    given = plain(class_weights)
    problem = None
    if not isinstance(given, list) or len(given) != classes:
        problem = f"it must be a list of {classes}, one for each class"
    elif any(isinstance(weight, bool) or not isinstance(weight, int | float) for weight in given):
        problem = "all must be numbers"
    elif not all(0 <= weight < math.inf for weight in given):
        problem = "all must be finite and at least 0"
    elif not any(given):
        problem = "all are 0, so that no class counts; give one a weight above 0"
    if problem:
        raise OptionError(f"class_weights is {given!r}; {problem}. Leave it out to weigh all classes equally.")
    return [float(weight) for weight in given]
