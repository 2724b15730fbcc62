"""Options that Python, YAML and checkpoints share: dataclasses of plain values, no torch."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from unetseg.errors import AlignmentError

__all__ = ["UpsampleOptions", "per_stage"]

T = TypeVar("T")

Auto = Literal["auto"]
Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class UpsampleOptions:
    """Parameters of the decoder's transposed convolutions.

    Each is one value for all stages, or a list with one value a stage, deepest first like
    ``decoder_channels``. In a list, a pair is (height, width): ``[[4, 2], 3, 3, 3, 3]``.

    Attributes:
        kernel_size: Kernel, at least the stage's stride. A multiple of it overlaps evenly (no checkerboard).
        stride: None: it follows the encoder. Anything but the encoder's own ratios is an error.
        padding: "auto" reaches every size that the encoder stage can have; integers are PyTorch's padding.
        dilation: Spacing of the kernel's taps; one that shares a factor with the stride leaves holes.
        groups: Groups of channels, each upsampled on its own.
        bias: Whether the layer adds a bias; the norm that follows it has one already.

    Example:
        >>> UpsampleOptions(kernel_size=[4, 4, 3, 3, (4, 2)]).stage("kernel_size", 4, stages=5)
        (4, 2)
    """

    kernel_size: int | list[int | Pair] = 4
    stride: int | list[int | Pair] | None = None
    padding: Auto | int | list[Auto | int | Pair] = "auto"
    dilation: int | list[int | Pair] = 1
    groups: int | list[int] = 1
    bias: bool | list[bool] = False

    @classmethod
    def of(cls, options: "UpsampleOptions | Mapping[str, Any] | None") -> "UpsampleOptions":
        """The options themselves, or those of a mapping such as a checkpoint holds.

        Raises:
            AlignmentError: If the mapping holds a name that isn't an option.
        """
        if isinstance(options, UpsampleOptions):
            return options
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(options or {}) - set(known)):
            raise AlignmentError(f"upsample: unknown option {', '.join(unknown)}; the options are {', '.join(known)}.")
        return cls(**(options or {}))

    def stage(self, option: str, index: int, stages: int) -> Any:
        """The value of an option at a stage (0 is the deepest); lists of two integers become pairs."""
        value = per_stage(f"upsample.{option}", getattr(self, option), stages)[index]
        return tuple(value) if isinstance(value, list) else value

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as a checkpoint stores them."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value  # numpy's numbers become Python's


def per_stage(name: str, value: T | Sequence[T], stages: int) -> list[T]:
    """One value for every stage, from one for all or a list of one each.

    Raises:
        AlignmentError: If a list has another length than there are stages.

    Example:
        >>> per_stage("kernel_size", 4, 3), per_stage("kernel_size", [4, 3, 2], 3)
        ([4, 4, 4], [4, 3, 2])
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * stages
    if len(value) != stages:
        raise AlignmentError(
            f"{name}: {len(value)} values for {stages} decoder stages: {list(value)}. Give one value for all stages, "
            f"or a list of {stages}, deepest first; a pair (height, width) stands inside such a list."
        )
    return list(value)
