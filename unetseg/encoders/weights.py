"""Pretrained weights of encoders: published or from a local file, and the normalisation that they expect."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from unetseg.encoders.padded import PaddedEncoder
from unetseg.errors import EncoderError, first_line

__all__ = ["load_encoder_weights", "normalization"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def load_encoder_weights(encoder: nn.Module, name: str, weights: str, *, depth: int = 5, in_channels: int = 3) -> None:
    """Put pretrained weights into an encoder, in place.

    Args:
        encoder: What :func:`build_encoder` built under the same name, depth and in_channels.
        name: Its name.
        weights: A name such as "imagenet", which is downloaded, or the path of a local file: a state dict of
            the encoder, of torchvision or timm, or a whole checkpoint that holds one.
        depth: The encoder's depth.
        in_channels: The encoder's image channels. Weights of a first layer for RGB are adapted to others: summed for
            one channel, else repeated and scaled.

    Raises:
        EncoderError: If the weights don't exist, can't be downloaded or aren't this encoder's.
    """
    if isinstance(encoder, PaddedEncoder):
        encoder = encoder.encoder
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
        raise EncoderError(f"encoder_weights {weights!r} don't exist for {name!r}: {first_line(error)}") from error
    except Exception as error:  # network trouble comes in the classes of several libraries
        raise EncoderError(
            f"encoder_weights {weights!r} of {name!r} could not be downloaded: {first_line(error)} Go online once, "
            f"give the path of a local file, or leave encoder_weights away to start from random weights."
        ) from error
    # unbound: encoders override load_state_dict and drop keys from the dict that they're given
    nn.Module.load_state_dict(encoder, pretrained.state_dict())


def _load_file(encoder: nn.Module, name: str, path: Path) -> None:
    state = _read_state_dict(path)
    own = encoder.state_dict()
    candidates = [_without_prefix(state, prefix) for prefix in _PREFIXES]
    if name.startswith("tu-"):
        # timm's own names; its feature extractors rename "stages.0" to "stages_0" and sit under "model."
        flattened = {key: key.replace(".", "_", 1) if key.split(".")[0] in _FLATTENED else key for key in state}
        candidates += [{f"model.{key}": value for key, value in state.items()}]
        candidates += [{f"model.{flattened[key]}": value for key, value in state.items()}]
    fits = [{key: value for key, value in candidate.items() if key in own} for candidate in candidates]
    best = _adapted(max(fits, key=len), own)
    missing = [key for key in own if key not in best and not key.endswith("num_batches_tracked")]
    wrong = [key for key, value in best.items() if value.shape != own[key].shape]
    if missing or wrong:
        first = missing[0] if missing else f"{wrong[0]} of shape {tuple(best[wrong[0]].shape)}"
        raise EncoderError(
            f"encoder_weights: {path} doesn't fit encoder {name!r}: {len(missing)} of {len(own)} tensors are missing "
            f"and {len(wrong)} have another shape (first: {first}). Is it another encoder's file?"
        )
    nn.Module.load_state_dict(encoder, own | best)


def _adapted(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fit the first convolution's weights to another number of image channels, as timm and smp do by name."""
    adapted = dict(state)
    for key, value in state.items():
        saved, wanted = list(value.shape), list(own[key].shape)
        same_but_channels = saved[:1] + saved[2:] == wanted[:1] + wanted[2:]
        if len(saved) == 4 and saved[1] == 3 and wanted[1] != 3 and same_but_channels:
            adapted[key] = adapt_input_conv(wanted[1], value)
    return adapted


# of the encoder in files of this project (wrapped or not), of segmentation-models-pytorch, timm and DataParallel
_PREFIXES = ("", "encoder.", "model.encoder.", "encoder.encoder.", "model.encoder.encoder.", "model.", "module.")
_FLATTENED = ("stem", "stages", "blocks", "layers", "features")


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # comes with timm

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises anything from pickle's errors to RuntimeError
        raise EncoderError(f"encoder_weights: {path} can't be read as weights: {first_line(error)}") from error
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
