"""Two processes leave their group before Python ends, so that none ends by a signal when all is done."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import atexit, sys
import torch
import torch.distributed as dist
from unetseg.process_group import leave_at_exit

def work(rank, store):
    # Python calls what was registered last first
    atexit.register(lambda: print("in a group to the last:", dist.is_initialized(), flush=True))
    for _ in range(2):
        leave_at_exit()
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    tensors = [torch.zeros(3) for _ in range(2)]
    dist.all_gather(tensors, torch.full((3,), float(rank)))
    assert [int(tensor[0]) for tensor in tensors] == [0, 1]

work(int(sys.argv[2]), sys.argv[1])
"""


@pytest.mark.slow
def test_processes_leave_their_group_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    commands = [[sys.executable, "script.py", str(tmp_path / "store"), str(rank)] for rank in range(2)]
    runs = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for command in commands]
    said = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert said == ["in a group to the last: False\n"] * 2
