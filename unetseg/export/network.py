"""The network as it is exported, and its graph by ``torch.export``."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from unetseg.config import Mode
from unetseg.decision import decide
from unetseg.errors import OptionError, first_line
from unetseg.inference.runtimes import INPUT_NAME

__all__ = ["ExportPrecision", "ExportedNetwork", "Size", "quiet", "trace"]

Size = tuple[int, int]
"""(height, width) in pixels."""

ExportPrecision = Literal["32-true", "16-true"]
"""What weights and maps are stored and computed in, in Lightning's words: float32 or float16. Normalisation and the
logits that come out are float32 in both."""

_EXAMPLE_BATCH = 2  # one would be taken for a constant


class ExportedNetwork(nn.Module):
    """A network from images to float32 logits, or to classes.

    Args:
        network: From (N, C, H, W) floating point in [0, 1] to logits: a ``UNet``, or its folded copy; in eval mode.
        mode: What a pixel can be.
        argmax: Whether the decision is part of it.
        precision: What it computes in; at "16-true" the network is changed.

    Shape:
        - image: (N, in_channels, H, W) float32 in [0, 1]
        - output: (N, num_logits, H, W) float32; with ``argmax`` uint8 as ``unetseg.decision.decide`` has it

    Example:
        >>> network = ExportedNetwork(nn.Conv2d(3, 2, 1), mode="multiclass", argmax=True)
        >>> network(torch.zeros(1, 3, 5, 7)).shape
        torch.Size([1, 5, 7])
    """

    def __init__(
        self, network: nn.Module, *, mode: Mode, argmax: bool = False, precision: ExportPrecision = "32-true"
    ) -> None:
        super().__init__()
        self.mode, self.argmax = mode, argmax
        if precision == "16-true":
            mean, std = network.mean, network.std
            network = network.half()
            network.mean, network.std = mean, std  # which keep more than float16's 11 bits
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Logits or classes of images."""
        logits: Tensor = self.network(image).float()
        return decide(logits, self.mode) if self.argmax else logits


def trace(
    network: nn.Module,
    in_channels: int,
    *,
    total_stride: int,
    least: int,
    size: Size | None = None,
    drop_unused: bool = False,
) -> torch.export.ExportedProgram:
    """The graph of a network, for images of any size or of one.

    Args:
        network: An ``ExportedNetwork``, on the CPU.
        in_channels: Channels of an image.
        total_stride: Of its encoder.
        least: Least side of an image that the network takes.
        size: (height, width) of the only images, one at a time; None for any size and batch.
        drop_unused: Whether the network loses the weights that its output doesn't depend on, such as those of encoder
            stages that the decoder doesn't use; ONNX leaves them out by itself.

    Raises:
        OptionError: If the network can't be exported so.
    """
    # odd sides, unlike each other, of which no map in the network is a single row
    side = max(2 * total_stride, least)
    batch, height, width = (1, *size) if size else (_EXAMPLE_BATCH, side + 1, side + total_stride + 3)
    any_side = torch.export.Dim.DYNAMIC
    shapes = None if size else {INPUT_NAME: {0: any_side, 2: any_side, 3: any_side}}
    example = (torch.rand(batch, in_channels, height, width),)
    with quiet(), torch.no_grad():
        try:
            program = torch.export.export(network, example, dynamic_shapes=shapes, strict=False)
            if drop_unused and (unused := _unused_weights(program)):
                for name in unused:
                    owner, _, attribute = name.rpartition(".")
                    delattr(network.get_submodule(owner), attribute)
                program = torch.export.export(network, example, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # torch has many classes for what it can't make a graph of
            way = "Try --size HEIGHT WIDTH, for images of one size." if size is None else ""
            raise OptionError(
                f"torch.export can't make a graph of this network: {first_line(error)[:300]} {way}".rstrip()
            ) from error
    return program


def _unused_weights(program: torch.export.ExportedProgram) -> list[str]:
    """Names of the parameters and buffers that the graph takes and makes no use of."""
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return [names[node.name] for node in program.graph.nodes if node.name in names and not node.users]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out what torch and its exporters tell of their own work."""
    names = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir", "onnxscript.optimizer")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
