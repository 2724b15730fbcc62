"""A folder for every run, taken by one run alone, and the CSV log in it."""

from pathlib import Path

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only

__all__ = ["RunLogger"]


class RunLogger(CSVLogger):
    """Logs to ``metrics.csv`` in ``version_N`` of a folder, N being the first number that is free.

    Lightning looks which folders there are and makes its own later: two runs that are started together would write
    into one. Here the folder is made when its name is found, and who can't make it takes the next.

    Args:
        folder: Where the runs' folders are.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print([Path(RunLogger(folder).log_dir).name for _ in range(2)])
        ['version_0', 'version_1']
    """

    def __init__(self, folder: str) -> None:
        # at once, for a run that is killed: there are few lines an epoch
        super().__init__(folder, name="", flush_logs_every_n_steps=1)

    def _get_next_version(self) -> int:
        number = super()._get_next_version()
        while rank_zero_only.rank == 0:  # type: ignore[attr-defined]  # the other processes are told by this one
            try:
                Path(self.root_dir, f"version_{number}").mkdir(parents=True)
                break
            except FileExistsError:
                number += 1
        return number
