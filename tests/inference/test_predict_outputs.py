"""Every kind of output, of every kind of model and image: they agree with each other and with the predictor."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from prediction_jobs import CLASSES, NORTH_UP, pixels, predict, write_image, write_raster, write_tiff
from rasterio.errors import NotGeoreferencedWarning

from unetseg import Predictor
from unetseg.drawing import overlay, topmost
from unetseg.inference.prediction import Prediction

ALL = "--save=mask,overlay,probabilities,polygons,shares"
PLACE = {"crs": "EPSG:32633", "transform": NORTH_UP}
SIZES = {"a": (33, 47), "deep/b": (61, 15)}
FOLDERS = {"multiclass": [""], "binary": [""], "multilabel": ["left_right", "road"]}


def read_png(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        assert (file.format, file.mode) == ("PNG", "P")
        return np.asarray(file)


def read_raster(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """(bands, H, W), and what the file says of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            place = {"crs": file.crs, "transform": file.transform}
            layout = file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT")
            return file.read(), {**place, "nodata": file.nodata, "layout": layout}


def area(feature: dict[str, Any]) -> float:
    """Of a polygon whose holes go the other way round."""
    rings = [np.array(ring).T for ring in feature["geometry"]["coordinates"]]
    return float(sum((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() for x, y in rings)) / 2


def areas(path: Path) -> dict[str, float]:
    """Of each class, all its outlines together."""
    sums: dict[str, float] = {}
    for feature in json.loads(path.read_text())["features"]:
        name = feature["properties"]["class"]
        sums[name] = sums.get(name, 0) + area(feature)
    return sums


def shares(folder: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "_shares.jsonl").read_text().splitlines()]
    return {line["image"]: line for line in lines}


def counts(planes: np.ndarray, mode: str) -> dict[str, int]:
    """Pixels of each class; planes are a mask of class indices, or a mask for each class."""
    if mode == "multilabel":
        return {name: int((plane == 1).sum()) for name, plane in zip(CLASSES[mode], planes, strict=True)}
    return {name: int((planes[0] == value).sum()) for value, name in enumerate(CLASSES[mode])}


def decided(probabilities: np.ndarray, mode: str) -> np.ndarray:
    """(planes, H, W) of (classes, H, W)."""
    return (probabilities > 0.5) if mode == "multilabel" else probabilities.argmax(axis=0)[None]


def margin(probabilities: np.ndarray, mode: str) -> np.ndarray:
    """How far each pixel is from another decision, (planes, H, W)."""
    if mode == "multilabel":
        return np.abs(probabilities - 0.5)
    low, high = np.sort(probabilities, axis=0)[-2:]
    return (high - low)[None]


@pytest.mark.parametrize("mode", CLASSES)
def test_outputs_of_photos_agree(tmp_path: Path, checkpoints: dict[str, Path], mode: str) -> None:
    for name, size in SIZES.items():
        write_image(tmp_path / "in" / f"{name}.png", *size)
    out = tmp_path / "out"
    assert predict(tmp_path / "in", checkpoints[mode], out, ALL) == 0
    expected = {f"{name}{suffix}" for name in SIZES for suffix in (".overlay.jpg", ".probabilities.npy", ".geojson")}
    expected |= {str(Path(folder, f"{name}.png")) for name in SIZES for folder in FOLDERS[mode]}
    expected |= {"_legend.json", "_legend.png", "_shares.jsonl"}
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == expected
    predictor = Predictor.from_checkpoint(checkpoints[mode], device="cpu")
    assert list(shares(out)) == ["a.png", "deep/b.png"]
    for name, (height, width) in SIZES.items():
        planes = np.stack([read_png(out / folder / f"{name}.png") for folder in FOLDERS[mode]])
        image = pixels(height, width)
        (prediction,) = predictor.predict([image], probabilities=True)
        np.testing.assert_array_equal(planes if mode == "multilabel" else planes[0], predictor(image))
        assert all(counts(planes, mode).values())  # or nothing would be tested

        maps = np.load(out / f"{name}.probabilities.npy")
        assert (maps.dtype, maps.shape) == (np.float16, (len(CLASSES[mode]), height, width))
        np.testing.assert_array_equal(maps, prediction.probabilities.astype(np.float16))
        clear = margin(prediction.probabilities, mode) > 0.001
        np.testing.assert_array_equal(decided(maps, mode)[clear], planes[clear])
        if mode != "multilabel":
            np.testing.assert_allclose(maps.astype(np.float32).sum(axis=0), 1, atol=0.001)

        assert areas(out / f"{name}.geojson") == counts(planes, mode)
        line = shares(out)[f"{name}.png"]
        assert (line["height"], line["width"]) == (height, width)
        expected_shares = {key: count / height / width for key, count in counts(planes, mode).items()}
        assert line["classes"] == pytest.approx(expected_shares, rel=1e-5)
        with Image.open(out / f"{name}.overlay.jpg") as file:
            assert (file.format, file.mode, file.size) == ("JPEG", "RGB", (width, height))


@pytest.mark.parametrize(
    ("mode", "driver", "tile"),
    [
        *((mode, "GTiff", "64") for mode in CLASSES),
        *(("multiclass", driver, tile) for driver, tile in (("GTiff", "auto"), ("COG", "64"))),
    ],
)
def test_outputs_of_a_scene_lie_where_it_does(
    tmp_path: Path, checkpoints: dict[str, Path], mode: str, driver: str, tile: str
) -> None:
    image = pixels(139, 101)
    image[40:91, 30:] = 0  # without data
    image[5, 5, 0] = 0  # in one band alone, that is a colour
    missing = (image == 0).all(axis=-1)
    layout = "COG" if driver == "COG" else None
    scene = write_raster(tmp_path / "scene.tif", image, driver, nodata=0)
    out = tmp_path / "out"
    assert predict(scene, checkpoints[mode], out, ALL, f"--tile={tile}", "--overlap=16") == 0
    expected = {"scene.overlay.tiff", "scene.probabilities.tiff", "scene.geojson"}
    expected |= {str(Path(folder, "scene.tif")) for folder in FOLDERS[mode]}
    expected |= {"_legend.json", "_legend.png", "_shares.jsonl"}
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == expected

    options = {"tile": int(tile), "overlap": 16} if tile != "auto" else {}
    predictor = Predictor.from_checkpoint(checkpoints[mode], device="cpu", **options)
    (prediction,) = predictor.predict([image], probabilities=True)
    classes = prediction.classes if mode == "multilabel" else prediction.classes[None]
    masks = []
    for folder in FOLDERS[mode]:
        mask, said = read_raster(out / folder / "scene.tif")
        assert said == {**PLACE, "nodata": 255, "layout": layout}
        assert (len(mask), mask.dtype) == (1, np.uint8)
        masks.append(mask[0])
    planes = np.stack(masks)
    np.testing.assert_array_equal(planes, np.where(missing, 255, classes))

    maps, said = read_raster(out / "scene.probabilities.tiff")
    assert said == {**PLACE, "nodata": pytest.approx(np.nan, nan_ok=True), "layout": layout}
    np.testing.assert_array_equal(np.isnan(maps), np.broadcast_to(missing, maps.shape))
    np.testing.assert_array_equal(maps[:, ~missing], prediction.probabilities.astype(np.float16)[:, ~missing])

    line = shares(out)["scene.tif"]["classes"]
    pixel_counts = counts(planes, mode)
    assert all(pixel_counts.values())
    with_data = (~missing).sum()
    assert line == pytest.approx({name: count / with_data for name, count in pixel_counts.items()}, rel=1e-5)
    degrees = areas(out / "scene.geojson")  # of one size, so near to each other
    assert set(degrees) == set(pixel_counts)
    total = sum(degrees.values()) / sum(pixel_counts.values())
    assert degrees == pytest.approx({name: count * total for name, count in pixel_counts.items()}, rel=1e-3)

    painted, said = read_raster(out / "scene.overlay.tiff")
    assert said == {**PLACE, "nodata": None, "layout": layout}
    assert painted.dtype == np.uint8
    legend = [tuple(row["color"]) for row in json.loads((out / "_legend.json").read_text())]
    shown = topmost(classes) if mode == "multilabel" else classes[0]
    colors = [(0, 0, 0), *legend] if mode == "multilabel" else legend
    expected_overlay = np.where(missing[..., None], 0, overlay(image, shown, colors))
    np.testing.assert_array_equal(painted.transpose(1, 2, 0), expected_overlay)


def test_a_large_tiff_without_a_place_gives_tiffs_and_a_small_one_pngs(tmp_path: Path, checkpoint: Path) -> None:
    for name, size in {"large": (97, 61), "small": (33, 29)}.items():
        write_tiff(tmp_path / "in" / f"{name}.tif", pixels(*size))
    out = tmp_path / "out"
    assert predict(tmp_path / "in", checkpoint, out, ALL, "--tile=64", "--overlap=8") == 0
    written = {path.name for path in out.iterdir() if not path.name.startswith("_")}
    assert written == {
        *("large.tif", "large.overlay.tiff", "large.probabilities.tiff", "large.geojson"),
        *("small.png", "small.overlay.jpg", "small.probabilities.npy", "small.geojson"),
    }
    predictor = Predictor.from_checkpoint(checkpoint, device="cpu", tile=64, overlap=8)
    mask, said = read_raster(out / "large.tif")
    assert (said["crs"], said["nodata"]) == (None, None)
    np.testing.assert_array_equal(mask[0], predictor(pixels(97, 61)))
    np.testing.assert_array_equal(read_png(out / "small.png"), predictor(pixels(33, 29)))
    assert areas(out / "large.geojson") == counts(mask, "multiclass")


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *(("multiclass", kind) for kind in ("probabilities", "overlay", "shares")),
        *((mode, "polygons") for mode in ("multiclass", "multilabel")),
    ],
)
def test_what_is_asked_for_alone_is_the_same_and_alone(
    tmp_path: Path, checkpoints: dict[str, Path], mode: str, kind: str
) -> None:
    """Polygons of a scene are made from masks that go away."""
    scene, photo = write_raster(tmp_path / "scene.tif", pixels(71, 66)), write_image(tmp_path / "photo.png")
    for name, save in {"all": ALL, "one": f"--save={kind}"}.items():
        assert predict([scene, photo], checkpoints[mode], tmp_path / name, save) == 0
    suffixes = {"polygons": ".geojson", "probabilities": ".probabilities", "overlay": ".overlay", "shares": ".jsonl"}
    own = {path.name for path in (tmp_path / "all").iterdir() if suffixes[kind] in path.name}
    assert len(own) == (1 if kind == "shares" else 2)
    found = {path.relative_to(tmp_path / "one").as_posix() for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert found == own | {"_legend.json", "_legend.png"}
    assert all((tmp_path / "all" / name).read_bytes() == (tmp_path / "one" / name).read_bytes() for name in own)


def test_small_scenes_are_predicted_together(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        scene = np.roll(pixels(45, 62), 7 * number, axis=1)
        write_raster(tmp_path / "in" / f"{number}.tif", scene, nodata=0 if number % 2 else None)
    together = []
    original = Predictor.predict

    def counting(self: Predictor, images: list[np.ndarray], **options: Any) -> list[Prediction]:
        together.append(len(images))
        return original(self, images, **options)

    assert predict(tmp_path / "in", checkpoint, tmp_path / "one", "--save=mask,shares") == 0
    monkeypatch.setattr(Predictor, "predict", counting)
    assert predict(tmp_path / "in", checkpoint, tmp_path / "four", "--save=mask,shares", "--batch_size=4") == 0
    assert together == [4, 1]
    for number in range(5):
        (expected, profile), (got, other) = (read_raster(tmp_path / name / f"{number}.tif") for name in ("one", "four"))
        assert profile == other
        assert np.mean(expected != got) < 0.001
