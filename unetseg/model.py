"""UNet: normalisation, encoder, decoder, head."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from unetseg.config import BlockOptions, DecoderName, HeadName, UpsampleOptions, check_choice
from unetseg.encoders import build_encoder, encoder_geometry, load_encoder_weights, normalization
from unetseg.errors import CheckpointError, EncoderError, ImageError, OptionError
from unetseg.nn import AuxiliaryHead, SegmentationHead, UNetDecoder, UNetPlusPlusDecoder, build_upsample
from unetseg.nn.stages import check_reach, stage_options
from unetseg.nn.upsample.guards import warn_of_artifacts

__all__ = ["UNet"]

DECODER_CHANNELS = (256, 128, 64, 32, 16)
DECODERS: dict[str, type[UNetDecoder] | type[UNetPlusPlusDecoder]] = {
    "unet": UNetDecoder,
    "unetplusplus": UNetPlusPlusDecoder,
}


class UNet(nn.Module, PyTorchModelHubMixin, library_name="unetseg", pipeline_tag="image-segmentation"):
    """A UNet with any encoder, whose logits have the image's size at any size.

    The model owns its preprocessing: it takes images as they are and normalises them itself, so that training,
    inference and an exported graph can't differ in it.

    ``save_pretrained(folder)`` and ``UNet.from_pretrained(folder)`` write and read ``model.safetensors`` and
    ``config.json``; nothing is downloaded when a folder is given.

    Args:
        encoder: Encoder's name in segmentation-models-pytorch, or a timm name after "tu-".
        classes: Number of classes, background included.
        encoder_weights: None for random ones, a name such as "imagenet", or the path of a local file.
        encoder_depth: Number of the encoder's downsampling stages.
        in_channels: Channels of the image.
        decoder: "unet", or "unetplusplus" with dense nodes between encoder and decoder.
        decoder_channels: Channels after each decoder stage, deepest first. None: 256, 128, 64, 32, 16, of which
            shallower encoders leave out the first; with ``head="upsample"``, the last is left out.
        upsample: How to upsample, an ``UpsampleOptions`` or a mapping of its fields.
        block: What decoder stages do besides, a ``BlockOptions`` or a mapping of its fields.
        head: "conv", a 3x3 convolution at full resolution; or "upsample": the last upsampling gives the logits itself,
            from stride 2, so that no stage runs at full resolution. Its options are those of the last stage in
            ``upsample``, with one group and a bias.
        deep_supervision: Whether every decoder stage but the last has logits of its own, for the loss, see
            :meth:`forward`.
        mean: Mean of each image channel, of values in [0, 1]. None: what the encoder's published weights expect.
        std: Standard deviation of each image channel, likewise.

    Shape:
        - image: (N, in_channels, H, W), uint8 in 0..255 or floating point in [0, 1]
        - output: logits (N, classes, H, W)

    Raises:
        EncoderError: If the encoder or its weights don't exist.
        AlignmentError: If a kernel can't reach the encoder's skips.
        OptionError: If an option has a value that it doesn't take.
        ImageError: In forward, if the image is smaller than the encoder takes.

    Example:
        >>> model = UNet("resnet18", classes=3)
        >>> model(torch.zeros(1, 3, 65, 47)).shape
        torch.Size([1, 3, 65, 47])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: str = "resnet18",
        *,
        classes: int,
        encoder_weights: str | None = None,
        encoder_depth: int = 5,
        in_channels: int = 3,
        decoder: DecoderName = "unet",
        decoder_channels: Sequence[int] | None = None,
        upsample: UpsampleOptions | Mapping[str, Any] | None = None,
        block: BlockOptions | Mapping[str, Any] | None = None,
        head: HeadName = "conv",
        deep_supervision: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.encoder_name, self.encoder_depth, self.in_channels = encoder, encoder_depth, in_channels
        default_mean, default_std = normalization(encoder, encoder_weights)
        mean = self._per_channel("mean", mean, default_mean)
        std = self._per_channel("std", std, default_std)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.encoder = build_encoder(encoder, depth=encoder_depth, in_channels=in_channels, weights=encoder_weights)
        geometry = encoder_geometry(self.encoder, encoder, depth=encoder_depth, in_channels=in_channels)
        self.min_size, self.total_stride = geometry.min_size, geometry.strides[-1]
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad_(name not in geometry.unused)
        check_choice("decoder", decoder, DecoderName)
        check_choice("head", head, HeadName)
        upsample, block = UpsampleOptions.of(upsample), BlockOptions.of(block)
        stages = len(geometry.strides) - 1
        blocks = stages if head == "conv" else stages - 1
        if blocks == 0:
            raise OptionError("head 'upsample' takes the only decoder stage; use head 'conv', or a larger depth.")
        self.decoder: UNetDecoder | UNetPlusPlusDecoder = DECODERS[decoder](
            geometry.channels,
            DECODER_CHANNELS[-stages:][:blocks] if decoder_channels is None else decoder_channels,
            encoder_strides=geometry.strides,
            rounding=geometry.rounding[:blocks],
            upsample=upsample.first(blocks, stages),
            block=block,
            image_channels=0,  # the geometry has marked the image as no skip already
            output_stride=1 if head == "conv" else geometry.strides[1],
        )
        self.head: nn.Module
        if head == "conv":
            self.head = SegmentationHead(self.decoder.out_channels, classes)
        else:
            last = stage_options(upsample, None, geometry.rounding, geometry.strides[::-1])[-1]
            self.head = self._upsampling_head(classes, {name: last[name] for name in (*upsample.to_dict(), "rounding")})
        self.auxiliary_heads = nn.ModuleList()
        if deep_supervision:
            for i in range(blocks - 1):
                rounding = set(geometry.rounding[i + 1 :])
                self.auxiliary_heads.append(
                    AuxiliaryHead(
                        self.decoder.stage_channels[i],
                        classes,
                        stride=self.decoder.stage_strides[i],
                        rounding=rounding.pop() if len(rounding) == 1 else "any",
                        label=f"auxiliary head of decoder stage {i}",
                    )
                )
        self.config: dict[str, Any] = {
            "encoder": encoder,
            "classes": int(classes),
            "encoder_weights": None,  # what is saved holds the weights: loading it must not fetch others
            "encoder_depth": int(encoder_depth),
            "in_channels": int(in_channels),
            "decoder": decoder,
            "decoder_channels": [int(channels) for channels in self.decoder.stage_channels],
            "upsample": upsample.to_dict(),
            "block": block.to_dict(),
            "head": head,
            "deep_supervision": bool(deep_supervision),
            "mean": mean,
            "std": std,
        }

    def _upsampling_head(self, classes: int, options: dict[str, Any]) -> nn.Module:
        # one group, as the classes needn't divide; a bias, as no norm follows
        options |= {"groups": 1, "bias": True, "label": "head"}
        head = build_upsample(self.decoder.out_channels, classes, **options)
        check_reach([head])
        warn_of_artifacts([head])
        return head

    def save_pretrained(self, save_directory: str | Path, *, config: Any = None, **options: Any) -> str | None:
        """Write ``model.safetensors``, ``config.json`` and a model card to a folder.

        Args:
            save_directory: The folder; made if it isn't there.
            config: Not needed: the model knows its own.
            options: Those of huggingface_hub's ``ModelHubMixin.save_pretrained``, such as ``push_to_hub``.
        """
        return super().save_pretrained(save_directory, config=config or self.config, **options)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Read what ``save_pretrained`` wrote, in eval mode.

        Args:
            pretrained_model_name_or_path: A folder, from which it is read without a download; or a name on the hub.
            options: Those of huggingface_hub's ``ModelHubMixin.from_pretrained``, such as ``revision``.

        Raises:
            CheckpointError: If a folder lacks one of the files, or its weights don't fit its config.
        """
        folder = Path(pretrained_model_name_or_path)
        missing = [name for name in ("config.json", "model.safetensors") if not (folder / name).is_file()]
        if folder.is_dir() and missing:
            raise CheckpointError(
                f"{folder} holds no {' and no '.join(missing)}; give a folder that UNet.save_pretrained wrote. What "
                f"`fit` writes is read by Predictor.from_checkpoint."
            )
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **{"strict": True} | options)
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            reason = [line.strip() for line in str(error).splitlines() if line.strip()][:2]
            raise CheckpointError(
                f"{folder}: the weights don't fit the network of config.json: {' '.join(reason)}"
            ) from error

    def _per_channel(self, name: str, values: Sequence[float] | None, default: Sequence[float]) -> list[float]:
        if values is None:
            # repeated for images with more channels than the published weights saw
            values = [default[i % len(default)] for i in range(self.in_channels)]
        if len(values) != self.in_channels:
            raise EncoderError(f"{name} has {len(values)} values; the image has in_channels={self.in_channels}.")
        return [float(value) for value in values]

    def load_encoder_weights(self, weights: str) -> None:
        """Put pretrained weights into the encoder: a name such as "imagenet", or the path of a local file."""
        load_encoder_weights(
            self.encoder, self.encoder_name, weights, depth=self.encoder_depth, in_channels=self.in_channels
        )

    def normalize(self, image: Tensor) -> Tensor:
        """Bring an image to the scale that the encoder expects.

        Args:
            image: (N, in_channels, H, W), uint8 in 0..255 or floating point in [0, 1].

        Returns:
            (N, in_channels, H, W) in the parameters' dtype, about zero mean and unit variance.
        """
        if not image.is_floating_point():
            image = image.to(self.mean.dtype) / 255
        # a network of half precision may keep its mean and std in float32
        dtype = next(self.encoder.parameters()).dtype
        return ((image - self.mean) / self.std).to(dtype)

    def forward(self, image: Tensor, all_logits: bool = False) -> Tensor | list[Tensor]:
        """Logits of an image.

        Args:
            image: (N, in_channels, H, W), uint8 in 0..255 or floating point in [0, 1].
            all_logits: Whether to return a list: the logits and, with deep supervision, for the loss, those of the
                other decoder stages from the shallowest to the deepest.

        Returns:
            (N, classes, H, W), or a list of them.
        """
        size = image.shape[-2:]
        maps = self.decoder.forward_stages(self._features(image), size=size)  # (N, stage_channels[i], ~H, ~W)
        logits: Tensor = self.head(maps[-1], size=size)  # (N, classes, H, W)
        if not all_logits:
            return logits
        auxiliary = [head(decoded, size=size) for head, decoded in zip(self.auxiliary_heads, maps, strict=False)]
        return [logits, *reversed(auxiliary)]

    def _features(self, image: Tensor) -> list[Tensor]:
        """Feature maps (N, C_i, ~H / stride_i, ~W / stride_i), full size first, of an image as ``forward`` takes it."""
        height, width = image.shape[-2:]
        if not torch.compiler.is_exporting() and min(height, width) < self.min_size:
            raise ImageError(
                f"an image of {width}x{height} pixels is too small for encoder {self.encoder_name!r}, which takes "
                f"{self.min_size}x{self.min_size} and more. Use larger images, or a smaller encoder_depth."
            )
        image = self.normalize(image)
        try:
            return self.encoder(image)  # type: ignore[no-any-return]  # torch types a module's call as Any
        except ValueError as error:
            if self.training and "more than 1 value per channel" in str(error):
                raise ImageError(
                    f"encoder {self.encoder_name!r} can't train on a batch of one image of {width}x{height} pixels: "
                    f"its deepest map is a single pixel, which batch norm can't normalise. Use a larger batch or "
                    f"larger images, or a smaller encoder_depth."
                ) from error
            raise
