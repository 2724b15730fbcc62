"""Parts of a network that keep their weights and their batch norm's statistics while others learn."""

from collections.abc import Iterable, Sequence

from torch import nn

from unetseg.errors import OptionError, abridged, did_you_mean

__all__ = ["freeze", "keep_in_eval"]


def freeze(model: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Let no parameter of some modules learn; gradients still flow through them to others.

    Batch norm's statistics aren't parameters, so they change whenever the module is in training mode: put what this
    returns through :func:`keep_in_eval` after every ``train()``.

    Args:
        model: The network; changed in place.
        names: Paths of modules in it, such as "encoder", "encoder.layer1", "decoder.blocks.0" or "head".

    Returns:
        The modules, in the order of the names.

    Raises:
        OptionError: If there is no such module; it names those that come closest and those that are there.

    Example:
        >>> model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
        >>> frozen = freeze(model, ["encoder"])
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['head.weight', 'head.bias']
    """
    if isinstance(names, str):
        raise OptionError(f"model.freeze is {names!r}; it must be a list of modules, as in [{names}].")
    model = getattr(model, "_orig_mod", model)  # of a compiled one
    modules = [_find(model, str(name)) for name in names]
    for module in modules:
        module.requires_grad_(False)
    return modules


def keep_in_eval(modules: Iterable[nn.Module]) -> None:
    """Put frozen modules back into eval mode: batch norm keeps its statistics, and dropout drops nothing.

    Args:
        modules: Those that :func:`freeze` returned.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout()).train()
        >>> keep_in_eval(freeze(model, ["0"]))
        >>> model[0].training, model[1].training
        (False, True)
    """
    for module in modules:
        module.eval()


def _find(model: nn.Module, name: str) -> nn.Module:
    """The module of a name, which is found part by part, so that an error can say how far it went."""
    found, reached = model, ""
    for part in name.split("."):
        children = dict(found.named_children())
        if part not in children:
            paths = [path for path, _ in model.named_modules() if path]
            there = abridged(children, limit=20) if children else "no modules"
            raise OptionError(
                f"model.freeze: there is no module {name!r} in the network; {reached or 'it'} has {there}."
                f"{did_you_mean(name, paths, count=3)}"
            )
        found, reached = children[part], f"{reached}.{part}".removeprefix(".")
    return found
