"""Outlines cover the pixels of their class, all of them and no others."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.warp

from unetseg.errors import UnetsegError
from unetseg.inference import polygons
from unetseg.inference.polygons import PolygonWriter

NAMES = {0: "ground", 1: "road", 2: "Straße"}
NORTH_UP = rasterio.Affine(0.5, 0, 400_000, 0, -0.5, 5_800_000)
Feature = Mapping[str, Any]


def class_map(height: int = 37, width: int = 53, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (height, width), dtype=np.uint8)


def write_mask(path: Path, planes: np.ndarray, **options: Any) -> Path:
    count, height, width = planes.shape
    size = {"count": count, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **size, **options) as file:
        file.write(planes)
    return path


def features_of(path: Path) -> list[Feature]:
    collection = json.loads(path.read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    return collection["features"]


def of_array(path: Path, classes: np.ndarray, names: Mapping[int, str] = NAMES) -> list[Feature]:
    with PolygonWriter(path) as writer:
        writer.add(classes, names)
    return features_of(path)


def of_file(path: Path, mask: Path, names: Mapping[int, str] = NAMES, **options: int) -> list[Feature]:
    with PolygonWriter(path) as writer:
        writer.add_file(mask, names, **options)
    return features_of(path)


def signed_area(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2


def area(feature: Feature) -> float:
    """Holes go the other way round, so that they subtract themselves."""
    return sum(signed_area(ring) for ring in feature["geometry"]["coordinates"])


def regions(classes: np.ndarray, value: int) -> int:
    """Number of connected regions of a class, by filling one after another."""
    left = classes == value
    count = 0
    while left.any():
        count += 1
        stack = [tuple(np.argwhere(left)[0])]
        while stack:
            y, x = stack.pop()
            if 0 <= y < left.shape[0] and 0 <= x < left.shape[1] and left[y, x]:
                left[y, x] = False
                stack += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return count


def test_areas_are_counts_of_pixels(tmp_path: Path) -> None:
    classes = class_map()
    found = of_array(tmp_path / "a.geojson", classes)
    for value, name in NAMES.items():
        of_class = [feature for feature in found if feature["properties"] == {"value": value, "class": name}]
        assert sum(area(feature) for feature in of_class) == (classes == value).sum()
        assert len(of_class) == regions(classes, value)
    assert "." not in (tmp_path / "a.geojson").read_text(encoding="utf-8")  # pixels are integers
    drawn = rasterio.features.rasterize(
        [(feature["geometry"], feature["properties"]["value"]) for feature in found], classes.shape, fill=9
    )
    np.testing.assert_array_equal(drawn, classes)


def test_a_hole_is_a_hole(tmp_path: Path) -> None:
    classes = np.ones((5, 7), np.uint8)
    classes[2, 3] = 0
    [feature] = of_array(tmp_path / "a.geojson", classes, {1: "road"})
    exterior, hole = feature["geometry"]["coordinates"]
    assert (signed_area(exterior), signed_area(hole)) == (35, -1)
    assert sorted(map(tuple, hole[:-1])) == [(3, 2), (3, 3), (4, 2), (4, 3)]
    assert exterior[0] == exterior[-1]


def test_regions_that_touch_at_a_corner_are_two(tmp_path: Path) -> None:
    assert len(of_array(tmp_path / "a.geojson", np.eye(2, dtype=np.uint8), {1: "road"})) == 2


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_file_gives_what_its_array_gives(tmp_path: Path) -> None:
    classes = class_map()
    classes[4:20, 7:30] = 255
    mask = write_mask(tmp_path / "mask.tif", classes[None], nodata=255)
    found = of_file(tmp_path / "b.geojson", mask)
    assert found == of_array(tmp_path / "a.geojson", classes)
    assert sum(map(area, found)) == (classes != 255).sum()


def test_planes_of_classes_make_one_collection(tmp_path: Path) -> None:
    planes = np.stack([class_map(seed=1) == 1, class_map(seed=2) == 1]).astype(np.uint8)
    planes[:, :3] = 255
    mask = write_mask(tmp_path / "mask.tif", planes, transform=rasterio.Affine(1, 0, 5, 0, 1, 0), nodata=255)
    for kind in ("array", "file"):
        with PolygonWriter(tmp_path / "a.geojson") as writer:
            for band, name in enumerate(("road", "tree"), start=1):
                if kind == "array":
                    writer.add(planes[band - 1], {1: name})
                else:
                    writer.add_file(mask, {1: name}, band=band)
        found = features_of(tmp_path / "a.geojson")
        for name, plane in zip(("road", "tree"), planes, strict=True):
            of_class = [feature for feature in found if feature["properties"]["class"] == name]
            assert {feature["properties"]["value"] for feature in of_class} == {1}
            assert sum(map(area, of_class)) == (plane == 1).sum()
            assert len(of_class) == regions(plane, 1)


def test_a_reference_system_gives_longitude_and_latitude(tmp_path: Path) -> None:
    classes = np.zeros((37, 53), np.uint8)
    classes[10:21, 5:45] = 1
    classes[12:14, 8:10] = 0
    mask = write_mask(tmp_path / "mask.tif", classes[None], crs="EPSG:32633", transform=NORTH_UP)
    [feature] = of_file(tmp_path / "a.geojson", mask, {1: "road"})
    for ring, (left, top, right, bottom) in zip(
        feature["geometry"]["coordinates"], [(5, 10, 45, 21), (8, 12, 10, 14)], strict=True
    ):
        corners = [(left, top), (left, bottom), (right, bottom), (right, top)]
        xs, ys = zip(*((400_000 + x / 2, 5_800_000 - y / 2) for x, y in corners), strict=True)
        lon, lat = rasterio.warp.transform("EPSG:32633", "EPSG:4326", xs, ys)
        expected = np.array(sorted(zip(lon, lat, strict=True)))
        assert len(ring) == 5
        np.testing.assert_allclose(sorted(map(tuple, ring[:-1])), expected, rtol=0, atol=1e-9)
    exterior, hole = feature["geometry"]["coordinates"]
    assert signed_area(exterior) > 0 > signed_area(hole)  # y upwards
    assert 13 < exterior[0][0] < 14
    assert 52 < exterior[0][1] < 53


def test_many_outlines_are_projected_in_order(tmp_path: Path) -> None:
    classes = (np.indices((61, 67)).sum(0) % 2).astype(np.uint8)  # more than are projected at once
    mask = write_mask(tmp_path / "mask.tif", classes[None], crs="EPSG:32633", transform=NORTH_UP)
    found = of_file(tmp_path / "a.geojson", mask)
    assert len(found) == classes.size
    outlines = rasterio.warp.transform_geom("EPSG:4326", "EPSG:32633", [feature["geometry"] for feature in found])
    back = zip(outlines, (feature["properties"]["value"] for feature in found), strict=True)
    drawn = rasterio.features.rasterize(back, classes.shape, fill=9, transform=NORTH_UP)
    np.testing.assert_array_equal(drawn, classes)


def test_a_transform_alone_gives_its_coordinates(tmp_path: Path) -> None:
    classes = np.ones((1, 4, 6), np.uint8)
    [feature] = of_file(tmp_path / "a.geojson", write_mask(tmp_path / "mask.tif", classes, transform=NORTH_UP))
    [ring] = feature["geometry"]["coordinates"]
    assert sorted(map(tuple, ring[:-1])) == [(4e5, 5799998), (4e5, 5.8e6), (400003, 5799998), (400003, 5.8e6)]
    assert signed_area(ring) > 0


def test_across_the_date_line_are_two_parts(tmp_path: Path) -> None:
    across = rasterio.Affine(1000, 0, 140_000, 0, -1000, 10_000)  # the line is at 166 km
    mask = write_mask(tmp_path / "mask.tif", np.ones((1, 20, 60), np.uint8), crs="EPSG:32601", transform=across)
    [feature] = of_file(tmp_path / "a.geojson", mask)
    assert feature["geometry"]["type"] == "MultiPolygon"
    for [ring] in feature["geometry"]["coordinates"]:
        longitudes = [point[0] for point in ring]
        assert max(longitudes) - min(longitudes) < 1
        assert signed_area(ring) > 0


def test_nothing_to_outline(tmp_path: Path) -> None:
    assert of_array(tmp_path / "a.geojson", np.zeros((3, 4), np.uint8), {1: "road"}) == []
    mask = write_mask(tmp_path / "mask.tif", np.zeros((1, 3, 4), np.uint8), crs="EPSG:32633", transform=NORTH_UP)
    assert of_file(tmp_path / "b.geojson", mask, {1: "road"}) == []


def test_mistakes_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.tif").write_text("no image")
    far = rasterio.Affine(1e25, 0, 1e30, 0, -1e25, 1e30)
    write_mask(tmp_path / "far.tif", np.ones((1, 3, 4), np.uint8), crs="EPSG:32633", transform=far)
    for name, reason in (("bad.tif", "not recognized"), ("gone.tif", "No such file"), ("far.tif", "outside of")):
        with pytest.raises(UnetsegError, match=rf"{name}: its polygons can't be made: .*{reason}"):
            of_file(tmp_path / "a.geojson", tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tif", "far.tif"]
    monkeypatch.setattr(polygons, "has_rasterio", lambda: False)
    with pytest.raises(UnetsegError, match=r"polygons need rasterio, .*: pip install -e '\.\[raster\]'"):
        PolygonWriter(tmp_path / "a.geojson")
