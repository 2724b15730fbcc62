"""What prediction has to know of a network beside its weights: the text that an exported file carries."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from unetseg.config import Mode
from unetseg.data.masks import Color
from unetseg.errors import CheckpointError

__all__ = ["METADATA_KEY", "ModelDescription", "OutputKind"]

METADATA_KEY = "unetseg"
"""Under which an exported file keeps the description, as JSON."""

OutputKind = Literal["logits", "classes"]
"""What an exported network gives: floating-point logits, or the classes themselves."""

_VERSION = 1  # of the text; a reader refuses those that it doesn't know


@dataclass(frozen=True)
class ModelDescription:
    """What a network takes and gives.

    Attributes:
        classes: Names, in the order of their values.
        mode: What a pixel can be, see :data:`unetseg.config.Mode`.
        in_channels: Channels of an image; three are RGB.
        max_value: Value of an image file that stands for full brightness; see ``ImageReader``.
        colors: RGB colour of each class in 0..255, if the masks that it learned from had some.
        min_size: Least side of an image in pixels.
        total_stride: Of its encoder.
        output: "logits", or "classes" where the decision is part of it.
        size: (height, width) of the only images that it takes; None for any.
        pixel_bytes: Memory that its maps take, for each pixel of an image.
    """

    classes: tuple[str, ...]
    mode: Mode
    in_channels: int
    max_value: float | None
    colors: tuple[Color, ...] | None
    min_size: int
    total_stride: int
    output: OutputKind = "logits"
    size: tuple[int, int] | None = None
    pixel_bytes: float = 0.0

    def to_json(self, **others: Any) -> str:
        """As text, with others beside, which reading leaves out.

        Example:
            >>> ModelDescription(("a", "b"), "binary", 3, None, None, 1, 32).to_json(opset=20)[:45]
            '{"version": 1, "classes": ["a", "b"], "mode":'
        """
        return json.dumps({"version": _VERSION, **dataclasses.asdict(self), **others}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | None, name: object) -> "ModelDescription":
        """From the text that an exported file carries.

        Args:
            text: That text, or None if it carries none.
            name: The file, for messages.

        Raises:
            CheckpointError: If it isn't such a text.
        """
        if text is None:
            raise CheckpointError(
                f"{name} doesn't say what its classes are: it wasn't written by `python -m unetseg export`, or its "
                f"metadata was removed. Export the checkpoint again."
            )
        try:
            content = json.loads(text)
            if content["version"] != _VERSION:
                raise CheckpointError(
                    f"{name} was exported by another version of unetseg, whose description has the form "
                    f"{content['version']}; this one reads {_VERSION}. Export the checkpoint with this version."
                )
            return cls(
                classes=tuple(map(str, content["classes"])),
                mode=_one_of(content["mode"], Mode),
                in_channels=int(content["in_channels"]),
                max_value=content["max_value"],
                colors=_colors(content["colors"]),
                min_size=int(content["min_size"]),
                total_stride=int(content["total_stride"]),
                output=_one_of(content["output"], OutputKind),
                size=None if content["size"] is None else (int(content["size"][0]), int(content["size"][1])),
                pixel_bytes=float(content["pixel_bytes"]),
            )
        except CheckpointError:
            raise
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise CheckpointError(
                f"{name}: what it says of itself can't be read ({type(error).__name__}: {error}). Export the "
                f"checkpoint again."
            ) from error


def _one_of(value: object, choices: object) -> Any:
    if value not in get_args(choices):
        raise ValueError(f"{value!r} is none of {', '.join(get_args(choices))}")
    return value


def _colors(rows: Sequence[Sequence[int]] | Mapping[Any, Any] | None) -> tuple[Color, ...] | None:
    if rows is None:
        return None
    return tuple((int(red), int(green), int(blue)) for red, green, blue in rows)
