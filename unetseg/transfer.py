"""Beginning from a trained network's weights, though it has other classes: what fits is taken over."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unetseg.checkpoint import network_weights, read_checkpoint
from unetseg.config import Mode
from unetseg.decision import num_logits
from unetseg.errors import CheckpointError, OptionError, abridged, first_line
from unetseg.model import UNet

__all__ = ["Transfer", "init_from"]

Shape = tuple[int, ...]

_HEADS = ("head.", "auxiliary_heads.")


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What a network took over from a file.

    Attributes:
        path: The file.
        loaded: Names of the tensors that were taken over.
        partly: Names of those whose logits were taken over for some classes; those of the others are as initialised.
        skipped: Tensors that both have and that weren't taken over, with their shape there and here: the shapes differ,
            or the logits are of other classes.
        missing: Names of tensors that only the network has.
        unexpected: Names of tensors that only the file has.
        classes: Names of the classes whose logits were taken over by name; None where names weren't known.
        other_encoder: Name of the file's encoder, if it is known to be another one.
    """

    path: Path
    loaded: list[str]
    partly: list[str]
    skipped: dict[str, tuple[Shape, Shape]]
    missing: list[str]
    unexpected: list[str]
    classes: list[str] | None
    other_encoder: str | None

    def summary(self) -> str:
        """A line or two for people."""
        total = sum(map(len, (self.loaded, self.partly, self.skipped, self.missing)))
        parts = [f"init_from {self.path}: {len(self.loaded)} of {total} tensors"]
        if self.other_encoder:
            parts.append(f"its encoder is {self.other_encoder}, another than here")
        if self.partly:
            parts.append(f"for some classes: {abridged(self.partly)}")
        if self.classes is not None:
            parts.append(f"logits by name, of {abridged(self.classes, 10) or 'no class'}")
        initialised = [
            f"{name} ({_text(theirs)} there, {_text(ours)} here)" if theirs != ours else f"{name} (of other classes)"
            for name, (theirs, ours) in self.skipped.items()
        ] + [f"{name} (not there)" for name in self.missing]
        if initialised:
            parts.append(f"left as initialised: {abridged(initialised)}")
        if self.unexpected:
            parts.append(f"of no use here: {abridged(self.unexpected)}")
        return "; ".join(parts)

    def __str__(self) -> str:
        """The summary."""
        return self.summary()


@dataclasses.dataclass(frozen=True)
class _File:
    """A trained network, as far as its file describes it."""

    path: Path
    weights: Mapping[str, Tensor]
    encoder: str | None = None
    classes: list[str] | None = None
    mode: Mode | None = None


def init_from(
    model: UNet, path: str | Path, *, classes: Sequence[str] | None = None, mode: Mode = "multiclass"
) -> Transfer:
    """Take over the weights of a trained network that fit: those of the same name and shape.

    That includes the mean and the standard deviation of its images. Logits are taken over by the classes' names where
    both are known: a class that the file doesn't have begins as it was initialised. Where they aren't, logits are
    taken over by position if there are as many.

    Args:
        model: The network; changed in place.
        path: A checkpoint of ``fit``, the only kind of file that names its classes; a folder that
            ``UNet.save_pretrained`` wrote; or a state dict of a ``UNet``, .safetensors or .pth.
        classes: Names of the network's classes, in the order of their mask values; None if unknown.
        mode: What its pixels can be, where its classes are known; no logits are taken over from another mode.

    Returns:
        What was taken over.

    Raises:
        CheckpointError: If there is no such file, it is damaged or of another kind; or if fewer than half of the
            tensors fit, or of the encoder's weights: then nothing is taken over.
        OptionError: If the network has another number of logits than the classes need.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = UNet(classes=2, encoder_depth=2).save_pretrained(folder)
        ...     transfer = init_from(UNet(classes=5, encoder_depth=2), folder)
        >>> sorted(transfer.skipped)
        ['head.bias', 'head.weight']
    """
    if classes is not None and num_logits(len(classes), mode) != model.config["classes"]:
        raise OptionError(
            f"init_from: {len(classes)} classes in mode {mode!r} need {num_logits(len(classes), mode)} logits, but the "
            f"network has {model.config['classes']}. Give the names of its classes, and its mode."
        )
    file = _read(Path(path))
    rows = None if classes is None or file.classes is None else _rows(file, list(classes), mode)
    own = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    fitting = {name: _pairs(model, file, name, tensor, rows) for name, tensor in own.items() if name in file.weights}
    _check_enough(model, file, own, fitting)
    for pairs in fitting.values():
        for ours, theirs in pairs:
            ours.copy_(theirs)
    taken = [name for name, pairs in fitting.items() if pairs]
    in_part = rows is not None and len(rows) < model.config["classes"]
    return Transfer(
        path=file.path,
        loaded=[name for name in taken if not (in_part and name.startswith(_HEADS))],
        partly=[name for name in taken if in_part and name.startswith(_HEADS)],
        skipped={
            name: (tuple(file.weights[name].shape), tuple(own[name].shape))
            for name, pairs in fitting.items()
            if not pairs
        },
        missing=[name for name in own if name not in file.weights],
        unexpected=[name for name in file.weights if name not in own],
        classes=None if rows is None else [name for name in classes or [] if rows and name in (file.classes or [])],
        other_encoder=file.encoder if file.encoder != model.encoder_name else None,
    )


def _read(path: Path) -> _File:
    if path.is_dir():
        if not (path / "model.safetensors").is_file():
            raise CheckpointError(
                f"{path} holds no model.safetensors; give a folder that UNet.save_pretrained wrote, or the best.ckpt "
                f"of a run."
            )
        path /= "model.safetensors"
    if path.suffix not in (".safetensors", ".pth", ".pt") or not path.is_file():
        return _read_checkpoint(path)
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each way in which a file can be broken has a class of its own
        raise CheckpointError(
            f"{path} holds no weights, or is damaged: {first_line(error)[:120]} Give the best.ckpt of a run, or a "
            f"folder that UNet.save_pretrained wrote."
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        return _read_checkpoint(path)
    return _File(path, network_weights(content), encoder=_encoder_beside(path))


def _read_checkpoint(path: Path) -> _File:
    checkpoint = read_checkpoint(path)
    encoder = checkpoint.hyper_parameters["encoder"]
    return _File(path, network_weights(checkpoint.weights), encoder, checkpoint.classes, checkpoint.mode)


def _encoder_beside(path: Path) -> str | None:
    """The encoder's name in the ``config.json`` that ``save_pretrained`` writes beside the weights."""
    try:
        encoder = json.loads(path.with_name("config.json").read_text(encoding="utf-8"))["encoder"]
    except (OSError, ValueError, KeyError, TypeError):  # it only serves what is said
        return None
    return encoder if isinstance(encoder, str) else None


def _rows(file: _File, classes: list[str], mode: Mode) -> list[tuple[int, int]]:
    """Which of the network's logits are which of the file's: pairs (here, there)."""
    theirs = file.classes or []
    if file.mode != mode:
        return []
    if mode == "binary":  # the one logit tells the second class from the first
        return [(0, 0)] if theirs == classes else []
    return [(i, theirs.index(name)) for i, name in enumerate(classes) if name in theirs]


def _pairs(
    model: UNet, file: _File, name: str, ours: Tensor, rows: list[tuple[int, int]] | None
) -> list[tuple[Tensor, Tensor]]:
    """Which parts of a tensor are to be copied, pairs (here, there): the whole, logit by logit, or none."""
    theirs = file.weights[name]
    if rows is None or not name.startswith(_HEADS):
        return [(ours, theirs)] if ours.shape == theirs.shape else []
    # by how layers store their output channels; those of a pixel shuffle are several in a row for each class
    owner, _, kind = name.rpartition(".")
    layer = model.get_submodule(owner)
    axis = 1 if kind == "weight" and isinstance(layer, nn.ConvTranspose2d) and layer.groups == 1 else 0
    here = _by_logit(ours, axis, model.config["classes"])
    there = _by_logit(theirs, axis, num_logits(len(file.classes or []), file.mode or "multiclass"))
    if not here or not there or here[0].shape != there[0].shape:
        return []
    return [(here[i], there[j]) for i, j in rows]


def _by_logit(tensor: Tensor, axis: int, logits: int) -> list[Tensor]:
    """Views of what belongs to each logit; none if the tensor can't be split so."""
    if tensor.ndim <= axis or tensor.shape[axis] % logits:
        return []
    first = tensor.movedim(axis, 0)
    return list(first.view(logits, -1, *first.shape[1:]).unbind())


def _check_enough(
    model: UNet, file: _File, own: Mapping[str, Tensor], fitting: Mapping[str, list[tuple[Tensor, Tensor]]]
) -> None:
    """Refuse the weights of another network, of which a few tensors fit by chance."""
    # batch norm's counts have the same shape everywhere, and so have its scales in encoders of one family
    tensors = [name for name, tensor in own.items() if tensor.ndim]
    weights = [name for name, tensor in own.items() if tensor.ndim > 1 and name.startswith("encoder.")]
    fit, of_encoder = ([name for name in names if fitting.get(name)] for names in (tensors, weights))
    if 2 * len(fit) >= len(tensors) and of_encoder and 2 * len(of_encoder) >= len(weights):
        return
    theirs = f"the file's is {file.encoder!r}" if file.encoder else "the file doesn't name its own"
    raise CheckpointError(
        f"init_from {file.path}: only {len(fit)} of {len(tensors)} tensors fit this network, and {len(of_encoder)} of "
        f"{len(weights)} weights of its encoder. They are probably those of another encoder or decoder: the encoder "
        f"here is {model.encoder_name!r}, {theirs}. Give the --model options that it was trained with."
    )


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "one number"
