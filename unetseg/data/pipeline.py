"""Augmentation pipelines from the plain values of a YAML file, and the one importer of albumentations."""

import importlib
import inspect
import os
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, get_args

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # or importing it asks the network for a newer version

import albumentations as A
import cv2

from unetseg.errors import DataError, did_you_mean, first_line

__all__ = ["A", "build_pipeline"]

_NESTING = (A.OneOf, A.SomeOf, A.RandomOrder, A.Sequential)

# with their subclasses
_REFUSED: dict[tuple[type, ...], str] = {
    (A.Normalize, A.ToFloat, A.FromFloat, A.ToTensorV2, A.ToTensor3D): (
        "the model normalises images by itself, and takes them as they are read; leave it out"
    ),
    (A.Transform3D,): "it works on volumes, not on images",
    (A.BBoxSafeRandomCrop,): "it needs bounding boxes beside image and mask",
    (A.Lambda,): "its arguments are functions, not plain values; write a class and give its dotted name",
    (A.TimeMasking, A.FrequencyMasking): "it writes class 0 into masks; XYMasking leaves them as they are",
    (A.GridElasticDeform,): "it writes class 0 into masks where it leaves gaps; ElasticTransform can fill them",
}

# what arguments were called before albumentations 2
_OLD_NAMES = {
    "border_mode": "mode pad_mode",
    "fill": "value fill_value cval pad_cval",
    "fill_mask": "mask_value mask_fill_value cval_mask pad_cval_mask",
    "hole_height_range": "max_height min_height",
    "hole_width_range": "max_width min_width",
    "num_holes_range": "max_holes min_holes",
    "p": "always_apply",
    "quality_range": "quality_lower quality_upper",
    "std_range": "var_limit",
}
_RENAMED = {(old, new) for new, olds in _OLD_NAMES.items() for old in olds.split()}

_INTERPOLATIONS = {
    name: getattr(cv2, f"INTER_{name.upper()}")
    for name in ("nearest", "nearest_exact", "linear", "linear_exact", "cubic", "area", "lanczos4")
}
_BORDERS = {
    name: getattr(cv2, f"BORDER_{name.upper()}") for name in ("constant", "replicate", "reflect", "reflect_101", "wrap")
}
_CONSTANTS = {"interpolation": _INTERPOLATIONS, "mask_interpolation": _INTERPOLATIONS, "border_mode": _BORDERS}
_ADVICE = "ShiftScaleRotate is a special case|TimeReverse is an alias|This augmenter is very slow"
_INVENTS = "which would invent classes between those of the mask; it can be"


def build_pipeline(
    specs: Sequence[Mapping[str, Any] | str], *, ignore_index: int
) -> list[A.BasicTransform | A.BaseCompose]:
    """Build albumentations' transforms from their names and arguments.

    Pixels that a transform adds to a mask are ``ignore_index``, and masks are sampled at the nearest pixel, unless
    the arguments say otherwise. OpenCV's constants go by name: "linear" or "cubic" as an ``interpolation``,
    "constant" or "reflect_101" as a ``border_mode``.

    Args:
        specs: for each transform its name, or a mapping of its name to its arguments. The name of a class that isn't
            albumentations' own is dotted: it is imported. OneOf, SomeOf, RandomOrder and Sequential take a list like
            this one as ``transforms``.
        ignore_index: value of mask pixels that belong to no class.

    Raises:
        DataError: if a transform or an argument doesn't exist, has a value that it can't have, or would make a mask's
            classes wrong; it names the place in the list.

    Example:
        >>> build_pipeline(["HorizontalFlip", {"Pad": {"padding": 2, "p": 0.5}}], ignore_index=255)[1].fill_mask
        255.0
    """
    return _build_list(specs, "data.transforms", ignore_index)


def _build_list(specs: object, where: str, ignore_index: int) -> list[Any]:
    if isinstance(specs, str) or not isinstance(specs, Sequence):
        raise DataError(f"{where} is {reprlib.repr(specs)}; it must be a list of transforms")
    return [_build(spec, f"{where}[{i}]", ignore_index) for i, spec in enumerate(specs)]


def _build(spec: object, where: str, ignore_index: int) -> Any:
    """Build one transform, and those in it."""
    name, given = next(iter(spec.items())) if isinstance(spec, Mapping) and len(spec) == 1 else (spec, {})
    given = {} if given is None else given
    if not isinstance(name, str) or not isinstance(given, Mapping):
        raise DataError(
            f"{where} is {reprlib.repr(spec)}; it must be a name, or one name with its arguments indented below it, "
            "as in 'HorizontalFlip: {p: 0.5}'"
        )
    cls = _find(name, where)
    where = f"{where}.{name}"
    parameters = inspect.signature(cls).parameters
    _check_names(given, parameters, where)
    if cls in _NESTING:
        return _nest(cls, given, where, ignore_index)
    transform = _construct(cls, _arguments(cls, given, parameters, where, ignore_index), where)
    if missing := set(transform.targets_as_params) - {"image", "mask"}:
        raise DataError(f"{where} can't be used: it needs {', '.join(sorted(missing))} beside image and mask")
    return transform


def _find(name: str, where: str) -> Any:
    """The class of a name, or of a dotted name."""
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module) if module else A, attribute, None)
    except Exception as error:  # a module may raise anything while it is imported
        raise DataError(f"{where} is {name!r}; importing {module} failed: {first_line(error)}") from error
    if not (isinstance(found, type) and issubclass(found, A.BasicTransform | A.BaseCompose)):
        usable = [known for known in dir(A) if isinstance(getattr(A, known), type) and not _refusal(getattr(A, known))]
        raise DataError(
            f"{where} is {name!r}, which isn't a transform of albumentations.{did_you_mean(attribute, usable, 3)} "
            "A class of your own must be derived from one, and needs its dotted name: package.module.Class."
        )
    if refusal := _refusal(found):
        raise DataError(f"{where}: {name} can't be used: {refusal}")
    return found


def _refusal(cls: type) -> str | None:
    """Why a class can't be in a pipeline, or None."""
    if issubclass(cls, A.BaseCompose) and cls not in _NESTING:
        return f"the ones that nest are {', '.join(nesting.__name__ for nesting in _NESTING)}"
    if cls in (A.BasicTransform, A.DualTransform, A.ImageOnlyTransform) or not issubclass(
        cls, A.BasicTransform | A.BaseCompose
    ):
        return "it is only a base of transforms"
    return next((reason for classes, reason in _REFUSED.items() if issubclass(cls, classes)), None)


def _check_names(given: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], where: str) -> None:
    """Refuse arguments that a constructor doesn't have, for albumentations only warns of them."""
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    allowed = f"The arguments are {', '.join(parameters)}."
    for name in given:
        if name not in parameters:
            renamed = [new for new in parameters if (name, new) in _RENAMED]
            hint = f" Did you mean {renamed[0]!r}?" if renamed else did_you_mean(name, parameters)
            raise DataError(f"{where} has no argument {name!r}.{hint} {allowed}")
    required = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    if missing := [name for name in required if name not in given]:
        raise DataError(f"{where} needs {', '.join(missing)}. {allowed}")


def _nest(cls: Any, given: Mapping[str, Any], where: str, ignore_index: int) -> Any:
    """Build a transform that applies others; it has no checks of its own values."""
    transforms = _build_list(given["transforms"], f"{where}.transforms", ignore_index)
    if not transforms or (cls is A.OneOf and not any(transform.p for transform in transforms)):
        raise DataError(f"{where}.transforms: must be at least one transform, with a p above 0")
    p, n = given.get("p", 1), given.get("n", 1)
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
        raise DataError(f"{where}.p is {reprlib.repr(p)}; it must be a number from 0 to 1")
    most = len(transforms) if not given.get("replace") else n
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= most:
        raise DataError(f"{where}.n is {reprlib.repr(n)}; it must be an integer from 1 to the number of transforms")
    return cls(**{**given, "transforms": transforms})


def _arguments(
    cls: Any, given: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], where: str, ignore_index: int
) -> dict[str, Any]:
    """The arguments with constants in place of names, and with defaults that keep a mask's classes right."""
    arguments = {name: _constant(cls, name, value, f"{where}.{name}") for name, value in given.items()}
    fill_mask = parameters["fill_mask"].default if "fill_mask" in parameters else None
    if isinstance(fill_mask, int | float) and fill_mask == 0:  # None leaves the mask as it is
        arguments.setdefault("fill_mask", ignore_index)
    if "mask_interpolation" in parameters:
        # In a resize, plain nearest moves the mask by up to half a pixel; a warp knows no other, and doesn't.
        chosen = arguments.get("mask_interpolation", cv2.INTER_NEAREST_EXACT)
        if chosen not in (cv2.INTER_NEAREST_EXACT, cv2.INTER_NEAREST):
            got = given["mask_interpolation"]
            raise DataError(f"{where}.mask_interpolation is {got!r}, {_INVENTS} nearest_exact or nearest")
        known = _choices(cls, "mask_interpolation")
        arguments["mask_interpolation"] = chosen if chosen in known else cv2.INTER_NEAREST
    if arguments.get("area_for_downscale") == "image_mask":
        raise DataError(f"{where}.area_for_downscale is 'image_mask', {_INVENTS} image")
    return arguments


def _constant(cls: Any, argument: str, value: Any, where: str) -> Any:
    """OpenCV's number for the name of an interpolation or a border, and any other value as it is."""
    if argument == "interpolation_pair" and isinstance(value, Mapping):
        return {name: _constant(cls, "interpolation", inner, f"{where}.{name}") for name, inner in value.items()}
    if argument not in _CONSTANTS or not isinstance(value, str):
        return value
    known = () if argument == "mask_interpolation" else _choices(cls, argument)
    constants = {name: number for name, number in _CONSTANTS[argument].items() if not known or number in known}
    if value not in constants:
        hint = did_you_mean(value, constants)
        raise DataError(f"{where} is {value!r}; it can be {', '.join(constants)}.{hint}")
    return constants[value]


def _choices(cls: Any, argument: str) -> tuple[Any, ...]:
    """The values that albumentations accepts, where it lists them."""
    field = cls.InitSchema.model_fields.get(argument)
    return get_args(field.annotation) if field else ()


def _construct(cls: Any, arguments: Mapping[str, Any], where: str) -> Any:
    """Make the instance; whatever its constructor doesn't like becomes one line."""
    with warnings.catch_warnings():
        # Of some wrong values albumentations only warns, and takes others: the nearest, or all of its defaults.
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", _ADVICE, UserWarning)
        try:
            return cls(**arguments)
        except Exception as error:  # a class of the user's may raise anything
            raise DataError(_explain(error, arguments, where)) from error


def _explain(error: Exception, arguments: Mapping[str, Any], where: str) -> str:
    """What is wrong with which argument, from pydantic's list of errors where there is one."""
    errors: list[Any] = getattr(error.__cause__, "errors", list)()
    if not errors or not errors[0]["loc"]:
        text = errors[0]["msg"].removeprefix("Value error, ") if errors else first_line(error)
        return f"{where}: {text}"
    name = errors[0]["loc"][0]
    texts = [item["msg"].removeprefix("Value error, ") for item in errors if item["loc"][0] == name]
    reasons = "; or: ".join(dict.fromkeys(text.replace("valid tuple", "valid list") for text in texts))
    return f"{where}.{name} is {reprlib.repr(arguments.get(name))}: {reasons}"
