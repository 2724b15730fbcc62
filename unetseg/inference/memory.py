"""How much memory a forward takes, known before it runs."""

import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unetseg.encoders.geometry import meta_copy

__all__ = ["peak_activation_bytes"]


def peak_activation_bytes(model: nn.Module, image: Tensor) -> int:
    """The largest number of bytes that tensors hold at one time in a forward without gradients.

    A copy runs on the meta device, which computes shapes only: every storage that an operator makes is counted from
    then on until it is freed, so that views, in-place operators, skips that wait for the decoder and attention that
    grows with the square of the pixels count for what they take. Nothing is calculated, at any size of image.

    Parameters, buffers and the image itself don't count. Neither does what an operator needs only while it runs, as
    workspace and copies in another layout, which depends on the device: with it, UNets on a CPU took 1.1 to 1.4 times
    as much.

    Args:
        model: The network; it stays as it is, and is taken to be in eval mode.
        image: (N, C, H, W) as the model takes it. It may be ``torch.empty(..., device="meta")``, as only its shape and
            dtype are used.

    Raises:
        ImageError: If the image is too small for a UNet's encoder.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1))
        >>> peak_activation_bytes(model, torch.zeros(1, 3, 5, 7)) == (8 + 2) * 5 * 7 * 4
        True
    """
    # in inference mode, operators don't come apart into those whose results are counted
    with torch.inference_mode(False), torch.no_grad():
        copied = meta_copy(model)
        image = torch.empty_like(image, device="meta")
        meter = _StorageMeter([*copied.parameters(), *copied.buffers(), image])
        with meter:
            copied(image)
    return meter.peak


class _StorageMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped; so its __init__
    """Sums the storages that are alive.

    Args:
        ignored: Tensors whose storages don't count.

    Attributes:
        peak: The largest sum so far, in bytes.
    """

    def __init__(self, ignored: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        # a storage has one Python object for as long as it lives
        self._seen: weakref.WeakValueDictionary[int, torch.UntypedStorage] = weakref.WeakValueDictionary()
        for tensor in ignored:
            storage = tensor.untyped_storage()
            self._seen[id(storage)] = storage

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if id(storage) in self._seen:
            return
        self._seen[id(storage)] = storage
        size = storage.nbytes()
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._free, size).atexit = False

    def _free(self, size: int) -> None:
        self._now -= size
