"""Decoder layers in plain PyTorch, usable one by one."""

from unetseg.nn.attention import SCSE, AttentionGate
from unetseg.nn.blocks import ConvNormAct, DecoderBlock
from unetseg.nn.decoder import UNetDecoder
from unetseg.nn.diagnostics import checkerboard_energy, layer_checkerboard_energy
from unetseg.nn.heads import AuxiliaryHead, SegmentationHead
from unetseg.nn.init import balanced_, bilinear_, icnr_, smooth_
from unetseg.nn.norm import LayerNorm2d, NormAct
from unetseg.nn.unetplusplus import UNetPlusPlusDecoder
from unetseg.nn.upsample import (
    AlignedConvTranspose2d,
    BlurredConvTranspose2d,
    InterpolateConv2d,
    PixelShuffleConv2d,
    Upsampling,
    build_upsample,
)

__all__ = [
    "SCSE",
    "AlignedConvTranspose2d",
    "AttentionGate",
    "AuxiliaryHead",
    "BlurredConvTranspose2d",
    "ConvNormAct",
    "DecoderBlock",
    "InterpolateConv2d",
    "LayerNorm2d",
    "NormAct",
    "PixelShuffleConv2d",
    "SegmentationHead",
    "UNetDecoder",
    "UNetPlusPlusDecoder",
    "Upsampling",
    "balanced_",
    "bilinear_",
    "build_upsample",
    "checkerboard_energy",
    "icnr_",
    "layer_checkerboard_energy",
    "smooth_",
]
