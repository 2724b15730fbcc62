"""Several processes train one model: each pair once, no parameter unused, the same figures as one process."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from killing import run
from small_jobs import TINY

pytestmark = pytest.mark.slow

# one of each family
ENCODERS = [
    "resnet18",
    "vgg11_bn",
    "densenet121",
    "efficientnet-b0",
    "mobilenet_v2",
    "mobileone_s0",
    "xception",
    "se_resnet50",
    "inceptionv4",
    "dpn68",
    "mit_b0",
    "tu-convnext_femto",
    "tu-regnety_002",
    "tu-mobilenetv3_small_050",
    "tu-hrnet_w18_small",
    "tu-swin_tiny_patch4_window7_224",
    "tu-efficientvit_b0",
    "tu-repvgg_a0",
    "tu-edgenext_xx_small",
    "tu-cspresnet50",
    "tu-fastvit_t8",
]

DDP = """
import sys, warnings
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

warnings.simplefilter("ignore")

class Step(torch.nn.Module):
    def __init__(self, task):
        super().__init__()
        self.task = task

    def forward(self, batch):
        return self.task.training_step(batch, 0)

def work(rank, store, encoders):
    from unetseg.task import SegmentationTask

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    batch = {"image": torch.rand(2, 3, 72, 67), "mask": torch.zeros(2, 72, 67).long(), "name": ["a", "b"]}
    for encoder in encoders:
        for options in OPTIONS:
            task = SegmentationTask(["a", "b"], encoder=encoder, decoder_channels=[8] * 5, **options)
            step = DistributedDataParallel(Step(task.train()))
            try:
                for _ in range(2):  # PyTorch complains at the second step
                    step(batch).backward()
            except RuntimeError as error:
                raise SystemExit(f"{encoder} {options}: {error}")
    dist.destroy_process_group()

OPTIONS = [{"deep_supervision": True}, {"decoder": "unetplusplus", "deep_supervision": True}, {"freeze": ["encoder"]}]
if __name__ == "__main__":
    mp.spawn(work, (sys.argv[1], sys.argv[2:]), nprocs=2)
"""


@pytest.mark.parametrize("encoders", [ENCODERS[:11], ENCODERS[11:]], ids=["smp", "timm"])
def test_no_parameter_is_unused(encoders: list[str], tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(DDP)
    command = [sys.executable, "script.py", str(tmp_path / "store"), *encoders]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def torchrun(args: list[str], folder: Path, *options: str) -> str:
    """Run a command in two processes as `torchrun` starts them; return what it says."""
    launcher = [sys.executable, "-m", "torch.distributed.run", *(options or ("--standalone", "--nproc_per_node=2"))]
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [*launcher, "-m", "unetseg", *args], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


JOB = ["--data.classes=[background, square]", *TINY, "--data.batch_size=1", "--run.pictures=0"]
BOTH = ["--trainer.strategy=ddp", "--trainer.devices=2"]


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_two_processes_validate_as_one_does(squares: Path, tmp_path: Path) -> None:
    torchrun(["fit", f"--data.root={squares}", *JOB, *BOTH, "--trainer.max_epochs=2"], tmp_path)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["version_0"]
    best = f"--ckpt_path={tmp_path}/runs/version_0/best.ckpt"
    for verb in ("validate", "test"):
        two = torchrun([verb, best, *TINY[-2:], *BOTH], tmp_path)
        assert run([verb, best, *TINY[-2:]], tmp_path / verb) == 0
        one = (tmp_path / verb / "said.txt").read_text()
        table = re.compile(r"^class.*", re.MULTILINE | re.DOTALL)
        assert table.search(two)[0] == table.search(one)[0]


RECORD = """
import json, os, sys
import pytorch_lightning as pl
from unetseg import cli
from unetseg.__main__ import main

class Names(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        with open(f"names_{trainer.global_rank}.jsonl", "a") as file:
            file.write(json.dumps([trainer.current_epoch, batch["name"]]) + "\\n")

callbacks = cli.run_callbacks
cli.run_callbacks = lambda options: [*callbacks(options), Names()]
sys.exit(main(sys.argv[1:]))
"""


def test_every_pair_is_seen_once_in_an_epoch(squares: Path, tmp_path: Path) -> None:
    (tmp_path / "record.py").write_text(RECORD)
    args = ["fit", f"--data.root={squares}", *JOB, *BOTH, "--trainer.max_epochs=3"]
    command = [sys.executable, "record.py", *args]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    seen: dict[int, list[str]] = {}
    for rank in (0, 1):
        for line in (tmp_path / f"names_{rank}.jsonl").read_text().splitlines():
            epoch, names = json.loads(line)
            seen.setdefault(epoch, []).extend(names)
    assert {epoch: sorted(names) for epoch, names in seen.items()} == {
        epoch: [f"train_{i}" for i in range(4)] for epoch in range(3)
    }


def test_two_nodes_train_one_model(squares: Path, tmp_path: Path) -> None:
    """Two launchers on one machine, as on two that reach each other."""
    args = ["fit", f"--data.root={squares}", *JOB, "--trainer.strategy=ddp", "--trainer.devices=1"]
    node = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"]
    node += ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:29713", "--rdzv_id=7"]
    command = [*node, "-m", "unetseg", *args, "--trainer.num_nodes=2", "--trainer.max_epochs=1"]
    nodes = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], ends
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["version_0"]


def test_two_processes_resume_within_an_epoch(squares: Path, tmp_path: Path) -> None:
    constant = ["--model.scheduler={ConstantLR: {factor: 1.0}}", "--model.block.dropout=0.2"]
    job = ["fit", f"--data.root={squares}", *JOB, *BOTH, *constant, "--run.checkpoint_every_n_steps=1"]
    torchrun([*job, "--trainer.max_epochs=3"], tmp_path / "whole")
    torchrun([*job, "--trainer.max_epochs=3", "--trainer.max_steps=3"], tmp_path / "broken")
    last = tmp_path / "broken" / "runs" / "version_0" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 3
    resumed = ["fit", f"--ckpt_path={last}", *TINY[-2:], *BOTH, "--trainer.max_steps=-1"]
    torchrun(resumed, tmp_path / "broken")
    whole = torch.load(tmp_path / "whole" / "runs" / "version_0" / "last.ckpt", weights_only=True)
    other = torch.load(tmp_path / "broken" / "runs" / "version_1" / "last.ckpt", weights_only=True)
    assert all(torch.equal(value, other["state_dict"][name]) for name, value in whole["state_dict"].items())
    losses = [
        {row["epoch"]: row["train_loss"] for row in rows(file) if row["train_loss"]}
        for file in (tmp_path / name / "metrics.csv" for name in ("whole/runs/version_0", "broken/runs/version_1"))
    ]
    assert losses[1] == {epoch: losses[0][epoch] for epoch in losses[1]}
    assert set(losses[1]) == {"1", "2"}
