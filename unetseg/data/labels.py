"""What a data set's masks mean: names of classes, their colours or values, and the reader that follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unetseg.config import Mode, check_choice
from unetseg.data.masks import (
    IGNORE,
    BinaryMaskReader,
    Color,
    ColorMaskReader,
    IndexMaskReader,
    MaskReader,
    MultilabelMaskReader,
)
from unetseg.errors import DataError, abridged

__all__ = ["ClassNames", "Labels", "MaskFormat", "ValueMap", "chosen_mode", "class_names", "parse_labels"]

MaskFormat = Literal["index", "binary", "multilabel"]
"""``index``: a mask's value is the class. ``binary``: any non-zero value is class 1. ``multilabel``: a file a class."""

ClassNames = Sequence[Any] | Mapping[str, Any]
"""Names in the order of their indices, or colours by name; what YAML makes of them is checked here."""

ValueMap = dict[int, int | Literal["ignore"]]

_EXAMPLE_COLORS = "'{road: [128, 64, 128], sky: [70, 130, 180]}'"


@dataclass(frozen=True)
class Labels:
    """Classes, and how masks show them.

    Attributes:
        classes: names, in the order of their indices.
        mask_format: what the values of a mask file are, where they aren't colours.
        ignore_index: value of pixels that belong to no class.
        colors: RGB colours of each class and perhaps of "ignore"; empty where values are no colours.
        value_map: class of each mask value, or None.
    """

    classes: tuple[str, ...]
    mask_format: MaskFormat
    ignore_index: int
    colors: Mapping[str, tuple[Color, ...]]
    value_map: ValueMap | None

    @property
    def mode(self) -> Mode:
        """Whether a pixel has one class or any number of them, where nobody has asked for another mode."""
        return "multilabel" if self.mask_format == "multilabel" else "multiclass"

    @property
    def perhaps_binary(self) -> bool:
        """Whether masks of 0 and 255 would be taken for class 0 and ignored pixels."""
        reader = self.mask_reader()
        return isinstance(reader, IndexMaskReader) and reader.perhaps_binary

    @property
    def plain_classes(self) -> list[str] | dict[str, list[list[int]]]:
        """The classes as they can be given again: a list, or colours by name."""
        if not self.colors:
            return list(self.classes)
        return {name: [list(color) for color in colors] for name, colors in self.colors.items()}

    def mask_reader(self) -> MaskReader:
        """A reader of mask files."""
        if self.colors:
            return ColorMaskReader(
                {color: index for index, name in enumerate(self.classes) for color in self.colors[name]},
                self.ignore_index,
                self.colors.get(IGNORE, ()),
            )
        if self.mask_format == "binary":
            return BinaryMaskReader()
        if self.mask_format == "multilabel":
            return MultilabelMaskReader(self.classes)
        return IndexMaskReader(len(self.classes), self.ignore_index, self.value_map)


def class_names(classes: ClassNames) -> list[Any]:
    """Names of the classes, be they a list or colours by name; not checked."""
    return [name for name in classes if not isinstance(classes, Mapping) or name != IGNORE]


def parse_labels(
    classes: ClassNames,
    *,
    mask_format: MaskFormat = "index",
    ignore_index: int = 255,
    value_map: Mapping[Any, Any] | None = None,
) -> Labels:
    """Check what was said of the classes.

    Args:
        classes: names in the order of their indices; or the RGB colour of each name, or several, where masks are
            coloured. The name "ignore" then has the colours of pixels that don't count.
        mask_format: what the values of a mask file are.
        ignore_index: value of pixels that belong to no class, 0 to 255.
        value_map: class index of each value of an index mask, or "ignore".

    Raises:
        DataError: if they contradict themselves or each other.
        OptionError: if there is no such ``mask_format``.

    Example:
        >>> labels = parse_labels({"road": [128, 64, 128], "sky": [70, 130, 180], "ignore": [[0, 0, 0], [1, 1, 1]]})
        >>> labels.classes, labels.colors["ignore"]
        (('road', 'sky'), ((0, 0, 0), (1, 1, 1)))
    """
    check_choice("mask_format", mask_format, MaskFormat)
    if not 0 <= ignore_index <= 255:
        raise DataError(f"ignore_index {ignore_index}: must be in 0..255, the values of an 8-bit mask")
    colors = _checked_colors(classes) if isinstance(classes, Mapping) else {}
    names = _checked_names([name for name in colors if name != IGNORE] if colors else classes, mask_format)
    if colors and (mask_format != "index" or value_map is not None):
        option = "--data.value_map" if value_map is not None else f"--data.mask_format {mask_format}"
        raise DataError(f"{option} doesn't go with colours in --data.classes; leave one of them out")
    if mask_format == "binary" and len(names) != 2:
        raise DataError(f"--data.mask_format binary needs exactly two classes; got {abridged(names)}")
    if mask_format == "multilabel" and ignore_index < 2:
        raise DataError(f"ignore_index {ignore_index}: in multilabel masks 0 is no and 1 is yes; give 2 to 255")
    produced = mask_format == "binary" or colors or value_map is not None
    if produced and ignore_index < len(names):
        raise DataError(
            f"ignore_index {ignore_index} is the index of a class, which would be ignored: masks of this kind are read "
            f"as 0..{len(names) - 1}; give {len(names)} to 255"
        )
    if value_map is not None:
        value_map = _checked_value_map(value_map, names, mask_format)
    return Labels(tuple(names), mask_format, int(ignore_index), colors, value_map)


def chosen_mode(labels: Labels, mode: Mode | None) -> Mode:
    """How classes are told apart on such masks: as was asked, or as the masks have them.

    Args:
        labels: what the masks mean.
        mode: "binary" tells two classes apart by one logit, from the same masks as "multiclass".

    Raises:
        DataError: if it isn't possible with these masks.
        OptionError: if there is no such mode.

    Example:
        >>> labels = parse_labels(["background", "cell"])
        >>> chosen_mode(labels, None), chosen_mode(labels, "binary")
        ('multiclass', 'binary')
    """
    if mode is None:
        return labels.mode
    check_choice("--data.mode", mode, Mode)
    if labels.mode == "multilabel" and mode != "multilabel":
        raise DataError(
            f"--data.mode {mode} needs masks with one class a pixel, and these have a mask a class "
            f"({abridged(labels.classes)}); leave the option out, or give multilabel"
        )
    if labels.mode != "multilabel" and mode == "multilabel":
        raise DataError(
            "--data.mode multilabel needs a mask a class, and these have one class a pixel; leave the option out, or "
            "give masks a class with --data.mask_format multilabel"
        )
    if mode == "binary" and len(labels.classes) != 2:
        raise DataError(
            f"--data.mode binary needs exactly two classes; got {abridged(labels.classes)}. Leave the option out, or "
            f"name the class 0 and the class 1 of the masks in --data.classes"
        )
    return mode


def _checked_names(classes: object, mask_format: MaskFormat) -> list[str]:
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise DataError(
            f"--data.classes {classes!r}: must be a list, for example '[background, road]', or colours by name: "
            f"{_EXAMPLE_COLORS}"
        )
    names = []
    for name in classes:
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"--data.classes: {name!r} isn't a name; quote it if YAML reads it so: ['on', '1']")
        if name == IGNORE:
            raise DataError(f"--data.classes: {IGNORE} names what is no class; leave it out of the list")
        names.append(str(name))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"--data.classes: {abridged(twice)} given more than once; names must differ")
    least = 1 if mask_format == "multilabel" else 2
    if not least <= len(names) <= 255:
        raise DataError(f"--data.classes: got {len(names)} names; {least} to 255 classes are possible")
    return names


def _checked_colors(classes: Mapping[Any, Any]) -> dict[str, tuple[Color, ...]]:
    colors: dict[str, tuple[Color, ...]] = {}
    owner: dict[Color, str] = {}
    for name, given in classes.items():
        nested = isinstance(given, Sequence) and not isinstance(given, str) and given
        several = given if nested and isinstance(given[0], Sequence) else [given]
        colors[name] = tuple(_checked_color(name, color) for color in several)
        for color in colors[name]:
            if color in owner:
                both = f"{owner[color]} and {name} both have" if owner[color] != name else f"{name} has twice"
                raise DataError(f"--data.classes: {both} the colour {list(color)}; give each colour once")
            owner[color] = name
    if not colors:
        raise DataError(f"--data.classes is empty; give a colour for each class: {_EXAMPLE_COLORS}")
    return colors


def _checked_color(name: object, color: object) -> Color:
    channels = list(color) if isinstance(color, Sequence) and not isinstance(color, str) else []
    if len(channels) != 3 or any(type(value) is not int or not 0 <= value <= 255 for value in channels):
        raise DataError(
            f"--data.classes: the colour of {name} is {color!r}; it must be three numbers from 0 to 255, red, green "
            f"and blue, or a list of such colours: {_EXAMPLE_COLORS}"
        )
    red, green, blue = channels
    return red, green, blue


def _checked_value_map(value_map: Mapping[Any, Any], names: Sequence[str], mask_format: MaskFormat) -> ValueMap:
    if mask_format != "index":
        raise DataError(
            f"--data.value_map maps values of index masks; leave it or --data.mask_format {mask_format} out"
        )
    if not value_map:
        raise DataError("--data.value_map is empty; give a class for each value: '{7: 0, 8: 1, 0: ignore}'")
    checked: ValueMap = {}
    for key, target in value_map.items():
        value = int(key) if isinstance(key, str) and key.removeprefix("-").isdecimal() else key  # JSON's keys are words
        if type(value) is not int or (target != IGNORE and type(target) is not int):
            raise DataError(
                f"--data.value_map: {value!r}: {target!r} isn't a value and its class, such as 7: 0, or 8: {IGNORE}"
            )
        if target != IGNORE and not 0 <= target < len(names):
            raise DataError(
                f"--data.value_map: value {value} has class {target}; the {len(names)} classes are 0..{len(names) - 1}"
            )
        if abs(value) >= 2**63:
            raise DataError(f"--data.value_map: {value} is larger than any value of a mask")
        checked[value] = target
    return checked
