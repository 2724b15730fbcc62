"""Building encoders by name, such that each takes images of any size or is refused."""

import difflib
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from unetseg.encoders.geometry import AnySize, accepted_sizes
from unetseg.encoders.padded import PaddedEncoder
from unetseg.encoders.weights import load_encoder_weights
from unetseg.errors import EncoderError, first_line

__all__ = ["build_encoder"]

SUGGESTION = "For example resnet34, mobilenet_v2 and tu-convnext_tiny take any from 32 pixels on."


def build_encoder(name: str, *, depth: int = 5, in_channels: int = 3, weights: str | None = None) -> nn.Module:
    """Build an encoder: an image (N, in_channels, H, W) to a list of depth + 1 feature maps, full size first.

    One that takes multiples of a size only comes as a :class:`PaddedEncoder`.

    Args:
        name: A name of segmentation-models-pytorch, such as "resnet34", or a timm name after "tu-".
        depth: Number of downsampling stages, 3 to 5 for most encoders.
        in_channels: Channels of the image.
        weights: None for random ones, a name such as "imagenet" (downloaded), or the path of a local file.

    Raises:
        EncoderError: If the encoder, its depth or its weights don't exist, or it takes a single size of image only. One
            whose maps don't halve is refused by :func:`unetseg.encoders.encoder_geometry`.

    Source: segmentation_models_pytorch.encoders.get_encoder.
    """
    _check_name(name)
    key = (name, depth, in_channels)
    if key in _plans:
        options, any_size = _plans[key]
        encoder = _create(name, depth, in_channels, options)
    else:
        encoder, any_size, options = _plan(name, depth, in_channels)
        _plans[key] = options, any_size
    if weights is not None:
        load_encoder_weights(encoder, name, weights, depth=depth, in_channels=in_channels)
    if any_size.multiple == 1:
        return encoder
    return PaddedEncoder(encoder, multiple=any_size.multiple, strides=any_size.strides)


_plans: dict[tuple[str, int, int], tuple[dict[str, Any], AnySize]] = {}

# what frees timm's encoders with windows from the size that they were trained at
_FREE_SIZE = {"strict_img_size": False}


def _plan(name: str, depth: int, in_channels: int) -> tuple[nn.Module, AnySize, dict[str, Any]]:
    """An encoder, how it comes to take any size, and the options that it was built with."""
    drawn = torch.get_rng_state()
    encoder = _create(name, depth, in_channels, {})
    accepted = accepted_sizes(encoder, in_channels)
    if isinstance(accepted, AnySize):
        return encoder, accepted, {}
    if name.startswith("tu-"):
        torch.set_rng_state(drawn)  # the same weights as when it is built so at once
        try:
            free = _create(name, depth, in_channels, _FREE_SIZE)
        except EncoderError:  # it has no such option
            free = encoder
        if free is not encoder and isinstance(freed := accepted_sizes(free, in_channels), AnySize):
            return free, freed, _FREE_SIZE
    sizes = " or ".join(f"{side}x{side}" for side in accepted)
    raise EncoderError(
        f"encoder {name!r} takes images of {sizes} pixels only, so it can't serve a UNet at other sizes. {SUGGESTION}"
        if sizes
        else f"encoder {name!r} took none of the image sizes that were tried; it can't serve a UNet. {SUGGESTION}"
    )


def _create(name: str, depth: int, in_channels: int, options: dict[str, Any]) -> nn.Module:
    try:
        encoder: nn.Module = smp.encoders.get_encoder(
            name, in_channels=in_channels, depth=depth, weights=None, **options
        )
    except Exception as error:  # timm and smp raise whatever they meet first
        if "downsampling pattern" in str(error):
            raise EncoderError(
                f"encoder {name!r} has no feature maps that halve from stage to stage, as a plain vision transformer "
                f"has none; a UNet needs them. {SUGGESTION}"
            ) from error
        raise EncoderError(
            f"encoder {name!r} can't be built with depth {depth}: {first_line(error)} Another depth (3 to 5), or "
            f"another encoder, may do."
        ) from error
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
