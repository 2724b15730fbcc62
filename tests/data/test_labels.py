"""What is said of classes is taken as it was meant, or its fault is named."""

import pickle
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unetseg.data.labels import chosen_mode, parse_labels
from unetseg.data.masks import BinaryMaskReader, ColorMaskReader, IndexMaskReader, MultilabelMaskReader
from unetseg.errors import DataError, OptionError

STREET = {"road": [128, 64, 128], "sky": [[70, 130, 180], [0, 0, 230]], "ignore": [0, 0, 0]}


def test_names_in_order():
    labels = parse_labels(["background", "road"], ignore_index=254)
    assert labels.classes == ("background", "road")
    assert (labels.mode, labels.plain_classes) == ("multiclass", ["background", "road"])
    assert labels.mask_reader() == IndexMaskReader(2, 254)


def test_colours_by_name():
    labels = parse_labels(STREET)
    assert labels.classes == ("road", "sky")
    colors = {(128, 64, 128): 0, (70, 130, 180): 1, (0, 0, 230): 1}
    assert labels.mask_reader() == ColorMaskReader(colors, 255, ((0, 0, 0),))


def test_colours_can_be_given_again():
    assert parse_labels(parse_labels(STREET).plain_classes) == parse_labels(STREET)


def test_colours_without_any_to_ignore():
    assert parse_labels({"road": [1, 2, 3], "sky": [4, 5, 6]}).mask_reader().ignored == ()


def test_values_are_mapped():
    labels = parse_labels(["background", "road"], value_map={7: 0, -1: 1, 8: "ignore"})
    assert labels.mask_reader() == IndexMaskReader(2, 255, {7: 0, -1: 1, 8: "ignore"})
    assert labels.mask_reader().classes_of(np.array([[7, -1, 8]]), "a").tolist() == [[0, 1, 255]]


def test_binary_and_multilabel(tmp_path):
    assert parse_labels(["background", "cell"], mask_format="binary").mask_reader() == BinaryMaskReader()
    labels = parse_labels(["cell"], mask_format="multilabel")
    assert (labels.mode, labels.mask_reader()) == ("multilabel", MultilabelMaskReader(("cell",)))


@pytest.mark.parametrize(
    ("classes", "options", "fault"),
    [
        ("road", {}, r"'road': must be a list, for example '\[background, road\]', or colours by name"),
        (7, {}, "7: must be a list"),
        (["road", True], {}, r"True isn't a name; quote it if YAML reads it so: \['on', '1'\]"),
        (["road", " "], {}, "' ' isn't a name"),
        (["road", "ignore"], {}, "ignore names what is no class; leave it out of the list"),
        (["a", "b", "a"], {}, "a given more than once; names must differ"),
        (["road"], {}, "got 1 names; 2 to 255 classes are possible"),
        ([str(i) for i in range(256)], {}, "got 256 names; 2 to 255"),
        ([], {"mask_format": "multilabel"}, "got 0 names; 1 to 255"),
        (["a", "b"], {"ignore_index": 256}, r"ignore_index 256: must be in 0\.\.255"),
        (["a", "b"], {"ignore_index": -1}, r"ignore_index -1: must be in 0\.\.255"),
        (
            ["a", "b"],
            {"ignore_index": 1, "mask_format": "multilabel"},
            "ignore_index 1: in multilabel masks 0 is no and",
        ),
        (["a", "b", "c"], {"mask_format": "binary"}, "binary needs exactly two classes; got a, b, c"),
        ({}, {}, "classes is empty; give a colour for each class"),
        ({"ignore": [0, 0, 0]}, {}, "got 0 names"),
        ({"road": [0, 0, 0]}, {}, "got 1 names"),
        ({1: [0, 0, 0], "b": [1, 1, 1]}, {}, "1 isn't a name"),
        ({"a": "red", "b": [1, 1, 1]}, {}, "the colour of a is 'red'; it must be three numbers from 0 to 255, red, gr"),
        ({"a": [1, 2], "b": [1, 1, 1]}, {}, r"the colour of a is \[1, 2\]"),
        ({"a": [], "b": [1, 1, 1]}, {}, r"the colour of a is \[\]"),
        ({"a": [0, 0, 256], "b": [1, 1, 1]}, {}, r"the colour of a is \[0, 0, 256\]"),
        ({"a": [0, 0, 0.5], "b": [1, 1, 1]}, {}, r"the colour of a is \[0, 0, 0\.5\]"),
        ({"a": [0, 0, True], "b": [1, 1, 1]}, {}, r"the colour of a is \[0, 0, True\]"),
        ({"a": [[0, 0, 0], 5], "b": [1, 1, 1]}, {}, "the colour of a is 5"),
        ({"a": None, "b": [1, 1, 1]}, {}, "the colour of a is None"),
        ({"a": [0, 0, 0], "b": [0, 0, 0]}, {}, r"a and b both have the colour \[0, 0, 0\]; give each colour once"),
        ({"a": [0, 0, 0], "b": [1, 1, 1], "ignore": [0, 0, 0]}, {}, "a and ignore both have the colour"),
        ({"a": [[0, 0, 0], [0, 0, 0]], "b": [1, 1, 1]}, {}, r"a has twice the colour \[0, 0, 0\]"),
        (STREET, {"mask_format": "binary"}, "--data.mask_format binary doesn't go with colours in --data.classes"),
        (
            STREET,
            {"value_map": {1: 0}},
            "--data.value_map doesn't go with colours in --data.classes; leave one of them",
        ),
        (["a", "b"], {"value_map": {}}, "value_map is empty; give a class for each value"),
        (["a", "b"], {"value_map": {"seven": 0}}, "'seven': 0 isn't a value and its class, such as 7: 0, or 8: ignore"),
        (["a", "b"], {"value_map": {True: 0}}, "True: 0 isn't a value and its class"),
        (["a", "b"], {"value_map": {7: "road"}}, "7: 'road' isn't a value and its class"),
        (["a", "b"], {"value_map": {7: 2}}, r"value 7 has class 2; the 2 classes are 0\.\.1"),
        (["a", "b"], {"value_map": {7: -1}}, "value 7 has class -1"),
        (["a", "b"], {"value_map": {2**63: 0}}, "9223372036854775808 is larger than any value of a mask"),
        (
            ["a", "b"],
            {"value_map": {1: 0}, "mask_format": "binary"},
            "index masks; leave it or --data.mask_format binary",
        ),
    ],
)
def test_faults_are_named(classes: Any, options: dict[str, Any], fault: str):
    with pytest.raises(DataError, match=fault):
        parse_labels(classes, **options)


def test_mask_format_that_does_not_exist():
    with pytest.raises(OptionError, match=r"mask_format is 'multilable'; it can be .* Did you mean 'multilabel'"):
        parse_labels(["a", "b"], mask_format="multilable")


def test_labels_can_be_sent_to_a_worker(tmp_path):
    labels = pickle.loads(pickle.dumps(parse_labels(STREET)))
    Image.fromarray(np.array([[[0, 0, 230], [0, 0, 0]]], np.uint8)).save(tmp_path / "a.png")
    assert labels.mask_reader()(tmp_path / "a.png", (1, 2)).tolist() == [[1, 255]]


def test_values_may_be_written_as_words_as_json_does():
    assert parse_labels(["a", "b"], value_map={"7": 0, "-1": 1}).value_map == {7: 0, -1: 1}


@pytest.mark.parametrize(
    "options",
    [
        {"classes": {"ground": [0, 0, 0], "road": [9, 9, 9]}},
        {"classes": ["a", "b"], "mask_format": "binary"},
        {"classes": ["a", "b"], "value_map": {7: 0, 8: 1, 9: "ignore"}},
    ],
    ids=["colours", "binary", "value map"],
)
def test_a_class_that_is_read_is_never_the_one_that_is_ignored(options: dict[str, Any]):
    with pytest.raises(DataError, match=r"ignore_index 1 is the index of a class, .* read as 0\.\.1; give 2 to 255"):
        parse_labels(**options, ignore_index=1)
    assert parse_labels(**options, ignore_index=2).ignore_index == 2


@pytest.mark.parametrize(
    ("mask_format", "mode", "chosen"),
    [
        ("index", None, "multiclass"),
        ("index", "multiclass", "multiclass"),
        ("index", "binary", "binary"),
        ("binary", None, "multiclass"),
        ("binary", "binary", "binary"),
        ("multilabel", None, "multilabel"),
        ("multilabel", "multilabel", "multilabel"),
    ],
)
def test_the_mode_follows_the_masks_or_what_was_asked(mask_format: Any, mode: Any, chosen: str):
    assert chosen_mode(parse_labels(["a", "b"], mask_format=mask_format), mode) == chosen


@pytest.mark.parametrize(
    ("classes", "mask_format", "mode", "fault"),
    [
        (
            "abc",
            "index",
            "binary",
            "--data.mode binary needs exactly two classes; got a, b, c. Leave the option out",
        ),
        ("ab", "index", "multilabel", "multilabel needs a mask a class, .* with --data.mask_format multilabel"),
        (
            "ab",
            "multilabel",
            "multiclass",
            r"multiclass needs masks with one class a pixel, .* a class \(a, b\);",
        ),
        ("ab", "multilabel", "binary", "--data.mode binary needs masks with one class a pixel, .* or give multilabel"),
    ],
)
def test_a_mode_that_the_masks_do_not_have(classes: str, mask_format: Any, mode: Any, fault: str):
    with pytest.raises(DataError, match=fault):
        chosen_mode(parse_labels([*classes], mask_format=mask_format), mode)


def test_a_mode_that_does_not_exist():
    with pytest.raises(OptionError, match=r"--data\.mode is 'binar'; it can be .* Did you mean 'binary'"):
        chosen_mode(parse_labels(["a", "b"]), "binar")
