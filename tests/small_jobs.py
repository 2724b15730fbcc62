"""What makes a job on the command line small enough for a test."""

from pathlib import Path

from unetseg.__main__ import main

TINY = [
    "--model.encoder_depth=3",
    "--model.decoder_channels=[16, 8, 8]",
    "--data.crop_size=32",
    "--data.batch_size=2",
    "--data.num_workers=0",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]


def fit_squares(root: Path, *options: str) -> None:
    """Train on the `squares`, without pictures."""
    own = [f"--data.root={root}", "--data.classes=[background, square]", "--run.pictures=0"]
    assert main(["fit", *own, *TINY, *options]) == 0
