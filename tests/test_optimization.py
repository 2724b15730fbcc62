"""Optimizer groups and the schedule: any class of torch, with the user's arguments and no others."""

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from torch.utils.data import DataLoader

from unetseg import UNet
from unetseg.errors import CheckpointError, OptionError
from unetseg.optimization import OneCycle, build_optimizer, build_scheduler

OPTIMIZERS = [cls for cls in vars(torch.optim).values() if inspect.isclass(cls) and cls is not Optimizer]
REFUSING = {
    "LBFGS": "doesn't support per-parameter options",
    "Muon": "only supports 2D parameters",
    "SparseAdam": "does not support dense gradients",
}

LINEAR = {"LinearLR": {"start_factor": 0.1, "total_iters": 3}}
COSINE = {"CosineAnnealingLR": {"T_max": "run", "eta_min": 0.01}}
SCHEDULERS: dict[str, dict[str, Any]] = {
    name: {}
    for name, cls in vars(lr_scheduler).items()
    if inspect.isclass(cls) and issubclass(cls, lr_scheduler.LRScheduler) and not name.endswith("LRScheduler")
}
SCHEDULERS |= {
    "ChainedScheduler": {"schedulers": [LINEAR, COSINE]},
    "CosineAnnealingLR": {"T_max": "run"},
    "CosineAnnealingWarmRestarts": {"T_0": 4},
    "CyclicLR": {"base_lr": 0.01, "max_lr": [0.1, 0.2], "step_size_up": 3},
    "ExponentialLR": {"gamma": 0.9},
    "MultiStepLR": {"milestones": [2, "run"]},
    "OneCycleLR": {"max_lr": [0.1, 0.2], "total_steps": "run"},
    "PolynomialLR": {"total_iters": "run"},
    "SequentialLR": {"schedulers": [LINEAR, "ConstantLR", COSINE], "milestones": [3, 5]},
    "StepLR": {"step_size": 2},
}
NEEDING_A_FUNCTION = {"LambdaLR", "MultiplicativeLR"}


class TwoLayers(nn.Module):
    """The least network: an encoder and something else."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 3)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(image))
        return out


def sgd(**options: Any) -> Optimizer:
    """SGD with the groups of a network, whose rates are 0.1 and 0.2."""
    return build_optimizer(TwoLayers(), optimizer={"SGD": {"momentum": 0.9, **options}}, lr=0.2, encoder_lr=0.1)


class Own(torch.optim.SGD):
    """An optimizer of another package."""


class OwnLambda(lr_scheduler.LambdaLR):
    """A schedule of another package that has the function that YAML can't hold."""

    def __init__(self, optimizer: Optimizer, half: int, last_epoch: int = -1) -> None:
        super().__init__(optimizer, lambda step: 0.5 ** (step // half), last_epoch)


def test_encoder_and_decoder_have_rates_of_their_own() -> None:
    model = UNet("resnet18", classes=2, encoder_depth=3)
    optimizer = build_optimizer(model, lr=1e-3, encoder_lr=1e-4, weight_decay=0.02)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    learned = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert rates == {id(p): 1e-4 if name.startswith("encoder.") else 1e-3 for name, p in learned}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.02}
    assert [group["name"] for group in optimizer.param_groups] == ["encoder", "decoder"]


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_every_optimizer_of_torch_makes_a_step_or_says_why_not(cls: type[Optimizer], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = TwoLayers()
    if cls.__name__ in REFUSING:
        with pytest.raises(OptionError, match=rf"model.optimizer.{cls.__name__} can't .*{REFUSING[cls.__name__]}"):
            build_optimizer(model, optimizer=cls.__name__, lr=0.01, encoder_lr=0.01)
        return
    optimizer = build_optimizer(model, optimizer=cls.__name__, lr=0.01, encoder_lr=0.02)
    assert type(optimizer) is cls
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.01]
    # nothing but the class's own defaults; AdamW is fused for speed
    defaults = cls([nn.Parameter(torch.zeros(1))]).defaults | ({"fused": True} if cls is torch.optim.AdamW else {})
    assert {name: optimizer.defaults[name] for name in defaults} == defaults
    assert not any(state.get("step", 0) for state in optimizer.state.values())  # the trial was made elsewhere
    before = [parameter.clone() for parameter in model.parameters()]
    model(torch.rand(2, 3, 5, 7)).square().mean().backward()
    optimizer.step()
    assert not any(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    torch.save(optimizer.state_dict(), tmp_path / "state.pth")
    optimizer.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))


@pytest.mark.parametrize("cls", [one for one in OPTIMIZERS if one.__name__ not in REFUSING])
def test_every_optimizer_goes_with_the_cycle(cls: type[Optimizer]) -> None:
    optimizer = build_optimizer(TwoLayers(), optimizer=cls.__name__, lr=0.01, encoder_lr=0.02)
    build_scheduler(optimizer, total_steps=10, total_epochs=None)
    if "momentum" in optimizer.defaults:  # the cycle doesn't add one
        assert {group["momentum"] for group in optimizer.param_groups} == {0}


@pytest.mark.parametrize(
    ("spec", "weight_decay", "used"),
    [
        (None, None, 1e-2),
        (None, 0.0, 0.0),
        ("AdamW", None, 1e-2),
        ({"AdamW": {"weight_decay": 0.3}}, None, 0.3),
        ("SGD", None, 0.0),
        ("SGD", 0.1, 0.1),
        ({"SGD": {"weight_decay": 0.2}}, None, 0.2),
    ],
)
def test_weight_decay_is_the_users_or_the_classs(spec: Any, weight_decay: float | None, used: float) -> None:
    optimizer = build_optimizer(TwoLayers(), optimizer=spec, lr=0.1, encoder_lr=0.1, weight_decay=weight_decay)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {used}


def test_the_default_is_fused_on_the_cpu_unless_asked_otherwise() -> None:
    assert build_optimizer(TwoLayers(), lr=0.1, encoder_lr=0.1).defaults["fused"]
    foreach = build_optimizer(TwoLayers(), optimizer={"AdamW": {"foreach": True}}, lr=0.1, encoder_lr=0.1)
    assert not foreach.defaults["fused"]


@pytest.mark.parametrize("path", ["mine.Own", "torch.optim.sgd.SGD"])
def test_an_optimizer_of_another_package_has_a_dotted_path(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mine", ModuleType("mine"))
    monkeypatch.setattr(sys.modules["mine"], "Own", Own, raising=False)
    spec: Any = {path: {"momentum": 0.5}}
    optimizer = build_optimizer(TwoLayers(), optimizer=spec, lr=0.1, encoder_lr=0.1)
    assert type(optimizer).__name__ == path.rpartition(".")[2]
    assert optimizer.defaults["momentum"] == 0.5


def test_frozen_parameters_and_empty_groups_are_left_out() -> None:
    model = TwoLayers()
    model.encoder.requires_grad_(False)
    model.head.bias.requires_grad_(False)
    (group,) = build_optimizer(model, lr=0.1, encoder_lr=0.2).param_groups
    assert group["name"] == "decoder"
    assert [id(parameter) for parameter in group["params"]] == [id(model.head.weight)]
    model.requires_grad_(False)
    with pytest.raises(OptionError, match="nothing to train: every parameter of the network is frozen"):
        build_optimizer(model, lr=0.1, encoder_lr=0.2)


def test_a_compiled_model_has_its_encoder_in_one_group() -> None:
    model = UNet(classes=2, encoder_depth=3)
    optimizer = build_optimizer(torch.compile(model), lr=1e-3, encoder_lr=1e-4, weight_decay=0.0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == sum(
        parameter.requires_grad for parameter in model.parameters()
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("adam", r"model.optimizer is 'adam', which is no Optimizer .*Adadelta.* Did you mean 'Adam'\?"),
        ("lr_scheduler", "is 'lr_scheduler', which is no Optimizer"),
        ("Optimizer", "is 'Optimizer', which is no Optimizer that can be built"),
        ("torch.nn.Linear", "is 'torch.nn.Linear', which is no Optimizer .*its dotted path"),
        ("no_such_package.Lion", "importing no_such_package failed: No module named 'no_such_package'"),
        (["SGD"], r"model.optimizer is \['SGD'\]; it must be a name, or one name with its arguments"),
        ({"SGD": {}, "Adam": {}}, "it must be a name, or one name with its arguments"),
        ({"SGD": [0.9]}, "it must be a name, or one name with its arguments"),
        (
            {"SGD": {"momentun": 0.9}},
            r"model.optimizer.SGD has no argument 'momentun'. Did you mean 'momentum'\? The arguments are momentum",
        ),
        ({"SGD": {"params": []}}, "SGD has no argument 'params'"),
        ({"SGD": {"lr": 0.1}}, "SGD.lr is 0.1; leave it out: the rates are --model.lr and --model.encoder_lr"),
        ({"SGD": {"weight_decay": 0.1}}, "given twice: model.weight_decay is 0.5, and .*SGD.weight_decay is 0.1"),
        ({"SGD": {"momentum": -1}}, "SGD can't train this network with these arguments: Invalid momentum value: -1"),
        ({"SGD": {"momentum": "much"}}, "SGD can't train this network with these arguments"),
        ({"SGD": {"momentum": torch.zeros(1)}}, "SGD.momentum is a Tensor; it can be a number, text"),
        ({"Adam": {"betas": [0.9, len]}}, "Adam.betas is a builtin_function_or_method; it can be a number"),
        ("SparseAdam", "model.weight_decay is 0.5, but model.optimizer.SparseAdam takes no weight_decay. Leave it out"),
    ],
)
def test_wrong_optimizers_are_explained(spec: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        build_optimizer(TwoLayers(), optimizer=spec, lr=0.1, encoder_lr=0.1, weight_decay=0.5)


def test_a_name_alone_may_have_nothing_below_it() -> None:
    empty: Any = {"SGD": None}
    build_optimizer(TwoLayers(), optimizer=empty, lr=0.1, encoder_lr=0.1)


def peak_and_end(steps: int, *, resume_at: int = 0, of: int = 0) -> tuple[float, float]:
    """Highest and last rate of a cycle, or of one that was begun with another length."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5, momentum=0.9)
    schedule = OneCycle(optimizer, total_steps=of or steps)
    rates = []
    for step in range(steps):
        if resume_at and step == resume_at:
            saved = schedule.state_dict()
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5, momentum=0.9)
            schedule = OneCycle(optimizer, total_steps=steps)
            schedule.load_state_dict(saved)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return max(rates), rates[-1]


@pytest.mark.parametrize("steps", [1, 2, 3, 100])
def test_the_cycle_has_the_length_of_the_run(steps: int) -> None:
    peak, end = peak_and_end(steps)
    assert peak <= 0.5 + 1e-9
    if steps == 100:
        assert peak == pytest.approx(0.5, abs=0.01)
        assert end < 0.01


def test_a_resumed_run_may_be_longer() -> None:
    _, end = peak_and_end(40, resume_at=20, of=20)
    assert end < 0.01


def test_without_a_scheduler_it_is_one_cycle_in_steps() -> None:
    built = build_scheduler(sgd(), total_steps=10, total_epochs=None)
    assert isinstance(built["scheduler"], OneCycle)
    assert built["interval"] == "step"
    with pytest.raises(OptionError, match=r"so the run needs a length: give --trainer.max_epochs"):
        build_scheduler(sgd(), total_steps=None, total_epochs=None)


def rates(schedule: Any, optimizer: Optimizer, steps: int) -> list[list[float]]:
    """The groups' rates at each of the next steps."""
    found = []
    for _ in range(steps):
        found.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        schedule.step(*[1.0] if isinstance(schedule, lr_scheduler.ReduceLROnPlateau) else [])
    return found


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_schedule_of_torch_is_built_and_goes_on_after_a_resume(name: str, tmp_path: Path) -> None:
    if name in NEEDING_A_FUNCTION:
        with pytest.raises(OptionError, match=rf"{name} needs a function as lr_lambda, which YAML can't hold"):
            build_scheduler(sgd(), scheduler=name, total_steps=20, total_epochs=10)
        return

    def build() -> tuple[Optimizer, Any]:
        optimizer = sgd()
        built = build_scheduler(optimizer, scheduler={name: SCHEDULERS[name]}, total_steps=20, total_epochs=10)
        assert built["interval"] == "epoch"
        return optimizer, built["scheduler"]

    optimizer, schedule = build()
    assert isinstance(getattr(schedule, "schedule", schedule), getattr(lr_scheduler, name))
    whole = rates(schedule, optimizer, 10)
    optimizer, schedule = build()
    begun = rates(schedule, optimizer, 4)
    torch.save([optimizer.state_dict(), schedule.state_dict()], tmp_path / "state.pth")
    of_optimizer, of_schedule = torch.load(tmp_path / "state.pth", weights_only=True)
    optimizer, schedule = build()
    optimizer.load_state_dict(of_optimizer)
    schedule.load_state_dict(of_schedule)
    torch.testing.assert_close(begun + rates(schedule, optimizer, 6), whole)


@pytest.mark.parametrize(
    "spec",
    [
        COSINE,
        {"PolynomialLR": {"total_iters": "run", "power": 2}},
        {"OneCycleLR": {"max_lr": [0.3, 0.4], "total_steps": "run"}},
        {"CosineAnnealingWarmRestarts": {"T_0": "run"}},
        {"SequentialLR": {"schedulers": [LINEAR, COSINE], "milestones": [3]}},
        {"ChainedScheduler": {"schedulers": [LINEAR, {"PolynomialLR": {"total_iters": "run"}}]}},
    ],
    ids=str,
)
@pytest.mark.parametrize("first", [6, 20])
def test_a_resumed_schedule_has_the_length_of_the_resumed_run(spec: Any, first: int) -> None:
    """From the resume on, its rates are those of a run that had the new length from the start."""

    def build(steps: int) -> tuple[Optimizer, Any]:
        optimizer = sgd()
        built = build_scheduler(optimizer, scheduler=spec, interval="step", total_steps=steps, total_epochs=None)
        return optimizer, built["scheduler"]

    optimizer, schedule = build(12)
    whole = rates(schedule, optimizer, 12)
    optimizer, schedule = build(first)
    rates(schedule, optimizer, 6)
    of_optimizer, of_schedule = optimizer.state_dict(), schedule.state_dict()
    optimizer, schedule = build(12)
    optimizer.load_state_dict(of_optimizer)
    schedule.load_state_dict(of_schedule)
    assert schedule.get_last_lr() == pytest.approx(whole[6])
    torch.testing.assert_close(rates(schedule, optimizer, 6), whole[6:])
    # and once more, with the length that it now has
    again = schedule.state_dict()
    optimizer, schedule = build(12)
    schedule.load_state_dict(again)
    assert schedule.moves == 12


def test_a_resumed_run_may_be_shorter_than_what_was_done() -> None:
    optimizer = sgd()
    spec = {"OneCycleLR": {"max_lr": 0.3, "total_steps": "run"}}
    schedule = build_scheduler(optimizer, scheduler=spec, total_steps=None, total_epochs=9)["scheduler"]
    rates(schedule, optimizer, 9)
    shorter = build_scheduler(optimizer, scheduler=spec, total_steps=None, total_epochs=4)["scheduler"]
    shorter.load_state_dict(schedule.state_dict())
    assert shorter.moves == 9


def test_the_state_of_another_schedule_is_refused() -> None:
    optimizer = sgd()
    other = build_scheduler(optimizer, scheduler={"StepLR": {"step_size": 3}}, total_steps=9, total_epochs=9)
    cosine = build_scheduler(optimizer, scheduler=COSINE, total_steps=9, total_epochs=9)["scheduler"]
    with pytest.raises(CheckpointError, match=r"isn't this run's CosineAnnealingLR. Resume with the --model.scheduler"):
        cosine.load_state_dict(other["scheduler"].state_dict())


@pytest.mark.parametrize(("interval", "length"), [("epoch", 5), ("step", 100)])
def test_run_is_the_length_in_the_intervals_unit(interval: Any, length: int) -> None:
    spec = {"SequentialLR": {"schedulers": ["ConstantLR", COSINE], "milestones": [2]}}
    built = build_scheduler(sgd(), scheduler=spec, interval=interval, total_steps=100, total_epochs=5)
    assert built["scheduler"].schedule._schedulers[1].T_max == length
    assert built["interval"] == interval


@pytest.mark.parametrize(("mode", "monitor"), [({}, "val_loss"), ({"mode": "max"}, "val_iou")])
def test_reduce_on_plateau_looks_at_the_validation(mode: Any, monitor: str) -> None:
    spec = {"ReduceLROnPlateau": {"patience": 2, **mode}}
    assert build_scheduler(sgd(), scheduler=spec, total_steps=9, total_epochs=3)["monitor"] == monitor


def test_a_schedule_of_another_package_has_a_dotted_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mine", ModuleType("mine"))
    monkeypatch.setattr(sys.modules["mine"], "OwnLambda", OwnLambda, raising=False)
    optimizer = sgd()
    built = build_scheduler(optimizer, scheduler={"mine.OwnLambda": {"half": 2}}, total_steps=9, total_epochs=3)
    assert [pair[1] for pair in rates(built["scheduler"], optimizer, 3)] == [0.2, 0.2, 0.1]


def test_the_trial_leaves_the_optimizer_as_it_is() -> None:
    optimizer = sgd()
    before = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    with pytest.raises(OptionError):
        build_scheduler(optimizer, scheduler={"StepLR": {"step_size": 0}}, total_steps=9, total_epochs=3)
    assert before == [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("StepLr", r"model.scheduler is 'StepLr', which is no LRScheduler .*ConstantLR.* Did you mean 'StepLR'\?"),
        ("LRScheduler", "is no LRScheduler that can be built"),
        ("StepLR", "model.scheduler.StepLR needs step_size. The arguments are step_size, gamma"),
        ({"StepLR": {"stepsize": 3}}, r"StepLR has no argument 'stepsize'. Did you mean 'step_size'\?"),
        ({"StepLR": {"step_size": 3, "last_epoch": 3}}, "StepLR has no argument 'last_epoch'"),
        ({"StepLR": {"step_size": 3, "optimizer": 3}}, "StepLR has no argument 'optimizer'"),
        ({"StepLR": {"step_size": 0}}, "StepLR can't move with these arguments: .*zero"),
        ({"CosineAnnealingLR": {"T_max": "all"}}, "CosineAnnealingLR can't move with these arguments: unsupported"),
        ({"LinearLR": {"start_factor": 2}}, "LinearLR: Starting multiplicative factor expected to be"),
        (
            {"OneCycleLR": {"max_lr": 0.1, "total_steps": 5}},
            "ends after 5 epochs, but the run has 9. Give 'total_steps",
        ),
        ({"CyclicLR": {"base_lr": 0.1, "max_lr": 1, "scale_fn": "sin"}}, "needs a function as scale_fn"),
        ({"SequentialLR": {"schedulers": [], "milestones": []}}, "SequentialLR: .*at least one scheduler"),
        (
            {"SequentialLR": {"schedulers": ["ConstantLR", "StepLR"], "milestones": [1]}},
            r"model.scheduler.SequentialLR.schedulers\[1\].StepLR needs step_size",
        ),
        ({"ChainedScheduler": {"schedulers": 3}}, r"ChainedScheduler.schedulers\[0\] is 3; it must be a name"),
        ({"ChainedScheduler": {"schedulers": ["ReduceLROnPlateau"]}}, "does not support `ReduceLROnPlateau`"),
        ({"ReduceLROnPlateau": {"patience": "run"}}, "follows a metric, not the length of the run. Give a number"),
        ({"ReduceLROnPlateau": {"patience": "long"}}, "ReduceLROnPlateau can't move with these arguments"),
    ],
)
def test_wrong_schedules_are_explained(spec: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        build_scheduler(sgd(), scheduler=spec, total_steps=90, total_epochs=9)


@pytest.mark.parametrize(
    ("spec", "interval", "message"),
    [
        ("ReduceLROnPlateau", "step", "can't have the interval 'step': it looks at a validation. Give 'epoch'"),
        (
            COSINE,
            "epoch",
            "T_max is 'run', but the run has no length in epochs. Give --trainer.max_epochs, or a number",
        ),
        (COSINE, "step", "no length in steps. Give --trainer.max_epochs or --trainer.max_steps, or a number"),
        (COSINE, "batch", "the scheduler's interval is 'batch'; it can be 'epoch', 'step'"),
    ],
)
def test_a_schedule_that_does_not_fit_the_run_is_explained(spec: Any, interval: Any, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        build_scheduler(sgd(), scheduler=spec, interval=interval, total_steps=None, total_epochs=None)


class Task(pl.LightningModule):
    """The least task: its rates are those that the optimizer's steps had."""

    def __init__(self, spec: Any, interval: Any) -> None:
        super().__init__()
        self.model, self.spec, self.interval = TwoLayers(), spec, interval
        self.rates: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[1]["lr"])
        loss: Tensor = self.model(batch).square().mean()
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val_loss", self.model(batch).square().mean())

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.model, optimizer="SGD", lr=0.2, encoder_lr=0.1)
        built = build_scheduler(
            optimizer,
            scheduler=self.spec,
            interval=self.interval,
            total_steps=int(self.trainer.estimated_stepping_batches),
            total_epochs=self.trainer.max_epochs,
        )
        return {"optimizer": optimizer, "lr_scheduler": built}


def fit(spec: Any, interval: str, epochs: int, folder: Path, resume: bool = False) -> list[float]:
    """The rates of a run of three batches an epoch."""
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    task = Task(spec, interval)
    images = DataLoader(list(torch.rand(6, 3, 5, 5)), batch_size=2)
    trainer.fit(task, images, images, ckpt_path=folder / "last.ckpt" if resume else None, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    return task.rates


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_lightning_runs_and_resumes_a_schedule(interval: str, tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    whole = fit(COSINE, interval, 4, tmp_path)
    begun = fit(COSINE, interval, 2, tmp_path)
    assert begun[0] == whole[0] == 0.2
    assert len(set(whole)) == (4 if interval == "epoch" else 12)
    assert fit(COSINE, interval, 4, tmp_path, resume=True) == pytest.approx(whole[6:])


def test_lightning_runs_reduce_on_plateau(tmp_path: Path) -> None:
    spec = {"ReduceLROnPlateau": {"patience": 0, "threshold": 1e9, "threshold_mode": "abs"}}
    assert fit(spec, "epoch", 3, tmp_path)[::3] == pytest.approx([0.2, 0.2, 0.02])
