"""What makes a job on the command line small enough for a test."""

TINY = [
    "--model.encoder_depth=3",
    "--model.decoder_channels=[16, 8, 8]",
    "--data.crop_size=32",
    "--data.batch_size=2",
    "--data.num_workers=0",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]
