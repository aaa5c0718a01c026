"""What is exported is read by the tasks themselves, as the tests across plugins show."""

from __future__ import annotations

import ast
import csv
import json
from pathlib import Path

import numpy as np
import pytest
from lossylens.errors import ConfigError
from lossylens_task_scenes.class_folders import of_class
from lossylens_task_scenes.export import FILES, export, find_benchmark
from lossylens_task_scenes.films import FRAMES, moved
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import make_scene
from lossylens_task_scenes.vocabulary import SHAPES
from PIL import Image

SEED = 5


def test_classes_are_shapes(tmp_path: Path) -> None:
    assert export("few-shot", tmp_path / "classes", 17, SEED, size=96) == 17
    folders = {each.name: sorted(each.iterdir()) for each in (tmp_path / "classes").iterdir()}
    assert set(folders) == set(SHAPES)
    assert {name: len(files) for name, files in folders.items()} == {
        **dict.fromkeys(SHAPES, 2),
        SHAPES[0]: 3,
    }
    scene = of_class(make_scene(SEED, 1, 96), SHAPES[1])
    assert [thing.shape for thing in scene.objects] == [SHAPES[1]]
    with Image.open(folders[SHAPES[1]][0]) as image:
        assert np.array_equal(np.asarray(image), np.asarray(render(scene)))


def test_films(tmp_path: Path) -> None:
    counted: list[int] = []
    path = tmp_path / "films.tsv"
    number = export("videomme", path, 4, SEED, size=96, on_image=lambda: counted.append(1))
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert (len(rows), len(counted)) == (number, 4) == (12, 4)
    assert {row["duration"] for row in rows} == {"short", "medium", "long"}
    for row in rows:
        candidates = ast.literal_eval(row["candidates"])
        assert [each[:3] for each in candidates] == ["A. ", "B. ", "C. ", "D. "]
        assert len(set(candidates)) == 4
        assert row["answer"] in "ABCD"
        folder = tmp_path / "films" / row["video"]
        assert len(list(folder.glob("*.png"))) == FRAMES
        assert json.loads((folder / "film.json").read_text()) == {"fps": 4}
        assert (tmp_path / "films" / row["subtitle_path"]).is_file()


@pytest.mark.parametrize(
    ("way", "place"),
    [("To the right", 0), ("To the left", 0), ("Down", 1), ("Up", 1)],
)
def test_an_object_moves_from_edge_to_edge_and_nothing_else_does(way: str, place: int) -> None:
    scene = make_scene(SEED, 0)
    thing = scene.objects[0]
    first, last = (moved(scene, thing, way, share) for share in (0.0, 1.0))
    assert first.objects[:-1] == last.objects[:-1] == scene.objects[1:]
    begin, end = (each.objects[-1].box[place] for each in (first, last))
    assert abs(end - begin) > scene.width / 3
    assert (end > begin) == (way in ("To the right", "Down"))
    for each in (first, last):
        box = each.objects[-1].box
        assert min(box) >= 0
        assert max(box) <= scene.width
        # And so does its picture.
    assert np.any(np.asarray(render(first)) != np.asarray(render(last)))


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    out = tmp_path / ("out" if FILES[name].folder else "out.tsv")
    with pytest.raises(ConfigError, match="out exists; remove it"):
        export(name, out, 16, SEED, size=96)
    with pytest.raises(ConfigError, match="at least"):
        export(name, tmp_path / "new", 0, SEED)


def test_names() -> None:
    assert find_benchmark("Few_Shot") == "few-shot"
    assert find_benchmark("videomme") == find_benchmark("video-mme") == "video-mme"
