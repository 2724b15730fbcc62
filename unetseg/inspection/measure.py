"""What happens in a network at one image size: sizes, alignment, parameters and FLOPs of every stage."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unetseg.encoders.geometry import encoder_geometry, meta_copy
from unetseg.geometry import Rounding, bias_only_rows, signed_output_padding
from unetseg.model import UNet
from unetseg.nn.upsample.alignment import Aligned, Axis

__all__ = ["EncoderRow", "HeadRow", "Inspection", "StageRow", "Upsampling", "inspect_model"]

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Upsampling:
    """An upsampling layer at work; pairs are (height, width).

    Attributes:
        label: What errors call the layer.
        source: Size of its input.
        wanted: Size that is asked of it: the skip's, the image's, or one on the way there.
        rounding: How the encoder rounds between the two.
        axes: (kernel size, stride, padding, dilation) of the transposed convolution that it amounts to, along height
            and width; empty for interpolation.
        output_padding: Signed output padding; None for interpolation.
        bias_only: Rows and columns that no input reaches at this size; None for interpolation.
    """

    label: str
    source: Pair
    wanted: Pair
    rounding: Rounding
    axes: tuple[Axis, ...]
    output_padding: Pair | None
    bias_only: Pair | None


@dataclasses.dataclass(frozen=True)
class EncoderRow:
    """An encoder and its feature maps, full resolution first.

    Attributes:
        name: Its name.
        depth: Number of its downsampling stages.
        min_size: Least side of a square image that it takes.
        padded_to: It pads images to multiples of this many pixels by itself; 1 if it takes them as they are.
        strides: Stride of each map against the image.
        sizes: (height, width) of each map.
        channels: Channels of each map; 0 for the image itself, and for a map without content: neither is a skip.
        parameters: Number of parameters.
        flops: Floating-point operations of one image, two for each multiply-add.
    """

    name: str
    depth: int
    min_size: int
    padded_to: int
    strides: tuple[int, ...]
    sizes: tuple[Pair, ...]
    channels: tuple[int, ...]
    parameters: int
    flops: int


@dataclasses.dataclass(frozen=True)
class StageRow:
    """A stage of the decoder: upsampling, skip, convolutions; in a UNet++, all nodes of a level.

    Attributes:
        upsampling: Its upsampling layer; those of the nodes of one level are alike.
        nodes: How many blocks it has: one, or a UNet++'s nodes.
        skip_channels: Channels of the encoder's map that it takes in; 0 without one.
        out_channels: Channels of its result.
        parameters: Number of parameters.
        flops: Floating-point operations of one image.
    """

    upsampling: Upsampling
    nodes: int
    skip_channels: int
    out_channels: int
    parameters: int
    flops: int


@dataclasses.dataclass(frozen=True)
class HeadRow:
    """What gives logits.

    Attributes:
        name: "head", or "auxiliary head I" of stage I, which runs in training only.
        upsampling: Its upsampling layer, or None where it works at full resolution.
        classes: Channels of the logits.
        parameters: Number of parameters.
        flops: Floating-point operations of one image.
    """

    name: str
    upsampling: Upsampling | None
    classes: int
    parameters: int
    flops: int


@dataclasses.dataclass(frozen=True)
class Inspection:
    """A network at one image size.

    Attributes:
        size: (height, width) of the image.
        encoder: The encoder.
        stages: The decoder's stages, deepest first.
        head: The head.
        auxiliary_heads: Heads of deep supervision, deepest first; their parameters are in the total, their FLOPs
            aren't, as they run in training only.
        parameters: Number of parameters of the whole network.
        flops: Floating-point operations of one image through the whole network in inference.
    """

    size: Pair
    encoder: EncoderRow
    stages: tuple[StageRow, ...]
    head: HeadRow
    auxiliary_heads: tuple[HeadRow, ...]
    parameters: int
    flops: int

    @property
    def upsamplings(self) -> list[Upsampling]:
        """Upsampling layers of the stages, deepest first, and the head's if it has one."""
        layers = [stage.upsampling for stage in self.stages]
        return layers if self.head.upsampling is None else [*layers, self.head.upsampling]


def inspect_model(model: UNet, size: Sequence[int]) -> Inspection:
    """Follow an image through a network.

    A copy runs on the meta device, which computes shapes only: what is reported is what happens, whatever decoder and
    head there are, yet nothing is calculated. The model stays as it is.

    FLOPs are those of convolutions and matrix products, as ``torch.utils.flop_counter`` counts them: a transposed
    convolution at its input's size with its full kernel. Norms, activations and interpolation are left out.

    Args:
        model: The network.
        size: (height, width) of the image.

    Raises:
        ImageError: If the encoder doesn't take such an image.

    Example:
        >>> inspected = inspect_model(UNet("resnet18", classes=2), (251, 333))
        >>> stage = inspected.stages[2]
        >>> stage.upsampling.source, stage.upsampling.wanted, stage.upsampling.output_padding
        ((32, 42), (63, 84), (-1, 0))
    """
    height, width = size
    copied = meta_copy(model)
    upsamplings: dict[str, Upsampling] = {}
    features: list[Tensor] = []
    modules: dict[str, nn.Module] = dict(copied.named_modules())
    for name, module in modules.items():
        if isinstance(module, Aligned):
            module.register_forward_hook(_recorder(upsamplings, name))
    copied.encoder.register_forward_hook(lambda _module, _image, output: features.extend(output))
    image = torch.empty(1, model.in_channels, height, width, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits = copied(image, all_logits=True)
    counts = counter.get_flop_counts()
    classes: int = logits[0].shape[1]

    def flops(name: str) -> int:
        prefix = f"{type(copied).__name__}.{name}"
        return sum(counts[prefix].values()) if prefix in counts else 0  # a part without any is not listed

    def head(name: str, path: str, module: nn.Module) -> HeadRow:
        inner = [upsamplings[key] for key in upsamplings if key == path or key.startswith(f"{path}.")]
        return HeadRow(name, inner[0] if inner else None, classes, _parameters(module), flops(path))

    decoder = copied.decoder
    rows = []
    for i, blocks in enumerate(_stage_blocks(copied)):
        rows.append(
            StageRow(
                upsampling=upsamplings[f"{next(iter(blocks))}.upsample"],
                nodes=len(blocks),
                skip_channels=decoder.stages.skip_channels[i],
                out_channels=decoder.stage_channels[i],
                parameters=sum(map(_parameters, blocks.values())),
                flops=sum(map(flops, blocks)),
            )
        )
    geometry = encoder_geometry(
        model.encoder, model.encoder_name, depth=model.encoder_depth, in_channels=model.in_channels
    )
    auxiliary = [
        head(f"auxiliary head {i}", f"auxiliary_heads.{i}", module) for i, module in enumerate(copied.auxiliary_heads)
    ]
    return Inspection(
        size=(height, width),
        encoder=EncoderRow(
            name=model.encoder_name,
            depth=model.encoder_depth,
            min_size=model.min_size,
            padded_to=geometry.padded_to,
            strides=tuple(geometry.strides),
            sizes=tuple((feature.shape[-2], feature.shape[-1]) for feature in features),
            channels=tuple(geometry.channels),
            parameters=_parameters(copied.encoder),
            flops=flops("encoder"),
        ),
        stages=tuple(rows),
        head=head("head", "head", copied.head),
        auxiliary_heads=tuple(auxiliary),
        parameters=_parameters(copied),
        flops=counter.get_total_flops() - sum(row.flops for row in auxiliary),
    )


def _recorder(upsamplings: dict[str, Upsampling], name: str) -> Any:
    """A forward hook, which torch types as taking anything."""

    def record(module: Aligned, args: tuple[Tensor, ...], output: Tensor) -> None:
        source, wanted = ((x.shape[-2], x.shape[-1]) for x in (args[0], output))
        axes = list(zip(source, wanted, module.axes, strict=False))  # interpolation has none
        padding = [signed_output_padding(n, side, *axis) for n, side, axis in axes]
        rows = [bias_only_rows(n, side, *axis) for n, side, axis in axes]
        upsamplings[name] = Upsampling(
            label=module.label,
            source=source,
            wanted=wanted,
            rounding=module.rounding,
            axes=tuple(module.axes),
            output_padding=(padding[0], padding[1]) if axes else None,
            bias_only=(rows[0], rows[1]) if axes else None,
        )

    return record


def _stage_blocks(model: UNet) -> list[dict[str, nn.Module]]:
    """The blocks of each stage of the decoder by their full names, deepest first.

    A decoder is one list of stages; a stage is a block, or a list of them.
    """
    ((decoder_name, stages),) = model.decoder.named_children()
    found: list[dict[str, nn.Module]] = []
    for i, stage in stages.named_children():
        name = f"decoder.{decoder_name}.{i}"
        nodes = stage.named_children() if isinstance(stage, nn.ModuleList) else None
        found.append({name: stage} if nodes is None else {f"{name}.{j}": node for j, node in nodes})
    return found


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
