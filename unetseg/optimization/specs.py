"""A class and its arguments, from the plain values of a YAML file."""

import importlib
import inspect
import reprlib
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, TypeVar

from unetseg.errors import OptionError, abridged, did_you_mean, first_line

__all__ = ["Spec", "check_arguments", "find_class", "read_spec"]

C = TypeVar("C")

Spec = str | Mapping[str, Mapping[str, Any]]
"""A class's name, or a mapping of its name to its arguments: "SGD" or {"SGD": {"momentum": 0.9}}."""


def read_spec(spec: object, where: str) -> tuple[str, dict[str, Any]]:
    """Take a spec apart.

    Args:
        spec: A name, or a mapping of one name to its arguments, all plain values.
        where: What errors call its place.

    Returns:
        The name and the arguments.

    Raises:
        OptionError: If it is something else.

    Example:
        >>> read_spec("SGD", "model.optimizer"), read_spec({"SGD": {"momentum": 0.9}}, "model.optimizer")
        (('SGD', {}), ('SGD', {'momentum': 0.9}))
    """
    name, given = next(iter(spec.items())) if isinstance(spec, Mapping) and len(spec) == 1 else (spec, {})
    given = {} if given is None else given
    if not isinstance(name, str) or not isinstance(given, Mapping):
        raise OptionError(
            f"{where} is {reprlib.repr(spec)}; it must be a name, or one name with its arguments indented below it, as "
            f"in 'SGD: {{momentum: 0.9}}'."
        )
    for argument, value in given.items():
        _check_plain(value, f"{where}.{name}.{argument}")
    return name, dict(given)


def _check_plain(value: object, where: str) -> None:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            _check_plain(item, where)
    elif not (value is None or isinstance(value, str | bool | int | float)):
        raise OptionError(
            f"{where} is a {type(value).__name__}; it can be a number, text, true, false, null, or a list or mapping "
            f"of them, as YAML and checkpoints hold."
        )


def find_class(name: str, base: type[C], home: ModuleType, where: str) -> type[C]:
    """The class of a name.

    Args:
        name: Of a class in ``home``, or the dotted path of another package's.
        base: What it must be derived from.
        home: A module of torch.
        where: What errors call its place.

    Raises:
        OptionError: If there is none; it names those that come closest.

    Example:
        >>> import torch
        >>> find_class("SGD", torch.optim.Optimizer, torch.optim, "model.optimizer").__name__
        'SGD'
    """
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module) if module else home, attribute, None)
    except Exception as error:  # a module may raise anything while it is imported
        raise OptionError(f"{where} is {name!r}; importing {module} failed: {first_line(error)}") from error
    if not (inspect.isclass(found) and issubclass(found, base)) or found is base:
        known = [one for one, cls in vars(home).items() if inspect.isclass(cls) and issubclass(cls, base)]
        known = sorted(one for one in known if one != base.__name__ and not one.startswith("_"))
        raise OptionError(
            f"{where} is {name!r}, which is no {base.__name__} that can be built; those of {home.__name__} are "
            f"{', '.join(known)}.{did_you_mean(attribute, known)} One of another package needs its dotted path, as in "
            f"'package.module.Class'."
        )
    return found


def check_arguments(cls: type, given: Mapping[str, Any], ours: Iterable[str], where: str) -> None:
    """Refuse arguments that a constructor doesn't have, and a lack of those that it needs.

    Args:
        cls: The class.
        given: Its arguments.
        ours: Arguments that aren't the user's to give: the caller fills them in.
        where: What errors call its place.

    Raises:
        OptionError: It names the arguments that there are, and the one that was probably meant.
    """
    parameters = inspect.signature(cls).parameters
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = {name: one for name, one in parameters.items() if name not in ours and one.kind in named}
    allowed = f"The arguments are {', '.join(known)}." if known else "There are none."
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    unknown = [name for name in given if name not in known and (name in ours or not takes_any)]
    if unknown:
        raise OptionError(f"{where} has no argument {unknown[0]!r}.{did_you_mean(unknown[0], known)} {allowed}")
    missing = [name for name, one in known.items() if one.default is one.empty and name not in given]
    if missing:
        raise OptionError(f"{where} needs {abridged(missing)}. {allowed}")
