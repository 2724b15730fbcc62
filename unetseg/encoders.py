"""Encoders of segmentation-models-pytorch, timm's included: built, probed and given weights here only."""

import copy
import dataclasses
import difflib
import functools
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from unetseg.errors import EncoderError
from unetseg.geometry import Rounding, classify_rounding, skip_sizes

__all__ = ["EncoderGeometry", "build_encoder", "encoder_geometry", "load_encoder_weights", "normalization"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# 32 consecutive sides: every stage down to stride 32 meets even and odd ones.
_PROBE_SIDES = range(97, 129)
# for encoders that take only some sizes (windows, fixed position embeddings)
_FALLBACK_SIDES = (128, 192, 224, 256, 384, 448, 512)


@dataclasses.dataclass(frozen=True)
class EncoderGeometry:
    """What an encoder does to sizes.

    Attributes:
        channels: Channels of its feature maps, full resolution first; 0 for the image itself, and for a map
            without content: neither is a skip.
        strides: Stride of each against the image.
        rounding: How it rounds from each map to the next deeper one, deepest first.
        min_size: Least side of a square image that it takes, in pixels; 1 where known_sizes tells more.
        known_sizes: Sides of square images that it takes, if it refused some that were tried; else empty.
        unused: Names of parameters that no feature map depends on, as those beyond a smaller depth.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    rounding: tuple[Rounding, ...]
    min_size: int
    known_sizes: tuple[int, ...]
    unused: tuple[str, ...]


def build_encoder(name: str, *, depth: int = 5, in_channels: int = 3, weights: str | None = None) -> nn.Module:
    """Build an encoder: an image (N, in_channels, H, W) to a list of depth + 1 feature maps, full size first.

    Args:
        name: A name of segmentation-models-pytorch, such as "resnet34", or a timm name after "tu-".
        depth: Number of downsampling stages, 3 to 5 for most encoders.
        in_channels: Channels of the image.
        weights: None for random ones, a name such as "imagenet" (downloaded), or the path of a local file.

    Raises:
        EncoderError: If the encoder, its depth or its weights don't exist.

    Source: segmentation_models_pytorch.encoders.get_encoder.
    """
    _check_name(name)
    try:
        encoder: nn.Module = smp.encoders.get_encoder(name, in_channels=in_channels, depth=depth, weights=None)
    except Exception as error:  # timm and smp raise whatever they meet first
        raise EncoderError(
            f"encoder {name!r} can't be built with depth {depth}: {_first_line(error)} Another depth (3 to 5), or an "
            f"encoder that gives feature maps at several strides, may do."
        ) from error
    if weights is not None:
        load_encoder_weights(encoder, name, weights, depth=depth, in_channels=in_channels)
    return encoder


def _check_name(name: str) -> None:
    native = smp.encoders.get_encoder_names()
    # a timm name may carry the tag of its weights after a dot
    if name in native or (name.startswith("tu-") and timm.is_model(name[3:].split(".")[0])):
        return
    known = [*native, *(f"tu-{timm_name}" for timm_name in timm.list_models())]
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else "For example: resnet34, mobilenet_v2, tu-convnext_tiny."
    raise EncoderError(f"encoder {name!r} doesn't exist. {hint}")


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text if text.endswith(".") else f"{text}."


def load_encoder_weights(encoder: nn.Module, name: str, weights: str, *, depth: int = 5, in_channels: int = 3) -> None:
    """Put pretrained weights into an encoder, in place.

    Args:
        encoder: What :func:`build_encoder` built under the same name, depth and in_channels.
        name: Its name.
        weights: A name such as "imagenet", which is downloaded, or the path of a local file: a state dict of
            the encoder, of torchvision or timm, or a whole checkpoint that holds one.
        depth: The encoder's depth.
        in_channels: The encoder's image channels.

    Raises:
        EncoderError: If the weights don't exist, can't be downloaded or aren't this encoder's.
    """
    path = Path(weights)
    if path.is_file():
        _load_file(encoder, name, path)
        return
    if path.suffix or len(path.parts) > 1:
        raise EncoderError(f"encoder_weights: there is no file {weights}.")
    if name.startswith("tu-") and not (weights == "imagenet" and timm.is_model_pretrained(name[3:])):
        raise EncoderError(
            f"encoder_weights {weights!r} don't exist for {name!r}: timm's encoders have the weights that their name "
            f"stands for, called imagenet here, or none. Give imagenet, or the path of a local file."
        )
    try:
        pretrained = smp.encoders.get_encoder(
            name, in_channels=in_channels, depth=depth, weights=True if name.startswith("tu-") else weights
        )
    except (KeyError, ValueError) as error:
        raise EncoderError(f"encoder_weights {weights!r} don't exist for {name!r}: {_first_line(error)}") from error
    except Exception as error:  # network trouble comes in the classes of several libraries
        raise EncoderError(
            f"encoder_weights {weights!r} of {name!r} could not be downloaded: {_first_line(error)} Go online once, "
            f"give the path of a local file, or leave encoder_weights away to start from random weights."
        ) from error
    # unbound: encoders override load_state_dict and drop keys from the dict that they're given
    nn.Module.load_state_dict(encoder, pretrained.state_dict())


def _load_file(encoder: nn.Module, name: str, path: Path) -> None:
    state = _read_state_dict(path)
    own = encoder.state_dict()
    candidates = [_without_prefix(state, prefix) for prefix in ("", "encoder.", "model.encoder.", "model.", "module.")]
    if name.startswith("tu-"):
        # timm's own names; its feature extractors rename "stages.0" to "stages_0" and sit under "model."
        flattened = {key: key.replace(".", "_", 1) if key.split(".")[0] in _FLATTENED else key for key in state}
        candidates += [{f"model.{key}": value for key, value in state.items()}]
        candidates += [{f"model.{flattened[key]}": value for key, value in state.items()}]
    fits = [{key: value for key, value in candidate.items() if key in own} for candidate in candidates]
    best = max(fits, key=len)
    missing = [key for key in own if key not in best and not key.endswith("num_batches_tracked")]
    wrong = [key for key, value in best.items() if value.shape != own[key].shape]
    if missing or wrong:
        first = missing[0] if missing else f"{wrong[0]} of shape {tuple(best[wrong[0]].shape)}"
        raise EncoderError(
            f"encoder_weights: {path} doesn't fit encoder {name!r}: {len(missing)} of {len(own)} tensors are missing "
            f"and {len(wrong)} have another shape (first: {first}). Is it another encoder's file?"
        )
    nn.Module.load_state_dict(encoder, own | best)


_FLATTENED = ("stem", "stages", "blocks", "layers", "features")


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # comes with timm

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything from pickle's errors to RuntimeError
        raise EncoderError(f"encoder_weights: {path} can't be read as weights: {_first_line(error)}") from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise EncoderError(f"encoder_weights: {path} holds no state dict.")
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def normalization(name: str, weights: str | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, of images in [0, 1], that the encoder's published weights expect.

    segmentation-models-pytorch keeps these beside the weights on a model hub; they stand here so that building a
    model needs no network. timm's are part of timm.

    Example:
        >>> normalization("resnet34")
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    """
    if name.startswith("tu-") and (published := timm.get_pretrained_cfg(name[3:], allow_unregistered=True)):
        return tuple(published.mean), tuple(published.std)
    if weights == "advprop" or name.startswith(_HALF_NORMALIZED):
        return (0.5,) * 3, (0.5,) * 3
    if name.startswith("dpn"):
        return (124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3
    return IMAGENET_MEAN, IMAGENET_STD


_HALF_NORMALIZED = ("inception", "xception", "timm-tf_efficientnet_lite")


def encoder_geometry(encoder: nn.Module, name: str, *, depth: int = 5, in_channels: int = 3) -> EncoderGeometry:
    """Probe an encoder's channels, strides, rounding and least size by running it on the meta device.

    Rounding is a fact of each stage, not of a family of encoders, so it is measured. No arithmetic is done: the
    meta device computes shapes only. Results are kept for each name, depth and in_channels.

    Raises:
        EncoderError: If the encoder takes none of the sizes that were tried.
    """
    key = (name, depth, in_channels)
    if key not in _geometries:
        _geometries[key] = _probe(encoder, name, in_channels)
    return _geometries[key]


_geometries: dict[tuple[str, int, int], EncoderGeometry] = {}


def _probe(encoder: nn.Module, name: str, in_channels: int) -> EncoderGeometry:
    # a copy, because building some encoders directly on the meta device fails
    copied = copy.deepcopy(encoder).eval().to("meta")
    run = functools.partial(_feature_shapes, copied, in_channels)
    shapes = [run(side, side + 1) for side in _PROBE_SIDES[::2]]
    known_sizes: tuple[int, ...] = ()
    if None in shapes:
        known_sizes = tuple(side for side in _FALLBACK_SIDES if run(side, side) is not None)
        shapes += [run(side, side) for side in known_sizes]
    seen = [shape for shape in shapes if shape is not None]
    if not seen:
        raise EncoderError(
            f"encoder {name!r} took none of the image sizes {_PROBE_SIDES.start}..{_FALLBACK_SIDES[-1]} that were "
            f"tried; it can't serve a UNet. For example resnet34, mobilenet_v2 or tu-convnext_tiny can."
        )
    channels = tuple(channel for channel, _, _ in seen[-1])
    largest = seen[-1][0][1]
    strides = tuple(2 ** max(0, round(math.log2(largest / side))) for _, side, _ in seen[-1])
    rounding: list[Rounding] = []
    for high, low in _levels_with_grid(channels):
        ratio = strides[low] // strides[high]
        sides = {(shape[low][axis], shape[high][axis]) for shape in seen for axis in (1, 2)}
        if misfits := [pair for pair in sides if pair[1] not in skip_sizes(pair[0], ratio)]:
            raise EncoderError(
                f"encoder {name!r} has feature maps of {max(misfits)[1]} and {max(misfits)[0]} pixels, which fit no "
                f"stride: its convolutions are not padded. Use one whose maps halve, such as resnet34 or inceptionv4."
            )
        # stages that share a map without grid share its rounding; "down" holds only over both of them
        over_all = classify_rounding(sides, ratio)
        rounding += ["any" if over_all == "down" and low - high > 1 else over_all] * (low - high)
    return EncoderGeometry(
        channels=channels,
        strides=strides,
        rounding=tuple(rounding[::-1]),
        min_size=1 if known_sizes else _least_side(run, largest),
        known_sizes=known_sizes,
        unused=_unused_parameters(copied, in_channels, largest),
    )


def _unused_parameters(encoder: nn.Module, in_channels: int, side: int) -> tuple[str, ...]:
    """Parameters without a gradient; distributed training stops at them."""
    with torch.enable_grad():
        features = encoder(torch.empty(2, in_channels, side, side, device="meta"))
        torch.stack([feature.sum() for feature in features if feature.requires_grad]).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return tuple(name for name, parameter in encoder.named_parameters() if parameter.grad is None)


def _levels_with_grid(channels: tuple[int, ...]) -> list[tuple[int, int]]:
    """Neighbouring levels, leaving out those without content; the image's own is always one."""
    levels = [i for i, channel in enumerate(channels) if channel or i == 0]
    return list(pairwise(levels))


def _feature_shapes(encoder: nn.Module, in_channels: int, height: int, width: int) -> list[tuple[int, int, int]] | None:
    """(channels, height, width) of each feature map, full resolution first; None if it refuses the size."""
    image = torch.empty(2, in_channels, height, width, device="meta")
    try:
        with torch.no_grad():
            features = encoder(image)
    except Exception:  # encoders refuse sizes with AssertionError, RuntimeError, ValueError and others
        return None
    shapes = [(0 if f is image else f.shape[1], f.shape[2], f.shape[3]) for f in features]
    return shapes if all(height and width for _, height, width in shapes) else None


def _least_side(run: Any, accepted: int) -> int:
    low, high = 1, accepted  # bisection: what an encoder takes at a side, it takes above
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if run(middle, middle) else (middle + 1, high)
    return low
