"""The group of processes of a distributed run, left in order."""

import atexit
import functools

import torch.distributed as dist

__all__ = ["leave_at_exit"]


@functools.cache
def leave_at_exit() -> None:
    """Have this process leave its gloo group when Python ends, as Lightning leaves it standing.

    The group has a thread that may still hold tensors of its last gather; it gives them back through an interpreter
    that is there no more, and the process ends by SIGABRT though all its work is done.

    Source: "Shutdown" in the docs of ``torch.distributed``.
    """
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_available() and dist.is_initialized() and dist.get_backend() == "gloo":
        dist.destroy_process_group()
