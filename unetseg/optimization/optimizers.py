"""Optimizers with the encoder in a group of its own."""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from unetseg.errors import OptionError, first_line
from unetseg.optimization.specs import Spec, check_arguments, find_class, read_spec

__all__ = ["build_optimizer"]

Group = dict[str, Any]

_WHERE = "model.optimizer"
_RATES = "the rates are --model.lr and --model.encoder_lr"
_ADAMW_WEIGHT_DECAY = 1e-2


def build_optimizer(
    model: nn.Module,
    *,
    optimizer: Spec | None = None,
    lr: float,
    encoder_lr: float,
    weight_decay: float | None = None,
) -> Optimizer:
    """An optimizer with the encoder in a group of its own: pretrained weights want a smaller step.

    The groups are called "encoder" and "decoder", which holds all else. They hold the parameters that require a
    gradient, and a group without any is left out.

    Args:
        model: The network; its ``encoder`` is a module.
        optimizer: None for AdamW; the name of a class of ``torch.optim``, or the dotted path of another package's; or a
            mapping of that to its arguments. No argument comes from another class: what isn't given is the class's own
            default.
        lr: Learning rate of the decoder and the heads.
        encoder_lr: Learning rate of the encoder.
        weight_decay: For both groups. None: 1e-2 for AdamW, and for another class its own default.

    Raises:
        OptionError: If the class or an argument doesn't exist, or the class can't train this network.

    Example:
        >>> model = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
        >>> sgd = build_optimizer(model, optimizer={"SGD": {"momentum": 0.9}}, lr=0.1, encoder_lr=0.01)
        >>> [(group["name"], group["lr"], group["momentum"]) for group in sgd.param_groups]
        [('encoder', 0.01, 0.9), ('decoder', 0.1, 0.9)]
    """
    groups = _groups(model, lr, encoder_lr)
    name, given = read_spec("AdamW" if optimizer is None else optimizer, _WHERE)
    cls = find_class(name, Optimizer, torch.optim, _WHERE)
    where = f"{_WHERE}.{name}"
    for rate in ("lr", "encoder_lr"):
        if rate in given:
            raise OptionError(f"{where}.{rate} is {given[rate]!r}; leave it out: {_RATES}.")
    check_arguments(cls, given, ("self", "params", "lr"), where)
    arguments = given | _weight_decay(cls, given, weight_decay, where) | _fused(cls, given, groups)
    _try(cls, groups, arguments, where)
    return cls(groups, **arguments)


def _groups(model: nn.Module, lr: float, encoder_lr: float) -> list[Group]:
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learned:
        raise OptionError(
            "there is nothing to train: every parameter of the network is frozen. Leave one of its parts out of "
            "--model.freeze, such as the head."
        )
    of_encoder = {id(parameter) for parameter in model.get_submodule("encoder").parameters()}
    encoder = [parameter for parameter in learned if id(parameter) in of_encoder]
    rest = [parameter for parameter in learned if id(parameter) not in of_encoder]
    groups = [
        {"params": encoder, "lr": encoder_lr, "name": "encoder"},
        {"params": rest, "lr": lr, "name": "decoder"},
    ]
    return [group for group in groups if group["params"]]


def _weight_decay(
    cls: type[Optimizer], given: Mapping[str, Any], weight_decay: float | None, where: str
) -> dict[str, float]:
    """The argument, where there is one to give."""
    if weight_decay is None:
        return {"weight_decay": _ADAMW_WEIGHT_DECAY} if cls is AdamW and "weight_decay" not in given else {}
    if "weight_decay" in given:
        raise OptionError(
            f"the weight decay is given twice: model.weight_decay is {weight_decay}, and {where}.weight_decay is "
            f"{given['weight_decay']!r}. Leave one of them out."
        )
    parameters = inspect.signature(cls).parameters.values()
    if not any(one.name == "weight_decay" or one.kind is one.VAR_KEYWORD for one in parameters):
        raise OptionError(f"model.weight_decay is {weight_decay}, but {where} takes no weight_decay. Leave it out.")
    return {"weight_decay": weight_decay}


def _fused(cls: type[Optimizer], given: Mapping[str, Any], groups: list[Group]) -> dict[str, bool]:
    # half the time on the CPU; on a GPU PyTorch's choice is fast
    chosen = {"fused", "foreach", "differentiable", "capturable"} & given.keys()
    on_cpu = groups[0]["params"][0].device.type == "cpu"
    return {"fused": True} if cls is AdamW and on_cpu and not chosen else {}


def _try(cls: type[Optimizer], groups: list[Group], arguments: Mapping[str, Any], where: str) -> None:
    """Take a step on small parameters of the same dimensions: some optimizers refuse their work only then."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of the optimizer itself are to be seen
            trial = cls([group | {"params": _stand_ins(group)} for group in groups], **arguments)
            trial.step(lambda: torch.zeros(()))  # type: ignore[arg-type, return-value]  # a loss, of which LBFGS makes a float
    except Exception as error:  # a class of the user's may raise anything
        raise OptionError(
            f"{where} can't train this network with these arguments: {first_line(error)} Mend them, or choose another "
            f"optimizer."
        ) from error


def _stand_ins(group: Group) -> list[nn.Parameter]:
    by_dimensions = {parameter.ndim: parameter.detach() for parameter in group["params"]}
    stand_ins = [nn.Parameter(one.new_zeros([1] * ndim)) for ndim, one in by_dimensions.items()]
    for parameter in stand_ins:
        parameter.grad = torch.zeros_like(parameter)
    return stand_ins
