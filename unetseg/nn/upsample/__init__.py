"""Layers that upsample to a wanted size: siblings with one interface, ``forward(x, size)``."""

from unetseg.nn.upsample.blurred import BlurredConvTranspose2d
from unetseg.nn.upsample.build import Upsampling, build_upsample
from unetseg.nn.upsample.conv_transpose import AlignedConvTranspose2d
from unetseg.nn.upsample.interpolate import InterpolateConv2d
from unetseg.nn.upsample.pixel_shuffle import PixelShuffleConv2d

__all__ = [
    "AlignedConvTranspose2d",
    "BlurredConvTranspose2d",
    "InterpolateConv2d",
    "PixelShuffleConv2d",
    "Upsampling",
    "build_upsample",
]
