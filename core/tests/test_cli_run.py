"""``lossylens run`` and ``lossylens ask`` as a user meets them."""

from __future__ import annotations

import dataclasses
import io
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from lossylens.cli import main
from lossylens.run.progress import progress
from PIL import Image

CONFIG = """
codecs: {blocky: {levels: [b64]}}
vlms: {seer: }
tasks: {patches: {images: 3, questions: 2}}
run: {out: run, workers: 1}
"""


@pytest.fixture
def folder(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    noise = Image.effect_noise((20, 16), 90).convert("RGB")
    noise.save(tmp_path / "image.png")
    return tmp_path


def test_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "config.yaml"]) == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["VLM", "adaptor", "codec", "level", "patches", "bpp", "patches"]
    assert [line[:4] for line in lines[1:3]] == [
        ["seer", "none", "uncompressed", "raw"],
        ["seer", "none", "blocky", "b64"],
    ]
    assert lines[1][4] == "24.000"
    assert "1 VLM x 2 codec levels x 1 task = 2 cells" in err
    assert "Answering, seer, blocky: 6 of 6 questions" in err
    assert out.splitlines()[-1] == "Report: run/report/index.html"
    assert (folder / "run" / "report" / "index.html").is_file()


@pytest.mark.parametrize("high", [1, 100])
def test_scores_are_printed_as_reports_show_them(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, high: int
) -> None:
    from lossylens.task import Primary, Resampling
    from lossylens_report.reading import read_run
    from lossylens_sample import plugin, task

    score = task.Patches.score

    def scored(self: task.Patches, predictions: dict[str, str | None]) -> object:
        value = high * 2 / 3
        return dataclasses.replace(
            score(self, predictions),
            value=value,
            metrics={"right": value},
            resampling=Resampling.mean(dict.fromkeys(predictions, 2 / 3), high),
        )

    monkeypatch.setattr(task.Patches, "score", scored)
    monkeypatch.setattr(plugin, "Primary", lambda name, low, _: Primary(name, low, high))
    assert main(["run", "config.yaml"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:3]]
    assert [row[-1] for row in rows] == ["66.67", "66.67"]
    assert [round(cell.value, 2) for cell in read_run(folder / "run").results.cells] == [66.67] * 2


def test_failed_samples_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    override = "tasks.patches.troubles=refused,truncated"
    assert main(["run", "config.yaml", override]) == 1
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith("6 samples failed")
    assert "(2 failed)" in out.splitlines()[1]
    assert "(4 failed)" in out.splitlines()[2]
    assert main(["run", "config.yaml", override]) == 1


def test_dry_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "config.yaml", "--dry-run"]) == 0
    assert "6 questions: 3 encodings, 12 answers" in capsys.readouterr().out
    assert not (folder / "run").exists()


def test_no_report_without_its_packages(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "lossylens_report.page", raising=False)
    assert main(["run", "config.yaml"]) == 0
    assert "pip install 'lossylens[report]'" in capsys.readouterr().err


def test_a_damaged_store_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "run.sqlite").write_bytes(b"nonsense" * 1000)
    assert main(["run", "config.yaml"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err == ["lossylens: cannot use run folder run: file is not a database"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with progress("Encoding", 3, "images") as step:
        for _ in range(3):
            step.advance()
            time.sleep(0.01)
    shown = sys.stderr.getvalue()
    assert "Encoding" in shown
    assert "3/3" in shown
    assert "images/s" in shown


def test_lines_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lossylens.run.progress._QUIET", 0.0)
    with progress("Answering", 4, "questions") as step:
        time.sleep(0.01)
        step.advance(3)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("Answering: 3 of 4 questions, ")
    assert first.endswith(" s left")
    assert last.startswith("Answering: 3 of 4 questions, ")


def test_ask(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "seer", "image.png", "what is it?"]) == 0
    plain = capsys.readouterr()
    assert len(plain.out.strip()) == 12
    assert not plain.err
    assert main(["ask", "seer", "image.png", "what is it?", "--option", "salt=1"]) == 0
    assert capsys.readouterr().out != plain.out
    command = ["ask", "seer", "image.png", "what is it?", "--codec", "blk", "--level", "b64"]
    assert main(command) == 0
    coded = capsys.readouterr()
    assert coded.out != plain.out
    assert coded.err.startswith("blocky b64: ")
    assert coded.err.endswith(" bpp\n")
    adapted = [*command, "--adaptor", "darken", "--adaptor-option"]
    assert main([*adapted, "by=2"]) == 0
    assert capsys.readouterr().out != coded.out
    assert main([*adapted, "by=1"]) == 0
    assert capsys.readouterr().out == coded.out


def test_ask_about_a_square(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["ask", "seer", "image.png", "what is it?", "--codec", "blk", "--level", "b64"]
    assert main([*command, "--codec-option", "square.side=64"]) == 0
    assert capsys.readouterr().err.startswith("blocky b64: ")
    assert main([*command, "--codec-option", "square.side=0"]) == 2
    assert "--codec-option square" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["", "4/3", "x"])
def test_shares_that_are_none(folder: Path, capsys: pytest.CaptureFixture[str], share: str) -> None:
    """An empty one too, which is what a script passes whose variable is not set."""
    assert main(["run", "config.yaml", "--shard", share]) == 2
    assert "--shard: expected a share such as 3/16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["image.png", "q", "--codec", "blocky"], "--codec and --level go together"),
        (["image.png", "q", "--codec", "blocky", "--level", "x1"], "no level 'x1'"),
        (["nothing.png", "q"], "cannot read nothing.png"),
        (["config.yaml", "q"], "config.yaml: cannot read the image"),
        (["image.png", "unanswerable"], "gave no answer: it is beyond me"),
        (["image.png", "q", "--option", "slat=1"], "Did you mean salt"),
        (["image.png", "q", "--adaptor", "darkne"], "Did you mean darken"),
        (
            ["image.png", "q", "--adaptor", "darken", "--adaptor-option", "spares=uncompressed"],
            "adaptor 'darken' does not serve this: uncompressed needs nothing",
        ),
        (["image.png", "q", "--choice", "A"], "--choice 'A': expected LETTER=TEXT"),
    ],
)
def test_ask_in_vain(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert main(["ask", "seer", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_ask_with_choices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lossylens.vlm import Answer, QuestionKind
    from lossylens_sample.vlm import Seer

    asked = []

    def answer(self: Seer, batch: list) -> list:
        asked.extend(batch[0].questions)
        return [[Answer("A")]]

    monkeypatch.setattr(Seer, "answer", answer)
    choices = ["--choice", "A=red", "--choice", "B=blue"]
    assert main(["ask", "seer", "image.png", "which colour?", *choices]) == 0
    assert main(["ask", "seer", "image.png", "is it?", "--kind", "yes_no"]) == 0
    assert asked[0].kind is QuestionKind.MULTIPLE_CHOICE
    assert asked[0].options == {"A": "red", "B": "blue"}
    assert asked[1].kind is QuestionKind.YES_NO


WANDERING = """
import os
from pathlib import Path
from typing import Any

from lossylens.codec import Codec, CodecSpec, Level
from lossylens.hookspecs import hookimpl
from lossylens.task import TaskSpec
from lossylens_sample.codec import Blocky
from lossylens_sample.plugin import *


def elsewhere():
    os.chdir(os.environ["ELSEWHERE"])


class Wandering(Blocky):
    def __init__(self, level, options):
        elsewhere()
        super().__init__(level, options)

    def encode(self, image):
        elsewhere()
        return super().encode(image)

    def decode(self, bitstream):
        elsewhere()
        return super().decode(bitstream)


@hookimpl
def register_codecs(register):
    levels = (Level("b64", {"step": 64}),)
    register(
        CodecSpec(
            name="wandering",
            summary="",
            factory=f"{__name__}:Wandering",
            options=BlockyOptions,
            levels=levels,
        )
    )


for name in ("register_vlms", "register_tasks", "register_adaptors"):
    globals().pop(name, None)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_codec_that_changes_the_working_directory_changes_nothing_else(
    folder: Path,
    beside_sample: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    workers: int,
) -> None:
    beside_sample.plant("planted", WANDERING)
    (folder / "elsewhere").mkdir()
    monkeypatch.setenv("ELSEWHERE", str(folder / "elsewhere"))
    (folder / "config.yaml").write_text(CONFIG.replace("blocky", "wandering"))
    options = ["run.cache=cache", f"run.workers={workers}"]
    assert main(["run", "config.yaml", *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Report: run/report/index.html"
    assert not list((folder / "elsewhere").iterdir())
    assert sum(path.is_file() for path in (folder / "run" / "bitstreams").rglob("*")) == 3
    assert sum(path.is_file() for path in (folder / "cache" / "encodings").rglob("*")) == 3
    # In another folder the same is found again.
    (folder / "run").rename(folder / "elsewhere" / "run")
    (folder / "config.yaml").rename(folder / "elsewhere" / "config.yaml")
    monkeypatch.chdir(folder / "elsewhere")
    assert main(["run", "config.yaml", "run.cache=../cache", f"run.workers={workers}"]) == 0
    assert "Encoding" not in capsys.readouterr().err
