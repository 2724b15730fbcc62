"""Learning rate schedules, whose length can be that of the run."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from unetseg.config import check_choice
from unetseg.errors import CheckpointError, OptionError, first_line
from unetseg.optimization.specs import Spec, check_arguments, find_class, read_spec

__all__ = ["Interval", "OneCycle", "RunLength", "build_scheduler"]

Interval = Literal["epoch", "step"]
"""When a schedule moves on: after every epoch, or after every step of the optimizer."""

_WHERE = "model.scheduler"
_RUN = "run"
_MONITORED = {"min": "val_loss", "max": "val_iou"}


def build_scheduler(
    optimizer: Optimizer,
    *,
    scheduler: Spec | None = None,
    interval: Interval = "epoch",
    total_steps: int | None,
    total_epochs: int | None,
) -> dict[str, Any]:
    """A learning rate schedule, as Lightning takes it.

    Args:
        optimizer: What it moves.
        scheduler: None for one cycle over the whole run; the name of a class of ``torch.optim.lr_scheduler``, or the
            dotted path of another package's; or a mapping of that to its arguments. ``schedulers`` is a list of such
            specs. The word "run" in place of a number is the length of the run, in the interval's unit.
        interval: When it moves on; one cycle moves with every step.
        total_steps: Optimizer steps of the whole run, those before a resume included; None if there is no end.
        total_epochs: Epochs of the whole run, likewise.

    Returns:
        ``scheduler``, ``interval`` and, for ReduceLROnPlateau, ``monitor``: "val_loss" in its mode "min", "val_iou" in
        "max".

    Raises:
        OptionError: If the class or an argument doesn't exist, or has a value that it can't have; if it needs the
            length of a run that has none.

    Example:
        >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        >>> cosine = {"CosineAnnealingLR": {"T_max": "run"}}
        >>> built = build_scheduler(sgd, scheduler=cosine, interval="step", total_steps=100, total_epochs=5)
        >>> built["scheduler"].schedule.T_max, built["interval"]
        (100, 'step')
    """
    check_choice("the scheduler's interval", interval, Interval)
    if scheduler is None:
        if total_steps is None:
            raise OptionError(
                "the learning rate follows a cycle over the whole run, so the run needs a length: give "
                "--trainer.max_epochs or --trainer.max_steps."
            )
        return {"scheduler": OneCycle(optimizer, max(total_steps, 1)), "interval": "step"}
    length = total_steps if interval == "step" else total_epochs
    length = None if length is None else max(length, 1)  # a run of nothing has a schedule, too
    _try(optimizer, scheduler, interval, length)
    built: dict[str, Any] = {"interval": interval}
    if length is not None and _asks_for_run(scheduler):
        built["scheduler"] = RunLength(optimizer, lambda: _build(optimizer, scheduler, interval, length), length)
    else:
        built["scheduler"] = _build(optimizer, scheduler, interval, length)
    if isinstance(built["scheduler"], ReduceLROnPlateau):
        built["monitor"] = _MONITORED[built["scheduler"].mode]
    return built


class OneCycle(OneCycleLR):
    """PyTorch's one-cycle schedule, whose length is that of the run it is in.

    PyTorch's own goes back to the saved length when a checkpoint is loaded, so that resuming with more epochs
    ends in an error at the first step beyond it.

    Args:
        optimizer: Its groups' learning rates are the peaks.
        total_steps: Optimizer steps of the whole run, those before a resume included.

    Source: Smith & Topin, "Super-Convergence", arXiv:1708.07120; ``torch.optim.lr_scheduler.OneCycleLR``.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int) -> None:
        # one more than there are: Lightning steps the schedule after the last optimizer step too
        peaks = [group["lr"] for group in optimizer.param_groups]
        # momentum goes against the rate, where the optimizer has it: a cycle adds none of its own
        cycled = "betas" in optimizer.defaults or bool(optimizer.defaults.get("momentum"))
        super().__init__(optimizer, max_lr=peaks, total_steps=total_steps + 1, cycle_momentum=cycled)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the saved step, within this run's length."""
        own = {"total_steps": self.total_steps, "_schedule_phases": self._schedule_phases}
        super().load_state_dict(state_dict | own)


class RunLength(LRScheduler):
    """A schedule that was built for the length of a run, and follows it when the run is resumed with another.

    PyTorch's schedules go back to the saved length when a checkpoint is loaded; and most of them derive each rate
    from the one before, so that a new length alone wouldn't do: a cosine that has come to 0 stays there. So where
    the length differs, the schedule is built anew and moved to the saved place.

    Args:
        optimizer: What it moves.
        build: Builds the schedule on the optimizer.
        length: Of the run, in the schedule's unit.

    Attributes:
        schedule: The schedule itself.
    """

    def __init__(self, optimizer: Optimizer, build: Callable[[], LRScheduler], length: int) -> None:
        # as torch's ChainedScheduler, it has no rates of its own, so that the base class has nothing to set up
        self.optimizer = optimizer
        self.length = length
        self.moves = 0
        self.schedule = build()
        self._build = build

    def step(self, epoch: int | None = None) -> None:
        """Move on."""
        self.schedule.step()
        self.moves += 1

    def get_last_lr(self) -> list[float | torch.Tensor]:
        """The groups' latest rates."""
        return list(self.schedule.get_last_lr())

    def state_dict(self) -> dict[str, Any]:
        """The place and the length, and the schedule's own state."""
        return {"length": self.length, "moves": self.moves, "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the saved place, within this run's length.

        Raises:
            CheckpointError: If the state is that of a schedule without a run's length.
        """
        if state_dict.keys() != {"length", "moves", "schedule"}:
            raise CheckpointError(
                f"the checkpoint's learning rate schedule isn't this run's {type(self.schedule).__name__}. Resume with "
                f"the --model.scheduler that it was trained with."
            )
        self.moves = state_dict["moves"]
        if state_dict["length"] == self.length:
            self.schedule.load_state_dict(state_dict["schedule"])
            return
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self.schedule = self._build()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Detected call of `lr_scheduler.step\(\)` before")
            for _ in range(min(self.moves, self.length)):
                self.schedule.step()


def _build(optimizer: Optimizer, spec: object, interval: Interval, length: int | None, where: str = _WHERE) -> Any:
    """Build a schedule, and those in it."""
    name, given = read_spec(spec, where)
    cls = find_class(name, LRScheduler, lr_scheduler, where)
    where = f"{where}.{name}"
    plateau = issubclass(cls, ReduceLROnPlateau)
    functions = {"lr_lambda"} & inspect.signature(cls).parameters.keys() | {"scale_fn"} & given.keys()
    if functions:
        raise OptionError(
            f"{where} needs a function as {functions.pop()}, which YAML can't hold. Write a subclass that has it, and "
            f"give its dotted path, 'package.module.Class'."
        )
    check_arguments(cls, given, ("self", "optimizer", "last_epoch"), where)
    if plateau and _asks_for_run(list(given.values())):
        raise OptionError(f"{where} follows a metric, not the length of the run. Give a number in place of 'run'.")
    if plateau and interval != "epoch":
        raise OptionError(f"{where} can't have the interval {interval!r}: it looks at a validation. Give 'epoch'.")
    arguments: dict[str, Any] = {}
    for argument, value in given.items():
        if argument == "schedulers":
            specs = value if isinstance(value, list | tuple) else [value]
            inner = [
                _build(optimizer, one, interval, length, f"{where}.schedulers[{i}]") for i, one in enumerate(specs)
            ]
            arguments[argument] = inner
        else:
            arguments[argument] = _with_length(value, interval, length, f"{where}.{argument}")
    try:
        return cls(optimizer=optimizer, **arguments)
    except Exception as error:  # a class of the user's may raise anything
        raise OptionError(f"{where}: {first_line(error)}") from error


def _asks_for_run(value: object) -> bool:
    """Whether there is the word "run" in a value, or in those inside it."""
    if isinstance(value, Mapping):
        value = list(value.values())
    return any(map(_asks_for_run, value)) if isinstance(value, list | tuple) else value == _RUN


def _with_length(value: Any, interval: Interval, length: int | None, where: str) -> Any:
    """A value with the length of the run in place of the word."""
    if isinstance(value, list | tuple):
        return [_with_length(one, interval, length, where) for one in value]
    if value != _RUN:
        return value
    if length is None:
        options = "--trainer.max_epochs" + (" or --trainer.max_steps" if interval == "step" else "")
        raise OptionError(f"{where} is 'run', but the run has no length in {interval}s. Give {options}, or a number.")
    return length


class _StandIn(Optimizer):
    """An optimizer with the groups of another, and nothing to move."""

    def __init__(self, other: Optimizer) -> None:
        groups = [group | {"params": [torch.zeros(1)]} for group in other.param_groups]
        super().__init__(groups, dict(other.defaults))

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # there is no loss
        """Nothing."""


def _try(optimizer: Optimizer, spec: object, interval: Interval, length: int | None) -> None:
    """Build a schedule for a stand-in and move it: some values are refused, or too short for the run, only then."""
    stand_in = _StandIn(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the schedule itself are to be seen
        schedule = _build(stand_in, spec, interval, length)
        where = f"{_WHERE}.{read_spec(spec, _WHERE)[0]}"
        try:
            for _ in range(min(3, length or 3)):
                stand_in.step()
                schedule.step(*[0.0] if isinstance(schedule, ReduceLROnPlateau) else [])
        except Exception as error:  # a class of the user's may raise anything
            raise OptionError(f"{where} can't move with these arguments: {first_line(error)}") from error
    if isinstance(schedule, OneCycleLR) and length is not None and schedule.total_steps < length:
        raise OptionError(
            f"{where} ends after {schedule.total_steps} {interval}s, but the run has {length}. Give 'total_steps: run'."
        )
