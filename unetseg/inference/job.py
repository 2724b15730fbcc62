"""A prediction of many files, which Lightning deals to its processes."""

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy

from unetseg.inference.pipeline import FilePipeline, Loaded, Outcome
from unetseg.inference.predictor import Predictor
from unetseg.process_group import leave_at_exit

__all__ = ["predict_files"]

# a process may have much larger images than another, which then waits for it
_PATIENCE = timedelta(days=2)


def predict_files(
    predictor: Predictor, pipeline: FilePipeline, *, trainer_options: Mapping[str, Any]
) -> Outcome | None:
    """Predict every file, each in one of the processes, and write what belongs to it.

    Args:
        predictor: What predicts.
        pipeline: What is to be done with it.
        trainer_options: Lightning's accelerator, devices and num_nodes.

    Returns:
        What became of the files of all processes; None in all processes but the first.
    """
    options = _as_launched(trainer_options)
    trainer = pl.Trainer(
        **options,
        strategy=DDPStrategy(process_group_backend="gloo", timeout=_PATIENCE) if _several(options) else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    job = _Job(predictor, pipeline)
    try:
        with ThreadPoolExecutor(pipeline.threads, thread_name_prefix="outputs") as pipeline.writers:
            trainer.predict(job, return_predictions=False)
    except SystemExit as error:  # that is what Lightning makes of Ctrl-C
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    finally:
        pipeline.writer.close()
    return job.outcome


def _as_launched(options: Mapping[str, Any]) -> dict[str, Any]:
    """With as many processes and machines as torchrun has started, where nothing else is said."""
    launched = {"devices": os.environ.get("LOCAL_WORLD_SIZE"), "num_nodes": os.environ.get("GROUP_WORLD_SIZE")}
    defaults = {"devices": "auto", "num_nodes": 1}
    own = {name: int(count) for name, count in launched.items() if count and options[name] == defaults[name]}
    return {**options, **own}


def _several(options: Mapping[str, Any]) -> bool:
    """Whether there will be several processes; they exchange no tensors, so their group needs no NCCL."""
    if options["devices"] == "auto":
        gpus = torch.cuda.device_count() if options["accelerator"] in ("auto", "gpu", "cuda") else 0
        return gpus > 1 or options["num_nodes"] > 1
    return str(options["devices"]) != "1" or options["num_nodes"] > 1


class _Job(pl.LightningModule):
    """Files as a loader of groups, a group as a step."""

    outcome: Outcome | None = None

    def __init__(self, predictor: Predictor, pipeline: FilePipeline) -> None:
        super().__init__()
        self.network = predictor.network  # so that Lightning moves it
        self.predictor = predictor
        self.pipeline = pipeline

    def setup(self, stage: str) -> None:
        """Let the first process decide which files there are, as the folders may be growing."""
        leave_at_exit()
        self.pipeline.plan, start = self.trainer.strategy.broadcast((self.pipeline.plan, time.time_ns()))
        self.pipeline.writer.begin(self.trainer.global_rank, start)

    def predict_dataloader(self) -> "_Groups":
        """This process's share of the files."""
        return _Groups(self)

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """The predictor does that."""
        return batch

    def on_predict_start(self) -> None:
        """Follow the network to its device."""
        self.predictor.to(self.device)

    def predict_step(self, batch: list[Loaded], batch_idx: int) -> int:
        """Predict a group.

        Returns:
            How many files it had; Lightning warns of nothing.
        """
        self.pipeline.predict(batch)
        return len(batch)

    def on_predict_end(self) -> None:
        """Bring together what became of the files."""
        own = self.pipeline.finish()
        tallies: list[Any] = [own]
        if self.trainer.world_size > 1:
            tallies = [None] * self.trainer.world_size
            dist.all_gather_object(tallies, own)
        if self.trainer.is_global_zero:
            self.outcome = Outcome.of(tallies)
            self.pipeline.end()


class _Groups:
    """Groups of files that are predicted together, as a loader; it has no length."""

    def __init__(self, job: _Job) -> None:
        self.job = job

    def __iter__(self) -> Iterator[list[Loaded]]:
        return self.job.pipeline.groups(self.job.trainer.global_rank, self.job.trainer.world_size)
