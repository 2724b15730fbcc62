"""Decoder layers in plain PyTorch, usable one by one."""

from unetseg.nn.blocks import ConvNormAct, DecoderBlock
from unetseg.nn.decoder import UNetDecoder
from unetseg.nn.upsample import AlignedConvTranspose2d

__all__ = ["AlignedConvTranspose2d", "ConvNormAct", "DecoderBlock", "UNetDecoder"]
