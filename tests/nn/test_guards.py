"""What a user is warned of when a layer or a decoder is built: once, with a setting that avoids it."""

import warnings

import pytest

from unetseg.nn import AlignedConvTranspose2d, BlurredConvTranspose2d, PixelShuffleConv2d, UNetDecoder, build_upsample


@pytest.mark.parametrize(
    ("rounding", "upsample", "message"),
    [
        ("up", {"kernel_size": 3}, r"stages \[0, 1\].*checkerboard; upsample.kernel_size 4, or method blurred"),
        ("any", {"kernel_size": [4, 5]}, r"stages \[1\].*checkerboard"),
        ("down", {"kernel_size": 2}, r"stages \[0, 1\].* last rows or columns .*; upsample.kernel_size 4 leaves none"),
        ("any", {"kernel_size": [4, 2]}, r"stages \[1\].* last rows or columns"),
        ("up", {"dilation": 2}, r"stages \[0, 1\].* all over the map .*; upsample.dilation 1 leaves none"),
    ],
)
def test_a_decoder_warns_once_and_names_the_stages(rounding: str, upsample: dict, message: str) -> None:
    with pytest.warns(UserWarning, match=message) as caught:
        UNetDecoder((3, 8, 8), (8, 4), rounding=rounding, upsample=upsample)
    assert len(caught) == 1


def test_two_faults_are_one_warning() -> None:
    with pytest.warns(UserWarning, match=r"stages \[0\].*checkerboard.*stages \[1\].*last rows") as caught:
        UNetDecoder((3, 8, 8), (8, 4), upsample={"kernel_size": [3, 2]})
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("kernel_size", "dilation", "message"),
    [
        (3, 1, r"AlignedConvTranspose2d: neighbouring pixels .* checkerboard; kernel_size 4, or"),
        (2, 1, r"AlignedConvTranspose2d: at some sizes .*; kernel_size 4 leaves none"),
        (4, 2, r"AlignedConvTranspose2d: pixels all over the map .*; dilation 1 leaves none"),
    ],
)
def test_a_layer_alone_warns_too(kernel_size: int, dilation: int, message: str) -> None:
    with pytest.warns(UserWarning, match=message) as caught:
        AlignedConvTranspose2d(4, 4, kernel_size, stride=2, dilation=dilation)
    assert len(caught) == 1


def test_a_pixel_shuffle_names_its_own_kernel() -> None:
    with pytest.warns(UserWarning, match=r"PixelShuffleConv2d: at some sizes .*; kernel_size 3 leaves none"):
        PixelShuffleConv2d(4, 4, kernel_size=1)


def test_the_kernel_that_a_warning_names_is_not_warned_of() -> None:
    """A stage of stride 4 wants more than twice its stride."""
    with pytest.warns(UserWarning, match=r"stages \[1\].*upsample.kernel_size 12 leaves none"):
        UNetDecoder((3, 8, 8), (8, 4), encoder_strides=(1, 4, 8), upsample={"kernel_size": 4})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        UNetDecoder((3, 8, 8), (8, 4), encoder_strides=(1, 4, 8), upsample={"kernel_size": [4, 12]})


@pytest.mark.parametrize(("rounding", "kernel_size"), [("up", 2), ("up", 4), ("down", 4), ("any", 4), ("any", 6)])
@pytest.mark.parametrize("method", ["conv_transpose", "blurred_conv_transpose"])
def test_even_kernels_that_fill_every_pixel_are_not_warned_of(rounding: str, kernel_size: int, method: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        upsample = {"kernel_size": kernel_size, "method": method}
        UNetDecoder((3, 8, 8), (8, 4), rounding=rounding, upsample=upsample)


@pytest.mark.parametrize(("kernel_size", "dilation"), [(2, 1), (3, 1), (3, 2), (5, 1)])
def test_a_blur_leaves_nothing_to_warn_of(kernel_size: int, dilation: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BlurredConvTranspose2d(4, 4, kernel_size, stride=2, dilation=dilation)


@pytest.mark.parametrize("method", ["conv_transpose", "blurred_conv_transpose", "pixel_shuffle", "nearest", "bilinear"])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("rounding", ["up", "down", "any"])
def test_the_default_kernels_need_no_warning(method: str, stride: int, rounding: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_upsample(4, 4, method=method, stride=stride, rounding=rounding)


def test_unlike_layers_get_a_kernel_each() -> None:
    upsample = {"method": ["pixel_shuffle", "conv_transpose"], "kernel_size": [1, 2]}
    with pytest.warns(UserWarning, match=r"upsample.kernel_size \[3, 4\] there, in this order leaves none"):
        UNetDecoder((3, 8, 8), (8, 4), upsample=upsample)
    with pytest.warns(UserWarning, match=r"kernel_size \(6, 8\), or"):
        AlignedConvTranspose2d(4, 4, 4, stride=(3, 4), rounding="up")
