"""The verb inspect, in-process, as a person types it."""

import contextlib
import json
import re
from pathlib import Path

import pytest
import pytorch_lightning as pl
import yaml
from PIL import Image

from unetseg.__main__ import main
from unetseg.task import SegmentationTask

NARROW = ["--model.decoder_channels=[8, 8, 8, 8, 8]"]
SMALL = ["--model.encoder_depth=3", "--model.decoder_channels=[16, 8, 8]"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    task = SegmentationTask(["sky", "road", "car"], encoder_depth=3, decoder_channels=[8, 8, 4], head="conv")
    trainer.strategy.connect(task)
    task.trainer = trainer
    trainer.save_checkpoint(tmp_path / "best.ckpt", weights_only=True)
    return tmp_path / "best.ckpt"


def inspect(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["inspect", *options]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert max(map(len, said.out.splitlines())) <= 110
    return said.out


def row(said: str, name: str) -> list[str]:
    """The cells of a row of the table."""
    (line,) = [line for line in said.splitlines() if re.match(rf"{re.escape(name)}  ", line)]
    return re.split(r"  +", line)


def words(said: str) -> str:
    return " ".join(said.split())


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    said = inspect(capsys, "--model.encoder", "densenet121", *NARROW, "--size", "251", "333", "--classes=12")
    assert "encoder densenet121, depth 5: 6,953,856 parameters," in said
    assert row(said, "size") == ["size", "251x333", "126x167", "63x84", "31x42", "15x21", "7x10"]
    assert row(said, "channels") == ["channels", "image", "64", "256", "512", "1024", "1024"]
    cells = ["7x10", "down", "4", "2", "1", "15x21", "+1", "+1", "1024", "8", "205,408", "0.065"]
    assert row(said, "0") == ["0", *cells]
    assert row(said, "3")[1:9] == ["63x84", "up", "4", "2", "1", "126x167", "0", "-1"]
    assert row(said, "head")[-3:-1] == ["12", "876"]
    assert "+1, one row beyond the layer's natural size is computed; -1, its last row is left away" in words(said)
    assert "warning" not in said
    header = next(line for line in said.splitlines() if line.startswith("stage "))
    over = said.splitlines()[said.splitlines().index(header) - 1]
    assert over.index("output padding") + len("output padding") == header.index(" W ") + 2
    assert over.rstrip().endswith("channels")
    assert len(over) == header.index(" out ") + 4


def test_a_warning_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    encoder = ["--model.encoder=tu-convnext_atto", *NARROW]
    said = inspect(capsys, *encoder, "--model.upsample.kernel_size=2", "--size", "97", "131")
    assert (
        "warning: decoder stages [0, 1, 2, 3, 4] (0 is the deepest): at some sizes the last rows or columns hold the "
        "bias alone; upsample.kernel_size 4 leaves none."
    ) in words(said)
    assert "hold the bias alone at this size: decoder stage 3 (stride 4 to 2): 1 row and 1 column;" in words(said)
    assert "decoder stage 4 (stride 2 to 1): 1 column." in words(said)
    assert "UserWarning" not in said


def test_methods_that_are_no_plain_transposed_convolution(capsys: pytest.CaptureFixture[str]) -> None:
    method = "--model.upsample.method=[nearest, pixel_shuffle, blurred_conv_transpose]"
    said = inspect(capsys, *SMALL, method, "--size", "61", "83")
    assert row(said, "0")[:9] == ["0", "8x11", "up", "-", "-", "-", "16x21", "-", "-"]
    assert row(said, "1")[:9] == ["1", "16x21", "up", "6", "2", "2", "31x42", "-1", "0"]
    assert "Interpolation stretches its map" in said
    assert "Kernel and padding of a pixel shuffle" in said
    assert "Kernel and padding of a blurred layer" in said


def test_dilation_and_pairs_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model.upsample.kernel_size=[[4, 6], 4, 3]", "--model.upsample.dilation=[1, 1, 3]"]
    said = inspect(capsys, *SMALL, *options, "--size", "61", "83")
    assert row(said, "0")[3:6] == ["4x6", "2", "1x2"]
    assert row(said, "2")[3] == "3 d3"


def test_nodes_and_auxiliary_heads(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model.decoder=unetplusplus", "--model.head=upsample", "--model.deep_supervision=true"]
    said = inspect(
        capsys, "--model.encoder_depth=3", "--model.decoder_channels=[16, 8]", *options, "--size", "61", "83"
    )
    assert row(said, "1 (2 nodes)")[1:3] == ["16x21", "up"]
    assert row(said, "head")[1:9] == ["31x42", "up", "4", "2", "1", "61x83", "-1", "-1"]
    assert row(said, "aux. 0")[6] == "61x83"
    assert "Auxiliary heads (aux.) run in training only" in said


def test_a_checkpoint_brings_its_network(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = inspect(capsys, f"--ckpt_path={checkpoint}", "--size", "61", "83")
    assert "encoder resnet18, depth 3" in said
    assert row(said, "head")[-3] == "3"


def test_a_recipe_brings_its_model(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = {
        "seed_everything": 0,
        "ckpt_path": "earlier.ckpt",
        "data": {"classes": ["a", "b", "c", "d"], "batch_size": 8},
        "model": {"encoder_depth": 3, "encoder_weights": "imagenet", "lr": 0.1, "upsample": {"kernel_size": 6}},
        "trainer": {"max_epochs": 3},
    }
    Path("my.yaml").write_text(yaml.safe_dump(recipe))
    said = inspect(capsys, "--config=my.yaml", "--data.root=x", "--model.decoder_channels=[8, 8, 4]")
    assert row(said, "head")[-3] == "4"
    assert row(said, "2")[3] == "6"
    assert row(inspect(capsys, "--config=my.yaml", "--classes=7"), "head")[-3] == "7"


@pytest.mark.parametrize("config", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_recipe_can_be_inspected(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = inspect(capsys, f"--config={config}", *NARROW)
    assert row(said, "head")[-3] == str(len(yaml.safe_load(config.read_text())["data"]["classes"]))


def test_json_holds_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    kernel = "--model.upsample.kernel_size=3"
    said = inspect(capsys, *SMALL, kernel, "--size", "61", "83", "--json=table.json")
    assert "table written to table.json" in said
    table = json.loads(Path("table.json").read_text())
    assert table["size"] == [61, 83]
    first = table["stages"][0]
    assert (first["upsampling"]["source"], first["upsampling"]["wanted"]) == ([8, 11], [16, 21])
    assert first["upsampling"]["output_padding"] == [1, 0]
    assert table["flops"] == table["encoder"]["flops"] + sum(s["flops"] for s in table["stages"]) + 83 * 61 * 288
    assert "checkerboard" in table["warnings"][0]


def test_the_stage_that_shows_something_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--size", "64", "83"]
    said = inspect(capsys, *SMALL, *size, "--plot=a.png")
    assert "decoder stage 0 (stride 8 to 4), width, drawn to a.png" in said  # 11 to 21
    said = inspect(capsys, *SMALL, *size, "--plot=b.png", "--plot_stage=2")
    assert "decoder stage 2 (stride 2 to 1), width, drawn to b.png" in said  # 42 to 83
    said = inspect(capsys, *SMALL, "--size", "64", "64", "--plot=c.png")
    assert "decoder stage 2 (stride 2 to 1), height, drawn to c.png" in said
    with Image.open("c.png") as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--size", "251"], 2, r"--size: expected 2 arguments For example: --size 251 333"),
        (["--size", "0", "4"], 2, r'"size".*0.* For example: --size 251 333'),
        (["--classes", "0"], 2, r'"classes".*0 For example: --classes 12'),
        (["--sise", "3", "4"], 2, r"--sise.* Did you mean --size\?"),
        (["--model.encodr=x"], 2, r"--model.encodr.* Did you mean --model.encoder\?"),
        (["--model.block.norm=bacth"], 2, r"model.block.norm.*bacth For example: --model.block.norm batch"),
        (["--config=nowhere.yaml"], 2, r"nowhere.yaml"),
        (["--model.encoder=resnet43"], 1, r"'resnet43' doesn't exist. Did you mean .*resnet34"),
        (["--model.upsample.kernel_size=1"], 1, r"stage 0 .*kernel 1 is too small for stride 2"),
        (
            ["--model.encoder=tu-convnext_atto", *NARROW, "--size", "20", "30"],
            1,
            r"30x20 pixels is too small .* takes 32x32 and more",
        ),
        (["--ckpt_path=nowhere.ckpt"], 1, r"there is no checkpoint file nowhere.ckpt"),
        (
            ["--ckpt_path=a.ckpt", "--model.encoder=resnet34"],
            1,
            r"--model.encoder and --ckpt_path don't go together: a checkpoint brings its own network and classes",
        ),
        (["--ckpt_path=a.ckpt", "--classes=3"], 1, r"--classes and --ckpt_path don't go together"),
        (["--plot=a.gif"], 1, r"--plot is a.gif; give a file that ends in .png"),
        (["--plot=nowhere/a.png"], 1, r"there is no folder nowhere"),
        (["--plot_stage=1"], 1, r"--plot_stage 1 needs --plot FILE.png"),
        ([*SMALL, "--plot=a.png", "--plot_stage=3"], 1, r"--plot_stage is 3; .* stages 0 \(deepest\) to 2"),
        ([*SMALL, "--plot=a.png", "--model.upsample.method=nearest"], 1, r"stage 2 .* interpolates"),
        ([*SMALL, "--json=nowhere/a.json"], 1, r"--json is nowhere/a.json; there is no folder nowhere"),
    ],
)
def test_mistakes_are_explained(args: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    given: int | None = 2
    with contextlib.suppress(SystemExit):
        given = main(["inspect", *args])
    said = capsys.readouterr()
    assert given == code
    assert said.out == ""  # no table before an error
    assert said.err.count("\n") == 1
    assert re.search(rf"^error: .*{message}", said.err), said.err
    assert not list(Path().iterdir())


def test_no_checkpoint_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(capsys, *SMALL, "--ckpt_path=null") == inspect(capsys, *SMALL)
