"""A training loss that isn't finite ends the run, and names the images it came from."""

from collections.abc import Sequence

import torch
from torch import Tensor

from unetseg.errors import LossError, abridged

__all__ = ["FiniteLoss"]


class FiniteLoss:
    """Looks at the loss of each step: on a GPU at the next one, as it would have to wait for this one's.

    The images are named that the loss was computed of. Between two looks no checkpoint may be written: look before.

    Example:
        >>> losses = FiniteLoss()
        >>> losses.watch(torch.tensor(0.5), ["a"], "step 1")
        >>> losses.look()
    """

    def __init__(self) -> None:
        self.is_on = True  # a search for a learning rate goes on until the loss is infinite
        self._watched: tuple[Tensor, Tensor, Sequence[str], str] | None = None
        self._event: torch.cuda.Event | None = None

    def watch(self, loss: Tensor, names: Sequence[str], place: str) -> None:
        """Note a step's loss.

        Args:
            loss: A scalar.
            names: The images of its batch.
            place: Which step it is, for the message.

        Raises:
            LossError: If it isn't finite and needn't be waited for.
        """
        if not self.is_on:
            return
        loss = loss.detach()
        asynchronous = loss.is_cuda
        # a copy to the host that doesn't wait for the device
        self._watched = loss, loss.isfinite().to("cpu", non_blocking=asynchronous), names, place
        if asynchronous:
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no types here
            self._event.record()
        else:
            self.look()

    def look(self) -> None:
        """Look at the loss noted last, if there is one.

        Raises:
            LossError: If it isn't finite.
        """
        if self._watched is None:
            return
        loss, finite, names, place = self._watched
        if self._event is not None:
            self._event.synchronize()
        self._watched = self._event = None
        if not finite:
            raise LossError(
                f"the loss is {loss.item()} at {place}, on {abridged(names, limit=64)}. If the images are as they "
                f"should be (python -m unetseg check-data), a smaller --model.lr, --trainer.gradient_clip_val 1, or "
                f"--trainer.precision bf16-mixed in place of 16-mixed may help. The checkpoints from before are as "
                f"they were."
            )
