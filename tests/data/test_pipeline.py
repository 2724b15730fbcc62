"""Pipelines say what is wrong with their specs, and never put a class into a mask that wasn't there."""

import importlib.util
import sys
import types
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from unetseg.data import pipeline as pipeline_module
from unetseg.data.pipeline import A, build_pipeline
from unetseg.errors import DataError

YAML = """
- HorizontalFlip: {p: 0.5}
- RandomRotate90
- Affine: {rotate: [-20, 20], p: 1.0}
- OneOf:
    transforms:
      - GaussianBlur: {blur_limit: [3, 5]}
      - MotionBlur
    p: 0.3
- Downscale: {interpolation_pair: {downscale: area, upscale: linear}}
"""

# of transforms that need arguments, or change no geometry without them
ARGUMENTS: dict[str, dict[str, Any]] = {
    "Affine": {"rotate": [-40, 40], "scale": [0.5, 1.5]},
    "AtLeastOneBBoxRandomCrop": {"height": 20, "width": 24},
    "CenterCrop": {"height": 60, "width": 24, "pad_if_needed": True},
    "ConstrainedCoarseDropout": {"mask_indices": [1]},
    "Crop": {"x_max": 60, "y_max": 60, "pad_if_needed": True},
    "CropAndPad": {"px": [-5, 5]},
    "CropNonEmptyMaskIfExists": {"height": 20, "width": 24},
    "ElasticTransform": {"alpha": 60, "sigma": 4},
    "LongestMaxSize": {"max_size": 29},
    "OpticalDistortion": {"distort_limit": [-0.9, 0.9]},
    "Pad": {"padding": 5},
    "PadIfNeeded": {"min_height": 60, "min_width": 60},
    "Perspective": {"scale": [0.2, 0.3], "fit_output": True},
    "RandomCrop": {"height": 60, "width": 24, "pad_if_needed": True},
    "RandomResizedCrop": {"size": [20, 24]},
    "RandomSizedCrop": {"min_max_height": [10, 30], "size": [20, 24]},
    "Resize": {"height": 20, "width": 24},
    "SmallestMaxSize": {"max_size": 29},
    "XYMasking": {"num_masks_x": 2, "mask_x_length": 5, "fill": 9},
}

# that albumentations exports beside ImageOnlyTransform's, and that can't be used for the reason given
REFUSED = {
    "BBoxSafeRandomCrop": "needs bounding boxes",
    "CenterCrop3D": "works on volumes",
    "CoarseDropout3D": "works on volumes",
    "CubicSymmetry": "works on volumes",
    "DualTransform": "only a base",
    "FrequencyMasking": "writes class 0 into masks; XYMasking",
    "GridElasticDeform": "writes class 0 into masks where it leaves gaps; ElasticTransform",
    "Lambda": "its arguments are functions",
    "Mosaic": "needs mosaic_metadata beside image and mask",
    "OverlayElements": "needs overlay_metadata beside image and mask",
    "Pad3D": "works on volumes",
    "PadIfNeeded3D": "works on volumes",
    "RandomCrop3D": "works on volumes",
    "RandomCropNearBBox": "needs cropping_bbox beside image and mask",
    "RandomSizedBBoxSafeCrop": "needs bounding boxes",
    "TimeMasking": "writes class 0 into masks; XYMasking",
    "Transform3D": "works on volumes",
}

# of the others, those that have pixels without a source; in the others every pixel has one, or keeps its class
FILLING = {
    "Affine",
    "CenterCrop",
    "Crop",
    "CropAndPad",
    "ElasticTransform",
    "GridDistortion",
    "MaskDropout",
    "OpticalDistortion",
    "Pad",
    "PadIfNeeded",
    "Perspective",
    "RandomCrop",
    "Rotate",
    "SafeRotate",
    "ShiftScaleRotate",
    "ThinPlateSpline",
}

DUAL = sorted(name for name, cls in vars(A).items() if isinstance(cls, type) and issubclass(cls, A.DualTransform))


def build(*specs: Any) -> list[Any]:
    return build_pipeline(specs, ignore_index=255)


@pytest.mark.parametrize("name", sorted(set(DUAL) - set(REFUSED)))
def test_masks_keep_their_classes(name: str):
    given = {"p": 1.0, **ARGUMENTS.get(name, {})}
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (51, 37, 3), dtype=np.uint8)
    mask = np.ones((51, 37), np.uint8)
    values, images = set(), []
    for seed in range(6):
        augmented = A.Compose(build({name: given}), seed=seed)(image=image, mask=mask)
        assert augmented["mask"].shape == augmented["image"].shape[:2]
        values |= set(np.unique(augmented["mask"]).tolist())
        images.append(augmented["image"])
    assert values - {255} <= {1}
    assert (255 in values) == (name in FILLING)
    assert name == "NoOp" or any(changed.shape != image.shape or (changed != image).any() for changed in images)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_spoil_masks_or_needs_other_data_is_refused(name: str):
    assert name in DUAL
    with pytest.raises(DataError, match=f"{name} can't be used: .*{REFUSED[name]}"):
        build(name)


@pytest.mark.parametrize("name", ["Normalize", "ToFloat", "FromFloat", "ToTensorV2", "ToTensor3D"])
def test_normalisation_is_refused(name: str):
    with pytest.raises(DataError, match=f"{name} can't be used: the model normalises images by itself.*leave it out"):
        build(name)


def test_the_yaml_of_a_configuration():
    flip, turn, affine, one_of, downscale = build(*yaml.safe_load(YAML))
    assert (type(flip), flip.p, type(turn)) == (A.HorizontalFlip, 0.5, A.RandomRotate90)
    assert (affine.rotate, affine.p, affine.fill_mask) == ((-20, 20), 1.0, 255)
    assert [type(inner) for inner in one_of.transforms] == [A.GaussianBlur, A.MotionBlur]
    assert (one_of.p, one_of.transforms[0].blur_limit) == (0.3, (3, 5))
    assert downscale.interpolation_pair == {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}


def test_masks_are_filled_and_sampled_as_they_should_be_unless_told_otherwise():
    resize = {"height": 20, "width": 20}
    specs = ["Affine", {"Resize": resize}, "CoarseDropout", {"Affine": {"fill_mask": 3, "fill": 7}}]
    affine, resized, dropout, told = build(*specs)
    assert (affine.fill_mask, affine.fill, told.fill_mask, told.fill) == (255, 0, 3, 7)
    assert dropout.fill_mask is None
    assert (affine.mask_interpolation, resized.mask_interpolation) == (cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT)
    for given, used in [("nearest", 0), (0, 0), ("nearest_exact", 6), (6, 6)]:
        assert build({"Resize": {**resize, "mask_interpolation": given}})[0].mask_interpolation == used
    assert build({"Affine": {"mask_interpolation": "nearest_exact"}})[0].mask_interpolation == cv2.INTER_NEAREST


def test_names_and_numbers_of_constants_are_the_same():
    named, numbered = build(
        {"Affine": {"interpolation": "cubic", "border_mode": "reflect_101"}},
        {"Affine": {"interpolation": cv2.INTER_CUBIC, "border_mode": cv2.BORDER_REFLECT_101}},
    )
    assert (named.interpolation, named.border_mode) == (numbered.interpolation, numbered.border_mode) == (2, 4)


@pytest.fixture
def own_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of the user's, with two transforms and something else."""
    module = types.ModuleType("own_module")

    class Brighten(A.ImageOnlyTransform):
        def __init__(self, strength: int, p: float = 1.0) -> None:
            super().__init__(p=p)
            self.strength = strength
            if strength > 255:
                raise RuntimeError("too bright\nby far")

        def apply(self, img: np.ndarray, **_: Any) -> np.ndarray:
            return cv2.add(img, self.strength)

    class Anything(A.NoOp):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            self.options = options

    module.Brighten, module.Anything, module.Other = Brighten, Anything, object
    monkeypatch.setitem(sys.modules, "own_module", module)
    return module


def test_dotted_names_are_imported(own_module: types.ModuleType):
    brighten, anything, flip = build(
        {"own_module.Brighten": {"strength": 2}}, {"own_module.Anything": {"size": [1]}}, "albumentations.VerticalFlip"
    )
    assert (type(brighten), brighten.strength) == (own_module.Brighten, 2)
    assert (anything.options, type(flip)) == ({"size": [1]}, A.VerticalFlip)


NOT_A_SPEC = "it must be a name, or one name with its arguments indented below it"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("HorizontalFlop", r"is 'HorizontalFlop', which isn't a transform of albumentations. Did you mean 'Horizontal"),
        ("vertical_flip", "Did you mean 'VerticalFlip'"),
        ("BboxParams", "is 'BboxParams', which isn't a transform of albumentations.*needs its dotted name"),
        ("BasicTransform", "BasicTransform can't be used: it is only a base of transforms"),
        ("ImageOnlyTransform", "ImageOnlyTransform can't be used: it is only a base"),
        ("Compose", "Compose can't be used: the ones that nest are OneOf, SomeOf, RandomOrder, Sequential"),
        ("FDA", "FDA can't be used: it needs fda_metadata beside image and mask"),
        ("own_module.Other", "is 'own_module.Other', which isn't a transform"),
        ("own_module.Missing", "is 'own_module.Missing', which isn't a transform"),
        ("no_such_module.Flip", "importing no_such_module failed: No module named 'no_such_module'"),
        ({"own_module.Brighten": {"strength": 300}}, "own_module.Brighten: too bright"),
        (3, f" is 3; {NOT_A_SPEC}"),
        ({"OneOf": None, "transforms": ["NoOp"]}, NOT_A_SPEC),
        ({"OneOf": ["NoOp"]}, NOT_A_SPEC),
        ({"HorizontalFlip": 0.5}, NOT_A_SPEC),
        (
            {"Affine": {"rotat": 1}},
            r"Affine has no argument 'rotat'. Did you mean 'rotate'\? The arguments are scale, ",
        ),
        ({"Affine": {"value": 1}}, "no argument 'value'. Did you mean 'fill'?"),
        ({"Affine": {"mask_value": 1}}, "no argument 'mask_value'. Did you mean 'fill_mask'?"),
        ({"Affine": {"mode": 1}}, "no argument 'mode'. Did you mean 'border_mode'?"),
        ({"Resize": {"height": 8}}, "Resize needs width. The arguments are height, width, interpolation, "),
        ({"HorizontalFlip": {"p": 2}}, "HorizontalFlip.p is 2: Input should be less than or equal to 1"),
        ({"GaussianBlur": {"blur_limit": "x"}}, "blur_limit is 'x': Input should be a valid list; or: Input should be"),
        ({"ColorJitter": {"hue": [-1, 1]}}, r"hue is \[-1, 1\]: All values in hue must be within \[-0.5, 0.5\]"),
        ({"LongestMaxSize": {}}, "LongestMaxSize: Either max_size or max_size_hw must be specified"),
        ({"Posterize": {"num_bits": [[1, 2], [3, 4]]}}, "Posterize: float.. argument must be"),
        ({"MotionBlur": {"blur_limit": [3, 8]}}, "MotionBlur: blur_limit: Non-zero kernel sizes must be odd"),
        ({"Affine": {"interpolation": "linaer"}}, "interpolation is 'linaer'; it can be nearest, .*mean 'linear'?"),
        ({"Affine": {"border_mode": "mirror"}}, "border_mode is 'mirror'; it can be constant, replicate, reflect, "),
        ({"Affine": {"mask_interpolation": "linear"}}, "mask_interpolation is 'linear', which would invent classes"),
        ({"RandomScale": {"mask_interpolation": 2}}, "mask_interpolation is 2, which would invent classes"),
        ({"RandomScale": {"area_for_downscale": "image_mask"}}, "'image_mask', which would invent classes"),
        ({"OneOf": {"p": 1}}, "OneOf needs transforms. The arguments are transforms, p"),
        ({"OneOf": {"transforms": "NoOp"}}, "OneOf.transforms is 'NoOp'; it must be a list of transforms"),
        ({"OneOf": {"transforms": []}}, "OneOf.transforms: must be at least one transform"),
        ({"OneOf": {"transforms": [{"NoOp": {"p": 0}}]}}, "must be at least one transform, with a p above 0"),
        ({"Sequential": {"transforms": ["NoOp"], "p": 2}}, "Sequential.p is 2; it must be a number from 0 to 1"),
        ({"SomeOf": {"transforms": ["NoOp"], "n": 2}}, "SomeOf.n is 2; it must be an integer from 1 to the number"),
        ({"SomeOf": {"transforms": ["NoOp"], "n": "x", "replace": True}}, "SomeOf.n is 'x'; it must be an integer"),
    ],
)
@pytest.mark.usefixtures("own_module")
@pytest.mark.filterwarnings("ignore")  # as users have them: what albumentations only warns of is an error all the same
def test_mistakes_are_one_line_that_names_the_place(spec: Any, message: str):
    with pytest.raises(DataError, match=message) as caught:
        build("NoOp", spec)
    text = str(caught.value)
    assert text.startswith("data.transforms[1]")
    assert "\n" not in text
    assert len(text) < 320


def test_places_in_nested_lists_are_named():
    nested = {"OneOf": {"transforms": ["NoOp", {"RandomOrder": {"transforms": [{"HorizontalFlip": {"p": 2}}]}}]}}
    place = r"data.transforms\[1\].OneOf.transforms\[1\].RandomOrder.transforms\[0\].HorizontalFlip.p is 2"
    with pytest.raises(DataError, match=place):
        build("NoOp", nested)


def test_specs_that_are_no_list_are_refused():
    with pytest.raises(DataError, match=r"data\.transforms is 'HorizontalFlip'; it must be a list of transforms"):
        build_pipeline("HorizontalFlip", ignore_index=255)


def test_import_asks_no_network_for_versions(monkeypatch: pytest.MonkeyPatch):
    def ask() -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr("albumentations.check_version.check_for_updates", ask)
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "0")
    monkeypatch.delitem(sys.modules, "albumentations")  # its submodules stay, so importing it again is quick
    spec = importlib.util.spec_from_file_location("imported_afresh", pipeline_module.__file__)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert sys.modules["albumentations"] is not A
