"""Every image's files have a place of their own, inside the output, whatever images are called."""

import itertools
import os
from pathlib import Path

import pytest

from unetseg.errors import DataError
from unetseg.inference.inputs import COMMON_FILES, SUFFIXES, image_name, plan_outputs


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def plan(folder: Path, *inputs: str | Path, output: str = "out", class_folders: tuple[str, ...] = ()) -> dict[str, str]:
    """Stems by source, both relative and in the plan's order."""
    planned = plan_outputs([folder / name for name in inputs], folder / output, class_folders=class_folders)
    assert not any(stem.is_absolute() or ".." in stem.parts for stem in planned.values())
    return {os.path.relpath(source, folder): str(stem) for source, stem in planned.items()}


def test_folders_are_kept_and_sorted_by_their_parts(tmp_path: Path) -> None:
    touch(tmp_path / "in", "b.png", "a/z.JPG", "a-b/c.tif", "a.jpg", "notes.txt", ".hidden.png", ".deep/a.png")
    (tmp_path / "in" / "folder.png").mkdir()
    assert list(plan(tmp_path, "in").values()) == ["a/z", "a-b/c", "a", "b"]


def test_only_the_suffix_of_an_image_is_one(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.b.jpg", "a.c.jpg", "v1.2/x.PNG", "...d.png")
    touch(tmp_path, "scan.2024", "plain")
    assert list(plan(tmp_path, "in", "scan.2024", "plain").values()) == ["a.b", "a.c", "v1.2/x", "scan.2024", "plain"]


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
        (["deep/a.jpg", "a.jpg"], ["a", "deep/a"]),
        # one that keeps its suffix makes another keep its own
        (["a.gif", "a.jpg", "a.jpg.bmp", "a.jpg.bmp.tif"], ["a.gif", "a.jpg", "a.jpg.bmp", "a.jpg.bmp.tif"]),
        # on systems without case, and on those with one way to write an accent
        (["A.jpg", "a.png", "b.PNG"], ["A.jpg", "a.png", "b"]),
        (["Deep/a.jpg", "deep/a.png"], ["Deep/a.jpg", "deep/a.png"]),
        (["e\u0301.jpg", "\u00e9.png"], ["e\u0301.jpg", "\u00e9.png"]),
        # what the prediction writes itself
        (["_legend.jpg", "_shares.png", "deep/_legend.jpg"], ["_legend.jpg", "_shares.png", "deep/_legend"]),
        (["_LEGEND.jpg"], ["_LEGEND.jpg"]),
        # a mask a.png has no place where there is a folder a.png
        (["a.jpg", "a.png/b.jpg", "b.jpg", "b.overlay.jpg/c.jpg"], ["a.jpg", "a.png/b", "b.jpg", "b.overlay.jpg/c"]),
    ],
)
def test_names_that_would_collide_keep_their_suffix(tmp_path: Path, names: list[str], stems: list[str]) -> None:
    touch(tmp_path / "in", *names)
    assert sorted(plan(tmp_path, "in").values()) == sorted(stems)


def test_files_that_differ_in_case_alone_are_kept_apart_by_a_system_that_does(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.jpg", "A.jpg", "b.JPG", "b.jpg")
    assert sorted(plan(tmp_path, "in").values()) == ["A.jpg", "a.jpg", "b.JPG", "b.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_and_refused_where_the_output_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in", "a.jpg", "A.jpg")
    touch(tmp_path / "one", "a.jpg", "b.png")
    original = Path.touch
    monkeypatch.setattr(
        Path, "touch", lambda path, exist_ok=True: original(path.with_name(path.name.lower()), exist_ok=exist_ok)
    )
    with pytest.raises(DataError, match=r"A.jpg and .*a.jpg would write the same mask; predict them into separate"):
        plan(tmp_path, "in")
    assert plan(tmp_path, "one") == {"one/a.jpg": "a", "one/b.png": "b"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "one"]


def test_no_file_of_one_image_is_that_of_another(tmp_path: Path) -> None:
    """Suffixes of which none ends with another keep files of different stems apart, however their names are derived."""
    assert not [pair for pair in itertools.permutations(SUFFIXES, 2) if pair[0].endswith(pair[1])]
    derived = [f"a{suffix}" for suffix in SUFFIXES] + [f"a{suffix}.png" for suffix in SUFFIXES]
    names = {
        "a.jpg",
        "a.bmp",
        "a.overlay.png",
        "a.overlay.tif",
        "a.probabilities.png",
        "_legend.png",
        "_shares.jsonl.gif",
    }
    images = touch(tmp_path / "in", *names, *derived)
    stems = list(plan(tmp_path, "in", *images).values())
    files = [*COMMON_FILES, *(f"{stem}{suffix}".lower() for stem in stems for suffix in SUFFIXES)]
    assert len(stems) == len(set(images))
    assert len(files) == len(set(files))


def test_an_image_counts_once_with_its_longest_path(tmp_path: Path) -> None:
    touch(tmp_path / "in", "deep/b.jpg", "a.jpg")
    (tmp_path / "link").symlink_to("in")
    for inputs in itertools.permutations(["in", "in/deep/b.jpg", "in/deep", "link", "in/../in/a.jpg", "link/a.jpg"]):
        assert sorted(plan(tmp_path, *inputs, *inputs).values()) == ["a", "deep/b"]


def test_relative_inputs_do_not_leave_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in", "deep/b.jpg", "a.jpg")
    monkeypatch.chdir(tmp_path / "in" / "deep")
    for inputs in (
        ["."],
        ["b.jpg"],
        ["../deep"],
        ["../deep/../deep/b.jpg"],
        [tmp_path / "in" / "deep" / "b.jpg", "b.jpg"],
    ):
        assert list(plan_outputs(map(Path, inputs), Path("../../out")).values()) == [Path("b")]
    planned = plan_outputs([Path("..")], Path("../../out"))
    assert planned == {Path("../a.jpg"): Path("a"), Path("../deep/b.jpg"): Path("deep/b")}


def test_links_are_images_with_names_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.jpg")
    touch(tmp_path / "far", "b.jpg")
    (tmp_path / "in" / "link.jpg").symlink_to("a.jpg")
    (tmp_path / "in" / "broken.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "far")  # isn't followed: it could lead into a circle
    assert plan(tmp_path, "in") == {"in/a.jpg": "a", "in/link.jpg": "link"}


def test_masks_of_an_earlier_run_are_no_input(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.jpg", "masks/a.png", "masks/deep/b.png", "masks2/c.jpg")
    (tmp_path / "in" / "link.png").symlink_to("masks/a.png")
    assert plan(tmp_path, "in", output="in/masks") == {"in/a.jpg": "a", "in/masks2/c.jpg": "masks2/c"}
    (tmp_path / "out").symlink_to("in/masks")
    assert plan(tmp_path, "in") == {"in/a.jpg": "a", "in/masks2/c.jpg": "masks2/c"}
    # given themselves, they are
    assert plan(tmp_path, "in/masks/deep", output="in/masks") == {"in/masks/deep/b.png": "b"}


def test_each_image_has_a_name_for_tables(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.jpg", "a.png", "deep/a.png", "b.c.tif")
    planned = plan_outputs([tmp_path / "in"], tmp_path / "out")
    assert [image_name(*item) for item in planned.items()] == ["a.jpg", "a.png", "b.c.tif", "deep/a.png"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["nowhere"], "there is no file or folder .*nowhere"),
        (["one/" + "x" * 300], "there is no file or folder .*xxx"),
        (["empty"], r"no images in .*empty; image files end in .*\.png"),
        (["one", "two"], "one/a.png and .*two/a.png would write the same mask; predict them into separate folders"),
        (["out"], r"/out is --output, too, where images and masks would mix; give another --output"),
        (["one/a.png", "out/b/a.overlay.jpg", "b.jpg"], r"the mask .*out/_legend.png would overwrite an image"),
        (["pages"], r"out/_legend.PNG would be a folder of masks and a file of its own; rename it"),
        (["_legend"], r"_legend: files named after it would be in the place of others in .*out; rename it"),
    ],
)
def test_mistakes_are_explained_before_anything_is_written(tmp_path: Path, inputs: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "one/a.png", "two/a.png", "out/a.png", "out/b/a.overlay.jpg", "b.jpg", "_legend")
    touch(tmp_path, "pages/_legend.PNG/a.png")
    if "b.jpg" in inputs:
        touch(tmp_path, "out/_legend.png")
        inputs = [*inputs, "out/_legend.png"]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=message):
        plan(tmp_path, *inputs)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_kind_of_file_overwrites_an_input(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "photo.jpg", f"out/photo{suffix}", f"out/road/photo{suffix}", "new/a.jpg")
    # beside photo.jpg, photo.png would keep its suffix
    photo = [] if suffix in (".png", ".tif") else ["photo.jpg"]
    with pytest.raises(DataError, match=rf"the mask .*out/photo{suffix} would overwrite an image"):
        plan(tmp_path, *photo, f"out/photo{suffix}")  # a file that is given may end in anything
    (tmp_path / "link.gif").symlink_to(f"out/photo{suffix}")
    with pytest.raises(DataError, match=rf"the mask .*out/photo{suffix} would overwrite an image"):
        plan(tmp_path, "photo.jpg", "link.gif")
    (tmp_path / "out" / f"a{suffix}").symlink_to("../new/a.jpg")
    with pytest.raises(DataError, match=rf"the mask .*out/a{suffix} would overwrite an image"):
        plan(tmp_path, *(["new"] if photo else []), f"out/a{suffix}")
    # of the classes' folders only those that there are
    inputs = [*photo, f"out/road/photo{suffix}"]
    assert plan(tmp_path, *inputs, class_folders=("sky",))
    with pytest.raises(DataError, match=rf"the mask .*out/road/photo{suffix} would overwrite an image"):
        plan(tmp_path, *inputs, class_folders=("sky", "road"))


@pytest.mark.parametrize("place", ["deep", "deep/er", "road", "road/deep/er"])
def test_nothing_is_written_through_a_link(tmp_path: Path, place: str) -> None:
    touch(tmp_path / "in", "deep/er/a.jpg")
    (tmp_path / "far").mkdir()
    link = tmp_path / "out" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "far")
    with pytest.raises(DataError, match=rf"out/{place} is a link to .*far, so that masks would be written outside of"):
        plan(tmp_path, "in", class_folders=("road",))
    link.unlink()
    link.touch()
    with pytest.raises(DataError, match=rf"out/{place} is a file, where a folder of masks has to be"):
        plan(tmp_path, "in", class_folders=("road",))
    link.unlink()
    link.mkdir()
    assert plan(tmp_path, "in", class_folders=("road",)) == {"in/deep/er/a.jpg": "deep/er/a"}


def test_a_folder_that_cannot_be_listed_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "in", "a.jpg", "locked/b.jpg")
    original = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(
        DataError, match=r"the folder .*locked can't be read: Permission denied. Change its permissions"
    ):
        plan(tmp_path, "in")
