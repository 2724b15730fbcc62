"""Encoders of segmentation-models-pytorch, timm's included: built, probed and given weights here only."""

from unetseg.encoders.build import build_encoder
from unetseg.encoders.geometry import EncoderGeometry, encoder_geometry
from unetseg.encoders.padded import PaddedEncoder
from unetseg.encoders.weights import load_encoder_weights, normalization

__all__ = [
    "EncoderGeometry",
    "PaddedEncoder",
    "build_encoder",
    "encoder_geometry",
    "load_encoder_weights",
    "normalization",
]
