"""Options that Python, YAML and checkpoints share: dataclasses of plain values, no torch."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeVar, get_args

from unetseg.errors import OptionError, did_you_mean

__all__ = [
    "Activation",
    "Attention",
    "BlockOptions",
    "DecoderName",
    "HeadName",
    "Merge",
    "Mode",
    "Norm",
    "Precision",
    "UpsampleInit",
    "UpsampleMethod",
    "UpsampleOptions",
    "check_choice",
    "per_stage",
    "plain",
]

T = TypeVar("T")

Auto = Literal["auto"]
Pair = tuple[int, int]

UpsampleMethod = Literal["conv_transpose", "blurred_conv_transpose", "pixel_shuffle", "nearest", "bilinear"]
UpsampleInit = Literal["smooth", "balanced", "bilinear", "icnr", "default"]
Norm = Literal["batch", "group", "instance", "layer", "none"]
Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "none"]
Attention = Literal["none", "scse", "gate"]
Merge = Literal["add", "concat"]
DecoderName = Literal["unet", "unetplusplus"]
HeadName = Literal["conv", "upsample"]
Mode = Literal["multiclass", "binary", "multilabel"]
"""What a pixel can be: one of the classes; one of two, told by a single logit; or any number of classes."""
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
"""What a network computes in, in Lightning's words: float32; or convolutions and products in bfloat16 or float16."""


def check_choice(name: str, value: object, choices: object) -> None:
    """Refuse a value that isn't one of a ``Literal``'s.

    Raises:
        OptionError: It names the choices, and the one that was probably meant.

    Example:
        >>> check_choice("norm", "group", Norm)
    """
    allowed = get_args(choices)
    if value not in allowed:
        hint = did_you_mean(value, allowed)
        raise OptionError(f"{name} is {value!r}; it can be {', '.join(map(repr, allowed))}.{hint}")


@dataclasses.dataclass(frozen=True)
class _StageOptions:
    """Options that are one value for all stages of a decoder, or a list with one value a stage."""

    @classmethod
    def of(cls, options: "Self | Mapping[str, Any] | None") -> Self:
        """The options themselves, or those of a mapping such as a checkpoint holds.

        Raises:
            OptionError: If the mapping holds a name that isn't an option.
        """
        if isinstance(options, cls):
            return options
        given: Mapping[str, Any] = options or {}  # type: ignore[assignment]  # no instance is left here
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(given) - set(known)):
            raise OptionError(
                f"{cls._group()}: unknown option {', '.join(unknown)}; the options are {', '.join(known)}."
            )
        return cls(**given)

    @classmethod
    def _group(cls) -> str:
        return cls.__name__.removesuffix("Options").lower()

    def stage(self, index: int, stages: int) -> dict[str, Any]:
        """All options at a stage (0 is the deepest); lists of two integers become pairs.

        Raises:
            OptionError: If a list has another length than there are stages.
        """
        values = {}
        for field in dataclasses.fields(self):
            value = per_stage(f"{self._group()}.{field.name}", plain(getattr(self, field.name)), stages)[index]
            values[field.name] = tuple(value) if isinstance(value, list) else value
        return values

    def first(self, count: int, stages: int) -> Self:
        """The options of the first, deepest stages, where a head takes the place of the others.

        Raises:
            OptionError: If a list has another length than there are stages.
        """
        if count == stages:
            return self
        lists = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        lists = {name: value for name, value in lists.items() if isinstance(value, list | tuple)}
        cut = {name: per_stage(f"{self._group()}.{name}", value, stages)[:count] for name, value in lists.items()}
        return dataclasses.replace(self, **cut)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as a checkpoint stores them."""
        return {field.name: plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True)
class UpsampleOptions(_StageOptions):
    """How a decoder upsamples.

    Each is one value for all stages, or a list with one value a stage, deepest first like
    ``decoder_channels``. In a list, a pair is (height, width): ``[[4, 2], 3, 3, 3, 3]``.

    Attributes:
        method: "conv_transpose" aligns itself to the skip, and so does "blurred_conv_transpose", whose blur removes
            every checkerboard; "pixel_shuffle" convolves first; "nearest" and "bilinear" interpolate, then convolve.
        kernel_size: Kernel. None: of a transposed convolution 4 at stride 2 (the stride where it is blurred), of the
            convolution in the other methods 3.
        stride: None: it follows the encoder. Anything but the encoder's own ratios is an error.
        padding: "auto" reaches every size that the encoder stage can have; integers are PyTorch's padding.
        dilation: Spacing of the kernel's taps; one that shares a factor with the stride leaves holes.
        groups: Groups of channels, each upsampled on its own.
        bias: Whether the layer adds a bias. None: where no norm follows, which has one already.
        init: What it computes before it has learned: "smooth" is a random mixture of channels in linear
            interpolation, "balanced" is random with equal variance in every phase of the stride, "bilinear"
            interpolates the channels as they are, "icnr" repeats pixels, "default" is PyTorch's. None: the
            method's best.

    Example:
        >>> UpsampleOptions(kernel_size=[4, 4, 3, 3, (4, 2)]).stage(4, stages=5)["kernel_size"]
        (4, 2)
    """

    method: UpsampleMethod | list[UpsampleMethod] = "conv_transpose"
    kernel_size: int | list[int | Pair | None] | None = None
    stride: int | list[int | Pair] | None = None
    padding: Auto | int | list[Auto | int | Pair] = "auto"
    dilation: int | list[int | Pair] = 1
    groups: int | list[int] = 1
    bias: bool | list[bool] | None = None
    init: UpsampleInit | list[UpsampleInit | None] | None = None


@dataclasses.dataclass(frozen=True)
class BlockOptions(_StageOptions):
    """What a decoder's stages do besides upsampling.

    Each is one value for all stages, or a list with one value a stage, deepest first.

    Attributes:
        norm: "batch", "group", "instance", "layer" (over the channels of each pixel) or "none". Batch norm needs more
            than one value a channel when it trains; the others take a batch of one.
        activation: "relu", "leaky_relu", "elu", "gelu", "silu" or "none".
        dropout: Probability with which a whole channel of a stage's result is zeroed in training, 0 to below 1.
        residual: Whether the convolutions after the merge add to their input rather than replace it.
        attention: "scse" weighs channels and pixels before and after the convolutions; "gate" lets the deeper map
            choose what comes through the skip; "none".
        merge: How the skip joins the upsampled map. "add" convolves the skip and adds it; "concat" normalises the
            upsampled map, concatenates it with the skip and convolves both, which takes longer.

    Example:
        >>> BlockOptions(norm="group", dropout=[0.2, 0.0]).stage(0, stages=2)["dropout"]
        0.2
    """

    norm: Norm | list[Norm] = "batch"
    activation: Activation | list[Activation] = "relu"
    dropout: float | list[float] = 0.0
    residual: bool | list[bool] = False
    attention: Attention | list[Attention] = "none"
    merge: Merge | list[Merge] = "add"


def plain(value: Any) -> Any:
    """As lists, dictionaries, text and Python's numbers, as a checkpoint may hold them.

    Example:
        >>> plain({"range": (1, 2)})
        {'range': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else value  # numpy's numbers become Python's


def per_stage(name: str, value: T | Sequence[T], stages: int) -> list[T]:
    """One value for every stage, from one for all or a list of one each.

    Raises:
        OptionError: If a list has another length than there are stages.

    Example:
        >>> per_stage("kernel_size", 4, 3), per_stage("kernel_size", [4, 3, 2], 3)
        ([4, 4, 4], [4, 3, 2])
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * stages
    if len(value) != stages:
        raise OptionError(
            f"{name}: {len(value)} values for {stages} decoder stages: {list(value)}. Give one value for all stages, "
            f"or a list of {stages}, deepest first; a pair (height, width) stands inside such a list."
        )
    return list(value)
