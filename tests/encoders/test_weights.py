"""Weights of encoders: local files, what is wrong with them, and the normalisation that they expect."""

from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from unetseg.encoders import build_encoder, load_encoder_weights, normalization
from unetseg.errors import EncoderError


@pytest.mark.parametrize(
    "wrap", [lambda state: state, lambda state: {"state_dict": {f"encoder.{k}": v for k, v in state.items()}}]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_local_file(tmp_path: Path, wrap: object, suffix: str) -> None:
    torch.manual_seed(1)
    source = build_encoder("resnet18", depth=3)
    path = tmp_path / f"weights{suffix}"
    state = source.state_dict() | {"fc.weight": torch.zeros(3)}  # a classifier that isn't wanted
    if suffix == ".pth":
        torch.save(wrap(state), path)
    else:
        safetensors.torch.save_file(state, path)
    torch.manual_seed(2)
    loaded = build_encoder("resnet18", depth=3, weights=str(path))
    x = torch.randn(1, 3, 33, 35)
    for a, b in zip(source.eval()(x), loaded.eval()(x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["resnet18", "tu-convnext_atto"])
def test_a_first_layer_for_rgb_is_adapted_to_other_channels(tmp_path: Path, name: str) -> None:
    """On grey as one channel, and on RGB twice, the features are those of RGB: nothing has been drawn anew."""
    torch.save(build_encoder(name, depth=4).state_dict(), tmp_path / "rgb.pth")
    rgb, grey, six = (
        build_encoder(name, depth=4, in_channels=channels, weights=str(tmp_path / "rgb.pth")).eval()
        for channels in (3, 1, 6)
    )
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(six(torch.cat([x, x], dim=1))[-1], rgb(x)[-1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grey(x[:, :1])[-1], rgb(x[:, :1].expand(-1, 3, -1, -1))[-1], rtol=1e-4, atol=1e-5)


def test_timms_own_files_fit_timms_encoders(tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = timm.create_model("convnext_atto", pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "timm.pth")
    encoder = build_encoder("tu-convnext_atto", weights=str(tmp_path / "timm.pth"))
    x = torch.randn(1, 3, 64, 64)
    expected = whole.eval().stages(whole.stem(x))
    torch.testing.assert_close(encoder.eval()(x)[-1], expected)


@pytest.mark.parametrize("prefix", ["", "encoder.", "model.encoder."])
def test_weights_reach_the_encoder_that_is_padded(tmp_path: Path, prefix: str) -> None:
    source = build_encoder("tu-dla34")
    # as timm names them, as a padded encoder does, and as a whole network around that
    state = (source.encoder if prefix == "" else source).state_dict()
    torch.save({f"{prefix}{name}": value for name, value in state.items()}, tmp_path / "weights.pth")
    loaded = build_encoder("tu-dla34", weights=str(tmp_path / "weights.pth"))
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_wrong_weights_are_explained(tmp_path: Path) -> None:
    encoder = build_encoder("resnet18", depth=3)
    with pytest.raises(EncoderError, match=r"there is no file nowhere.pth"):
        load_encoder_weights(encoder, "resnet18", "nowhere.pth")
    other = tmp_path / "other.pth"
    torch.save(build_encoder("mobilenet_v2").state_dict(), other)
    with pytest.raises(EncoderError, match=r"doesn't fit encoder 'resnet18'.*another encoder's file"):
        load_encoder_weights(encoder, "resnet18", str(other))
    torch.save({"epoch": 3}, other)
    with pytest.raises(EncoderError, match="holds no state dict"):
        load_encoder_weights(encoder, "resnet18", str(other))
    other.write_bytes(b"no weights at all")
    with pytest.raises(EncoderError, match="can't be read as weights"):
        load_encoder_weights(encoder, "resnet18", str(other))
    with pytest.raises(EncoderError, match=r"encoder_weights 'swsl' don't exist for 'tu-convnext_atto'.*Give imagenet"):
        load_encoder_weights(encoder, "tu-convnext_atto", "swsl")
    with pytest.raises(EncoderError, match="encoder_weights 'imagenett' don't exist for 'resnet18'"):
        load_encoder_weights(encoder, "resnet18", "imagenett")


def test_a_failed_download_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> nn.Module:
        raise OSError("Name or service not known")

    encoder = build_encoder("resnet18", depth=3)
    monkeypatch.setattr("segmentation_models_pytorch.encoders.get_encoder", offline)
    with pytest.raises(EncoderError, match=r"could not be downloaded: Name or service.*path of a local file"):
        load_encoder_weights(encoder, "resnet18", "imagenet")


def test_normalization_is_that_of_the_published_weights() -> None:
    assert normalization("mobilenet_v2")[0] == (0.485, 0.456, 0.406)
    assert normalization("xception") == ((0.5,) * 3, (0.5,) * 3)
    assert normalization("tu-tf_efficientnet_lite0") == ((0.5,) * 3, (0.5,) * 3)
    assert normalization("efficientnet-b0", "advprop")[1] == (0.5,) * 3
