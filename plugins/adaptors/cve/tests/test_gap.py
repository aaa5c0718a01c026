"""The gap split of a small trained VLM, from the trainings to the report."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from lossylens.errors import ConfigError
from lossylens.store.database import Store
from lossylens_report import write_report, write_split
from lossylens_report.reading import read_run
from lossylens_toolkit.training.gap_plan import GapPlan
from lossylens_toolkit.training.gap_training import find_gap

CONFIG = """
out: {out}
adaptor: cve
vlm: {{nano: }}
codecs: {{jpeg: {{levels: [q1, q5]}}}}
unseen: {{webp: {{levels: [q0]}}}}
pictures: {{tasks: {{scenes: {{images: 2, seed: 100}}}}}}
validation: {{tasks: {{scenes: {{images: 1, seed: 12}}}}}}
tasks: {{scenes: {{images: 6, seed: 11, topics: [existence, word]}}}}
training: {{steps: 2, batch: 1, variants: 1, warmup: 0, learning_rate: 0.002, device: cpu}}
arms: {{film: {{condition: film}}, rope: {{condition: rope}}}}
points: {{jpeg: [q1]}}
alone: {{condition: none}}
seeds: [3]
share: 0.4
run: {{workers: 1}}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gap")
    path = folder / "gap.yaml"
    path.write_text(CONFIG.format(out=folder / "out"))
    return path


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def finished(config: Path, said: list[str]) -> Path:
    """The run folder of a gap that was found."""
    folder, failed = find_gap(config, (), said.append)
    assert not failed
    return folder


def lines(said: list[str], word: str) -> list[str]:
    return [line for line in said if line.startswith(word)]


def test_each_training_has_a_folder(finished: Path) -> None:
    folders = {
        f"{path.parent.parent.name}/{path.parent.name}"
        for path in finished.parent.glob("adaptors/*/*/adaptor.safetensors")
    }
    names = ("film", "rope", "jpeg-q1", "control")
    assert folders == {f"{name}/seed3" for name in names}


def test_an_adaptor_of_a_point_is_measured_there_alone(finished: Path) -> None:
    with Store(finished, writable=False) as store:
        rows = store.rows("SELECT adaptor_label, codec_label, level FROM cells")
        absences = store.rows("SELECT * FROM absences")
    places: dict[str, set[str]] = {}
    for adaptor, codec, level in rows:
        places.setdefault(adaptor, set()).add(f"{codec} {level}")
    both = {"uncompressed raw", "jpeg q1"}
    everywhere = both | {"jpeg q5", "webp q0"}
    assert places["jpeg-q1-seed3"] == places["control-seed3"] == both
    assert places["none"] == places["film-seed3"] == places["rope-seed3"] == everywhere
    assert not absences


def test_the_split_holds_what_was_trained(finished: Path) -> None:
    plan = GapPlan.read(finished)
    assert plan is not None
    assert plan.ways["jpeg-q1"].adaptors == ("jpeg-q1-seed3",)
    found = read_run(finished).results.split
    assert found is not None
    assert found.seeds == 1
    assert not found.left_out
    points = {(each.codec, each.level): each for each in found.points}
    assert list(points) == [("jpeg", "q1"), ("jpeg", "q5"), ("webp", "q0")]
    assert [each.unseen for each in found.points] == [False, False, True]
    first = points["jpeg", "q1"].split
    assert first.tuned in {"film", "rope", "jpeg-q1"}
    assert points["jpeg", "q5"].split.tuned in {"film", "rope"}
    assert points["jpeg", "q1"].one in {"film", "rope"}
    assert first.control is not None
    # Its features are what they are to be from the beginning, so that nothing moves.
    assert first.control.value == 0
    assert points["jpeg", "q5"].split.control is None
    whole = first.information.value + first.generalisation.value
    assert whole == pytest.approx(first.performance.value)


def test_the_reported_images_are_not_those_that_choose(finished: Path) -> None:
    reading = read_run(finished)
    assert reading.results.split is not None
    [(chosen, reported)] = reading.results.split.images.values()
    assert chosen >= 2
    assert reported >= 2
    assert chosen + reported == 6
    [base] = [
        each for each in reading.results.cells if each.codec == "uncompressed" and not each.adaptor
    ]
    of_some = reading.results.split.points[0].split.uncompressed.value
    assert of_some != base.value


def test_what_is_written_has_every_figure(finished: Path, tmp_path: Path) -> None:
    tables, left_out = write_split(finished, tmp_path)
    assert not left_out
    assert [table.name for table in tables] == [
        "gap-split",
        "gap-split-beside",
        "gap-split-ways",
        "gap-split-arms",
    ]
    ways = tables[2]
    assert ways.columns == ("task", "codec", "level", "film", "rope", "jpeg-q1", "control")
    assert [row[1:3] for row in ways.rows] == [
        ("uncompressed", ""),
        ("jpeg", "q1"),
        ("jpeg", "q5"),
        ("webp", "q0 (unseen)"),
    ]
    assert all(ways.rows[1])
    rows = list(csv.DictReader((tmp_path / "split.csv").read_text().splitlines()))
    assert json.loads((tmp_path / "split.json").read_text())[0]["task"] == "scenes"
    figures = {row["figure"] for row in rows}
    assert {"information gap (at most)", "generalisation gap (at least)"} <= figures
    assert {row["seen"] for row in rows if row["codec"] == "webp"} == {"no"}


def test_the_report_says_what_a_reader_must_know(finished: Path) -> None:
    page = write_report(finished).read_text()
    for text in (
        "information gap (at most)",
        "What adaptors change on uncompressed images",
        "Gains of adaptors by topic of the questions",
        "this condition has no effect",
        "webp (unseen)",
        "Feature error on the picture",
    ):
        assert text in page
    gains = read_run(finished).results.topics
    assert {each.topic for each in gains} == {"existence", "word"}


def test_what_cannot_be_split_is_named(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    with Store(tmp_path / "run", writable=True) as store, store._writing() as database:
        database.execute("DELETE FROM resamplings")
    tables, left_out = write_split(tmp_path / "run", tmp_path)
    assert not tables
    assert left_out == ("scenes: the task does not say how its score is made of its samples",)
    page = write_report(tmp_path / "run").read_text()
    assert f"left out of the gap split: {left_out[0]}" in page


def test_trainings_of_one_kind_are_its_seeds(finished: Path, tmp_path: Path) -> None:
    """As if the two joint trainings differed in their seed alone."""
    shutil.copytree(finished, tmp_path / "run")
    plan = GapPlan.read(finished)
    single = read_run(finished).results.split
    assert plan is not None
    assert single is not None
    joint = replace(plan.ways["film"], adaptors=("film-seed3", "rope-seed3"))
    replace(plan, ways={"joint": joint}).write(tmp_path / "run")
    found = read_run(tmp_path / "run").results.split
    assert found is not None
    assert found.seeds == 2
    for point, alone in zip(found.points, single.points, strict=True):
        gains = tuple(alone.gains[name].value for name in ("film", "rope"))
        assert point.split.tuned == "joint"
        assert point.split.generalisation.seeds == pytest.approx(gains)
        assert point.split.generalisation.value == pytest.approx(sum(gains) / 2)


def test_an_adaptor_that_is_not_scored_yet_is_named(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    with Store(tmp_path / "run", writable=True) as store:
        [row] = store.rows(
            "SELECT key FROM cells WHERE adaptor_label = 'film-seed3' AND level = 'q5'"
        )
        store.drop_score(row["key"])
    found = read_run(tmp_path / "run").results.split
    assert found is not None
    assert found.left_out == ("scenes: film: not all of its cells are scored",)
    points = {each.level: each for each in found.points}
    assert "film" not in points["q5"].gains
    assert "film" in points["q1"].gains
    # It is not known of it how it does at all points.
    assert points["q1"].one == "rope"


def test_what_is_done_is_not_done_again(finished: Path, config: Path) -> None:
    checkpoints = sorted(finished.parent.glob("adaptors/*/*/adaptor.safetensors"))
    before = [path.stat().st_mtime_ns for path in checkpoints]
    said: list[str] = []
    find_gap(config, ["run.timeout=1000"], said.append)
    assert [path.stat().st_mtime_ns for path in checkpoints] == before
    assert all(line.endswith("done.") for line in lines(said, "Training"))
    assert not lines(said, "Scored")


def test_a_dry_run_says_what_is_left(finished: Path, config: Path) -> None:
    said: list[str] = []
    find_gap(config, ["training.steps=4"], said.append, dry=True)
    assert len(lines(said, "Training")) == 4
    assert all("gone on with" in line for line in lines(said, "Training"))


def test_another_training_in_a_folder_is_refused(
    finished: Path, config: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished.parent / "adaptors", tmp_path / "out" / "adaptors")
    given = [f"out={tmp_path / 'out'}", "arms.film.condition=none"]
    with pytest.raises(ConfigError, match=r"film/seed3 holds a training with condition 'film'"):
        find_gap(config, given, print, dry=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("share=1", "share is between 0 and 1"),
        ("seeds=[1,1]", "seeds: expected different ones"),
        ("points={jpeg: [q3]}", "points.jpeg: q3 is not among its levels, q1, q5"),
        ("points={webp: [q0]}", "points.webp: not among the codecs"),
        ("unseen={jpeg: null}", "unseen.jpeg: is trained on"),
        ("arms={control: {}}", "control: the trainings have that name twice"),
        ("arms={../x: {}}", "is to be a folder"),
        ("run.out=elsewhere", "run.out: set out itself"),
        ("run.baseline=false", "run.baseline: the split needs both"),
        ("tasks=null", "tasks"),
    ],
)
def test_mistakes_show_before_anything_is_done(
    config: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        find_gap(config, [f"out={tmp_path / 'out'}", override], print)
    assert not (tmp_path / "out").exists()
