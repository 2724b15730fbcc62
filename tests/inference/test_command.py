"""The verb predict: where masks go, and what happens to bad files."""

from pathlib import Path

import pytest
from PIL import Image
from prediction_jobs import write_image

from unetseg.inference.command import main


def test_files_and_folders_keep_their_names(tmp_path: Path, checkpoint: Path) -> None:
    photos = tmp_path / "photos"
    write_image(tmp_path / "photo.jpg", 35, 35)
    write_image(photos / "a.png", 33, 47)
    write_image(photos / "deep" / "er" / "b.JPG", 5, 61)
    write_image(photos / ".hidden" / "c.png")
    (photos / "notes.txt").write_text("no image")
    output = tmp_path / "masks"
    assert main([str(tmp_path / "photo.jpg"), str(photos), f"--ckpt_path={checkpoint}", f"--output={output}"]) == 0
    written = sorted(str(path.relative_to(output)) for path in output.rglob("*.*"))
    assert written == ["_legend.json", "_legend.png", "a.png", "deep/er/b.png", "photo.png"]
    for name, size in (("photo", (35, 35)), ("a", (47, 33)), ("deep/er/b", (61, 5))):
        with Image.open(output / f"{name}.png") as mask:
            assert (mask.mode, mask.size) == ("P", size)


def test_orientation_is_that_which_a_person_sees(tmp_path: Path, checkpoint: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    write_image(tmp_path / "in" / "turned.jpg", 20, 34, exif=exif)
    main([str(tmp_path / "in"), f"--ckpt_path={checkpoint}", f"--output={tmp_path / 'out'}", "--save=mask,overlay"])
    for name in ("turned.png", "turned.overlay.jpg"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.size == (20, 34)


def test_bad_files_are_reported_and_the_others_written(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    write_image(photos / "good.png")
    write_image(photos / "zood.png")
    (photos / "empty.jpg").touch()
    (photos / "text.png").write_text("not an image")
    cut = write_image(photos / "cut.png", 90, 90)
    cut.write_bytes(cut.read_bytes()[:2000])
    assert main([str(photos), f"--ckpt_path={checkpoint}", f"--output={tmp_path / 'out'}"]) == 1
    captured = capsys.readouterr()
    assert "2 of 5 images predicted" in captured.out
    assert "error: 3 of 5 images could not be predicted:" in captured.err
    assert all(name in captured.err for name in ("empty.jpg", "text.png", "cut.png"))
    assert "Traceback" not in captured.err
    assert {path.name for path in (tmp_path / "out").glob("*ood.png")} == {"good.png", "zood.png"}
