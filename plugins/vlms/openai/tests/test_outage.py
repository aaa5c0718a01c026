"""Whole runs that a server ends early: what came is kept, and what did not is asked again."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
import yaml
from lossylens.cli import main
from lossylens.store.database import Store
from lossylens_toolkit.tsv_task.tsv_testing import write_tsv
from PIL import Image


def cell(number: int) -> str:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (number, 255 - number, 90)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


@pytest.fixture
def start(tmp_path, server):
    """Return a function that starts a run, again if it was called before."""

    def run(model: str, questions: list[str], **options) -> int:
        rows = [
            {"image": cell(number), "question": text, "answer": "Yes", "category": "popular"}
            for number, text in enumerate(questions)
        ]
        data = write_tsv(tmp_path / "data.tsv", *rows)
        vlm = {"url": server.url, "model": model, "tries": 2, "pause": 0.01, "timeout": 5.0}
        content = {
            "codecs": {"jpeg": {"levels": ["q5"]}},
            "vlms": {"openai": {**vlm, **options}},
            "tasks": {"pope": {"data": str(data)}},
            "run": {"out": str(tmp_path / "run"), "workers": 1, "uncompressed": False},
            "plugins": {"only": ["jpeg", "openai", "pope"]},
        }
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(content))
        return main(["run", str(config)])

    return run


def stored(folder: Path) -> list[str | None]:
    with Store(folder, writable=False) as store:
        return [row["text"] for row in store.rows("SELECT text FROM predictions")]


def scores(folder: Path) -> list[float]:
    with Store(folder, writable=False) as store:
        return [row["value"] for row in store.rows("SELECT value FROM scores")]


@pytest.mark.parametrize(
    ("outage", "questions", "starts"),
    [
        ("500 x150", 40, 4),
        ("drop x150", 40, 4),
        ('json {"error":{"message":"overloaded"}} x150', 40, 4),
        # Fewer than fail in a row before a run is given up.
        ("503 x6", 3, 2),
        ("429 after=0 x6", 3, 4),
    ],
)
def test_no_outage_becomes_wrong_answers(start, tmp_path, outage, questions, starts):
    model = f"{tmp_path.name} [{outage} | ok Yes]"
    texts = ["Is there a dog in the image?"] * questions
    codes = [start(model, texts)]
    assert codes[0] != 0
    assert "Yes" not in stored(tmp_path / "run")
    assert scores(tmp_path / "run") == []
    while codes[-1] != 0:
        assert len(codes) < starts
        codes.append(start(model, texts))
    assert stored(tmp_path / "run") == ["Yes"] * questions
    assert scores(tmp_path / "run") == [100.0]


def test_answers_that_came_before_a_run_ends_are_kept(start, tmp_path, server, capfd):
    model = f"{tmp_path.name} [ok Yes x5 | 401 | ok Yes]"
    texts = ["Is there a dog in the image?"] * 20
    assert start(model, texts, concurrency=1, batch_images=10) == 2
    assert "401 Unauthorized" in capfd.readouterr().err
    # One more may have been asked when the refusal came.
    assert stored(tmp_path / "run").count("Yes") in (5, 6)
    assert start(model, texts) == 0
    assert stored(tmp_path / "run") == ["Yes"] * 20
    assert len(server.asked) == 20 + 1


@pytest.mark.parametrize("order", ["403", "403 says=the_input_was_flagged_by_moderation"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_question_that_is_refused_does_not_end_a_run(start, tmp_path, server, order, place):
    texts = [f"{tmp_path.name}: is there a {animal}? [ok Yes]" for animal in ("cat", "cow", "dog")]
    texts[place] = f"{tmp_path.name}: is there a bird? [{order}]"
    assert start("seer", texts, concurrency=1) == 1
    assert sorted(map(str, stored(tmp_path / "run"))) == ["None", "Yes", "Yes"]
    # F1: two of three are found, and nothing else.
    assert scores(tmp_path / "run") == [pytest.approx(80)]
    before = len(server.asked)
    assert start("seer", texts, concurrency=1) == 1
    assert len(server.asked) == before


def test_a_key_that_is_refused_ends_the_run(start, tmp_path, server, capfd):
    texts = ["Is there a dog in the image?"] * 100
    for status in ("401", "403"):
        assert start(f"[{status}]", texts) == 2
        assert f"{status} " in capfd.readouterr().err
        assert len(server.asked) < 100
        assert scores(tmp_path / "run") == []
        server.forget()
