"""What goes wrong on the way: it is listed, costs no other image, and leaves no half file."""

import os
import signal
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from prediction_jobs import files, make_task, pixels, predict, save, write_image, write_raster, write_tiff

from unetseg.__main__ import main
from unetseg.inference.predictor import Predictor

ALL = "--save=mask,overlay,probabilities,polygons,shares"


def bomb_png(path: Path) -> None:
    """A PNG of 100 bytes whose header claims ten billion pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def bomb_tiff(path: Path) -> None:
    """A TIFF whose header claims as many, in one strip of which nothing is there."""
    tags = [(256, 4, 1, 100_000), (257, 4, 1, 100_000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 100_000), (279, 4, 1, 2**31)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4))


def damaged_tiff(path: Path) -> None:
    """One whose first blocks are as they were, and one in the middle isn't."""
    write_raster(path, pixels(900, 60))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        at, count = (numbers[len(page.dataoffsets) // 2] for numbers in (page.dataoffsets, page.databytecounts))
    content = bytearray(path.read_bytes())
    content[at : at + count] = bytes(255 for _ in range(count))
    path.write_bytes(content)


def cut_png(path: Path) -> None:
    write_image(path, 90, 90)
    path.write_bytes(path.read_bytes()[:2000])


def cut_tiff(path: Path) -> None:
    write_tiff(path, pixels(90, 90))
    path.write_bytes(path.read_bytes()[:-9000])


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "b_bomb.png": (bomb_png, "it has 10,000,000,000 pixels, and at most"),
    "c_bomb.tif": (bomb_tiff, "can't be read as an image"),
    "d_cut.png": (cut_png, "truncated"),
    "e_cut.tif": (cut_tiff, "can't be read as an image"),
    "f_empty.jpg": (Path.touch, "the file is empty"),
    "g_five.tif": (lambda path: write_raster(path, pixels(40, 41, 5)), "has 5 channels, and 3 are wanted"),
    "h_middle.tif": (damaged_tiff, "it is damaged in rows"),
    "i_small.png": (lambda path: write_image(path, 31, 200), "takes 32x32 and more"),
    "j_small.tif": (lambda path: write_raster(path, pixels(9, 50)), "takes 32x32 and more"),
    "k_strip.png": (lambda path: Image.new("RGB", (40_000, 30)).save(path), "takes 32x32 and more"),
    "m_text.png": (lambda path: path.write_text("not an image"), "its format isn't one that Pillow knows"),
}


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that takes no image below 32 pixels a side."""
    task = make_task(encoder="vgg11", encoder_depth=5, decoder_channels=[8] * 5)
    return save(task, tmp_path_factory.mktemp("deep") / "vgg.ckpt")


def test_bad_files_among_good_ones(tmp_path: Path, deep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = {"a_good.png", "h_good.png", "l_good.tif", "z_good.png"}
    photos = tmp_path / "in"
    write_tiff(photos / "l_good.tif", pixels(35, 36))
    for name in good - {"l_good.tif"}:
        write_image(photos / name, 35, 36)
    for name, (make, _) in BAD.items():
        make(photos / name)
    (photos / "n_gone.png").symlink_to("nowhere")  # these two are no files
    (photos / "o_folder.png").mkdir()
    assert predict(photos, deep, tmp_path / "out", ALL, "--batch_size=3", "--tile=512") == 1
    said = capsys.readouterr()
    assert f"{len(good)} of {len(good) + len(BAD)} images predicted to" in said.out
    head, *reasons = said.err.splitlines()
    assert head == f"error: {len(BAD)} of {len(good) + len(BAD)} images could not be predicted:"
    for (name, (_, reason)), line in zip(BAD.items(), reasons, strict=True):
        assert line.startswith(f"  {photos / name}"), line
        assert reason in line
    written = {Path(name).name.split(".")[0] for name in files(tmp_path / "out")}
    assert written == {name.split(".")[0] for name in good} | {"_legend", "_shares"}
    assert not [name for name in files(tmp_path / "out") if Path(name).name.startswith(".")]
    assert len(files(tmp_path / "out")) == 3 + 4 * len(good)


def test_a_single_input_that_is_gone(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gone.png").symlink_to("nowhere")
    argv = ["predict", str(tmp_path / "gone.png"), f"--ckpt_path={checkpoint}", f"--output={tmp_path / 'out'}"]
    assert main(argv) == 1
    assert capsys.readouterr().err == f"error: there is no file or folder {tmp_path / 'gone.png'}.\n"


def test_memory_that_is_not_enough_costs_one_image(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three images together are too much, and one of them is by itself."""
    for name, width in {"a": 34, "b": 35, "c": 35, "d": 35}.items():
        write_image(tmp_path / "in" / f"{name}.png", 36, width)
    make = Predictor.from_checkpoint.__func__

    def limited(cls: type[Predictor], *args: Any, **options: Any) -> Predictor:
        predictor = make(cls, *args, **options)
        whole = predictor.network.forward

        def short_of_memory(image: torch.Tensor) -> torch.Tensor:
            if len(image) > 1 or image.shape[-1] == 34:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(image)

        predictor.network.forward = short_of_memory
        return predictor

    monkeypatch.setattr(Predictor, "from_checkpoint", classmethod(limited))
    assert predict(tmp_path / "in", checkpoint, tmp_path / "out", "--batch_size=3") == 1
    reasons = capsys.readouterr().err.splitlines()[1:]
    (reason,) = reasons
    assert reason.startswith(f"  {tmp_path / 'in' / 'a.png'}: the network's maps of 1 x 34x36 pixels don't fit")
    assert "--tile 512" in reason
    assert {path.name for path in (tmp_path / "out").glob("?.png")} == {"b.png", "c.png", "d.png"}
    assert predict(tmp_path / "in", checkpoint, tmp_path / "other", "--batch_size=1") == 1


def test_an_image_that_cannot_be_written_costs_no_other(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write_image(tmp_path / "in" / name)
    (tmp_path / "out" / "b.png" / "full").mkdir(parents=True)
    assert predict(tmp_path / "in", checkpoint, tmp_path / "out") == 1
    assert "b.png can't be written to" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "out").glob("?.png") if path.is_file()} == {"a.png", "c.png"}


def test_a_disk_that_is_full_is_one_line(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow and NumPy leave the file's name out."""
    path = write_image(tmp_path / "in" / "a.png")

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unetseg.inference.writers.np.save", full)
    argv = ["predict", str(tmp_path / "in"), f"--ckpt_path={checkpoint}", f"--output={tmp_path / 'out'}"]
    assert main([*argv, "--save=probabilities"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f"error: the outputs of {path} can't be written to {tmp_path / 'out'}: No space left on device."
    assert set(files(tmp_path / "out")) == {"_legend.json", "_legend.png"}


def test_an_interruption_leaves_whole_files(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        write_image(tmp_path / "in" / f"{number:02}.png", 33, 30 + number)
    predicted: list[int] = []
    original = Predictor.predict

    def interrupted(self: Predictor, images: list[np.ndarray], **options: Any) -> Any:
        predicted.append(len(images))
        if len(predicted) == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, images, **options)

    monkeypatch.setattr(Predictor, "predict", interrupted)
    argv = ["predict", str(tmp_path / "in"), f"--ckpt_path={checkpoint}", f"--output={tmp_path / 'out'}"]
    # where the tests run in the background, the signal is ignored
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main([*argv, ALL]) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert "Traceback" not in capsys.readouterr().err
    names = set(files(tmp_path / "out"))
    assert len([name for name in names if name.endswith("probabilities.npy")]) in (7, 8)
    assert not [name for name in names if name.startswith(".")]
    monkeypatch.undo()
    assert main([*argv, ALL, "--skip_existing"]) == 0
    assert main([*argv[:-1], f"--output={tmp_path / 'whole'}", ALL]) == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")
