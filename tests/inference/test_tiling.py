"""Tiles cover an image once, and blend to what the network says of the whole."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unetseg import Predictor, UNet
from unetseg.errors import OptionError
from unetseg.inference.tiling import Blend, BlendedTiles, Tiling, blend_window, split_axis

BLENDS: tuple[Blend, ...] = ("gaussian", "linear", "none")


@pytest.mark.parametrize("stride", [1, 4, 32])
@pytest.mark.parametrize("overlap", [0, 1, 32, 51])
def test_an_axis_is_covered_by_few_tiles_of_about_one_length(stride: int, overlap: int) -> None:
    tiling = Tiling(160, overlap, stride)
    for length in range(1, 1200):
        tiles = split_axis(length, tiling)
        assert tiles[0][0] == 0
        assert tiles[-1][1] == length
        assert all(start % stride == 0 for start, _ in tiles)
        assert all(0 < end - start <= 160 for start, end in tiles)
        # each ends its overlap behind the start of the next, and begins behind the end of the one before the last
        assert [end for _, end in tiles[:-1]] == [start + tiling.overlap for start, _ in tiles[1:]]
        assert all(tiles[i][1] <= tiles[i + 2][0] for i in range(len(tiles) - 2))
        own = length - tiling.overlap
        assert len(tiles) == (1 if length <= 160 else -(-own // (160 - tiling.overlap)))
        lengths = [end - start for start, end in tiles]
        assert max(lengths) - min(lengths) <= 2 * stride


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("overlap", [1, 2, 31, 128])
def test_a_window_rises_and_leaves_its_mirror_image(blend: Blend, overlap: int) -> None:
    window = blend_window(overlap, blend)
    assert (np.diff(window) >= 0).all()
    assert window.min() >= 0
    if blend != "none" or overlap % 2 == 0:
        np.testing.assert_allclose(window + window[::-1], np.ones(overlap), rtol=0, atol=1e-6)


def test_a_gaussian_gives_a_tiles_edge_next_to_nothing() -> None:
    window = blend_window(128, "gaussian")
    assert window[:32].max() == 0
    assert window[40] < 0.02
    assert window[88] > 0.98
    assert window[96:].min() == 1


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 64), (64, 201), (333, 95), (130, 467)])
@pytest.mark.parametrize("overlap", [0, 16, 24])
@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray], ids=["tensors", "arrays"])
def test_pieces_of_a_map_blend_to_the_map(
    blend: Blend, size: tuple[int, int], overlap: int, kind: Callable[[np.ndarray], Any]
) -> None:
    whole = torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
    tiles = BlendedTiles(*size, Tiling(64, overlap, stride=8, blend=blend))
    result = torch.full_like(whole, torch.nan)
    for tile in tiles:
        piece = whole[:, slice(*tile.rows), slice(*tile.columns)].clone()
        block = torch.as_tensor(tiles.blend(tile, kind(piece.numpy())))
        target = result[:, tile.rows[0] :, tile.columns[0] :][:, : block.shape[1], : block.shape[2]]
        assert target.isnan().all()  # nothing is written twice
        target.copy_(block)
    torch.testing.assert_close(result, whole)


def test_what_is_kept_does_not_grow_with_the_height() -> None:
    tiling = Tiling(64, 16, stride=16)
    tiles = BlendedTiles(4000, 150, tiling)
    kept = set()
    for tile in tiles:
        tiles.blend(tile, torch.zeros(3, *tile.shape))
        kept.add(sum(value.numel() for value in vars(tiles).values() if isinstance(value, Tensor)))
    assert max(kept) <= 3 * (16 * 150 + 16 * 64) + 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 100, "overlap": 0}, "tile is 100; this network needs at least 128, such as 1024"),
        ({"tile": 1024, "overlap": -1}, "overlap is -1; it must be at least 0"),
        (
            {"tile": 256, "overlap": 97},
            r"overlap is 97 \(rounded up to 128\) and tile is 256; .* two fifths of the tile: 96",
        ),
    ],
)
def test_tiles_that_cannot_be_are_explained(options: dict[str, int], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Tiling(**options)


def network(depth: int) -> UNet:
    """A resnet18 UNet whose batch norms do something."""
    torch.manual_seed(0)
    model = UNet("resnet18", classes=3, encoder_depth=depth, decoder_channels=[32, 32, 16, 16, 8][-depth:])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def receptive_field(model: UNet) -> int:
    """Side of the square that a logit depends on: where the gradient is, if nothing can cancel out or be shut.

    It is measured along the rows; a strip of few columns takes less memory.
    """
    model = copy.deepcopy(model).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    for parameter in model.parameters():
        parameter.data.fill_(1.0 / parameter[0].numel()) if parameter.ndim > 1 else parameter.data.fill_(1.0)
    model.encoder.maxpool = nn.AvgPool2d(3, stride=2, padding=1)
    side, column = 256 * 2 ** (model.encoder_depth - 2), 32
    image = torch.ones(1, 3, side, 64, dtype=torch.float64, requires_grad=True)
    extents = []
    for shift in range(model.total_stride):  # it depends on the place in the network's grid
        place = side // 2 + shift
        (gradient,) = torch.autograd.grad(model(image)[0, 0, place, column], image)
        seen = gradient[0, 0, :, column].nonzero().flatten()
        assert 0 < seen.min() <= seen.max() < side - 1
        extents += [place - int(seen.min()), int(seen.max()) - place]
        if model.encoder_depth > 3:
            break
    return 2 * max(extents) + 1


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def difference(model: UNet, image: np.ndarray, **tiling: object) -> np.ndarray:
    """By how much the probabilities of tiles differ from those of the whole, a pixel."""
    names = ["a", "b", "c"]
    (whole,) = Predictor(model, names, device="cpu", tile=None).predict([image], probabilities=True)
    (tiled,) = Predictor(model, names, device="cpu", **tiling).predict([image], probabilities=True)
    return np.abs(tiled.probabilities - whole.probabilities).max(axis=0)


@pytest.mark.parametrize(("blend", "fields"), [("none", 1), ("gaussian", 2)])
def test_with_an_overlap_of_the_receptive_field_tiles_equal_the_whole(blend: Blend, fields: int) -> None:
    """A gradual passage needs two: in the middle half of the overlap, both tiles must know all."""
    model = network(depth=2)
    overlap = fields * receptive_field(model)
    assert 40 < overlap / fields < 120
    image = noise(1000, 140)
    assert difference(model, image, tile=3 * overlap, overlap=overlap, blend=blend).max() < 1e-4
    assert difference(model, image, tile=3 * overlap, overlap=4, blend=blend).max() > 1e-3


@pytest.mark.slow
def test_so_it_is_with_the_whole_encoder() -> None:
    model = network(depth=5)
    field = receptive_field(model)
    assert 400 < field < 2000
    image = noise(4 * field, 200)
    assert difference(model, image, tile=5 * field // 2, overlap=field - 64, blend="none").max() < 1e-4
    assert difference(model, image, tile=5 * field // 2, overlap=field - 64, blend="gaussian").max() < 1e-4


def seam_ratio(blend: Blend, overlap: int) -> float:
    """How much steeper the probabilities are at the seams than those of the whole image are there."""
    model, image = network(depth=4), noise(2000, 90)
    tiling = {"tile": 256, "overlap": overlap, "blend": blend}
    whole, tiled = (
        Predictor(model, ["a", "b", "c"], device="cpu", **options).predict([image], probabilities=True)[0].probabilities
        for options in ({"tile": None}, tiling)
    )
    starts = [start for start, _ in split_axis(2000, Tiling(256, overlap, model.total_stride))[1:]]
    seams = [start + overlap // 2 - 1 for start in starts]
    steps = [np.abs(np.diff(maps, axis=1))[:, seams].mean() for maps in (tiled, whole)]
    return float(steps[0] / steps[1])


def test_a_practical_overlap_leaves_no_grid() -> None:
    assert seam_ratio("gaussian", 64) == pytest.approx(1, abs=0.1)
    assert seam_ratio("none", 0) > 5


@pytest.mark.parametrize("size", [(31, 45), (128, 128), (129, 64), (300, 1), (1, 300)])
def test_small_and_narrow_images_are_tiled_too(size: tuple[int, int]) -> None:
    predictor = Predictor(network(depth=3), ["a", "b", "c"], device="cpu", tile=64, overlap=16)
    assert predictor(noise(*size)).shape == size


def test_batches_of_tiles_give_the_same_classes() -> None:
    model, image = network(depth=3), noise(211, 330)
    one, four = (
        Predictor(model, ["a", "b", "c"], device="cpu", tile=64, overlap=16, batch_size=batch_size)
        for batch_size in (1, 4)
    )
    (expected,), (got,) = (p.predict([image], probabilities=True) for p in (one, four))
    np.testing.assert_allclose(got.probabilities, expected.probabilities, atol=1e-5)


def test_blocks_cover_the_image_once_in_rows() -> None:
    predictor = Predictor(network(depth=3), ["a", "b", "c"], device="cpu", tile=64, overlap=16)
    image = noise(150, 131)

    class Source:
        height, width = 150, 131

        def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
            return image[top : top + height, left : left + width]

    seen = np.zeros((150, 131), int)
    places = []
    for block in predictor.blocks(Source()):
        seen[block.top : block.top + block.classes.shape[0], block.left : block.left + block.classes.shape[1]] += 1
        places.append((block.top, block.left))
        assert block.probabilities is None
    assert (seen == 1).all()
    assert places == sorted(places)
    assert len(places) > 4


def test_tiles_of_one_length_are_neighbours() -> None:
    """So that they fill batches: of an axis' tiles, only the last may break off a run."""
    for length in (1500, 3333, 5000, 10_000):
        lengths = [end - start for start, end in split_axis(length, Tiling(1024, 128))]
        assert len({*lengths[:-1]}) <= 2
        assert sorted(lengths[:-1], reverse=True) == lengths[:-1]
