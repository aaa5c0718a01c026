"""Scenes as films for Video-MME: one of the objects moves from edge to edge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Final

from lossylens_task_scenes.boxes import expressions
from lossylens_task_scenes.questions.scene_question import Rng, question_rng
from lossylens_task_scenes.render import render
from lossylens_task_scenes.rows import SceneSource
from lossylens_task_scenes.scene import Scene, SceneObject
from lossylens_task_scenes.tsv import ImageFormat, Row, image_bytes, write_tsv
from lossylens_task_scenes.vocabulary import COLORS, SHAPES

FILM_COLUMNS: Final = (
    *("index", "video", "video_path", "duration", "domain", "candidates", "sub_category"),
    *("task_type", "subtitle_path", "question", "answer"),
)

#: Enough for 32 evenly spaced ones.
FRAMES: Final = 34
FPS: Final = 4

_SALT = 109
_LETTERS = "ABCD"
_DURATIONS = ("short", "medium", "long")
_DOMAINS = ("Knowledge", "Film & Television", "Sports Competition", "Artistic Performance")

#: Where an object is at the beginning and at the end, as shares of the way from edge to edge.
_WAYS: Final[dict[str, tuple[tuple[float, float], tuple[float, float]]]] = {
    "To the right": ((0, 0.5), (1, 0.5)),
    "To the left": ((1, 0.5), (0, 0.5)),
    "Down": ((0.5, 0), (0.5, 1)),
    "Up": ((0.5, 1), (0.5, 0)),
}


def moved(scene: Scene, thing: SceneObject, way: str, share: float) -> Scene:
    """Return *scene* with *thing*, drawn last, at a *share* (0 to 1) of its *way*."""
    (x0, y0), (x1, y1) = _WAYS[way]
    margin = thing.radius * 1.5
    across, down = scene.width - 2 * margin, scene.height - 2 * margin
    x = margin + across * (x0 + (x1 - x0) * share)
    y = margin + down * (y0 + (y1 - y0) * share)
    left, top, right, bottom = thing.box
    dx, dy = x - thing.x, y - thing.y
    there = replace(thing, x=x, y=y, box=(left + dx, top + dy, right + dx, bottom + dy))
    return replace(scene, objects=(*(o for o in scene.objects if o is not thing), there))


def _choices(rng: Rng, right: str, others: Sequence[str]) -> tuple[str, str]:
    """Return four candidates as the files list them, and the letter of the right one."""
    wrong = [each for each in others if each != right]
    texts = [right, *(wrong[place] for place in rng.permutation(len(wrong))[:3].tolist())]
    order = rng.permutation(4).tolist()
    shuffled = [texts[place] for place in order]
    listed = [f"{letter}. {text}." for letter, text in zip(_LETTERS, shuffled, strict=True)]
    return repr(listed), _LETTERS[order.index(0)]


def _film_rows(scene: Scene, rng: Rng, thing: SceneObject, name: str, way: str) -> Iterator[Row]:
    names = [f"{color} {shape}" for color in COLORS for shape in SHAPES]
    called = f"{thing.color} {thing.shape}"
    seen = {f"{each.color} {each.shape}" for each in scene.objects}
    absent = [each for each in names if each not in seen]
    counts = [str(number) for number in range(1, 9)]
    asked = (
        ("Temporal Perception", f"Which way does the {name} move?", way, [*_WAYS]),
        ("Action Recognition", "What moves?", f"The {called}", [f"The {each}" for each in absent]),
        ("Counting Problem", "How many objects are there?", str(len(scene.objects)), counts),
    )
    for kind, question, right, others in asked:
        candidates, answer = _choices(rng, right, others)
        yield {"task_type": kind, "question": question, "candidates": candidates, "answer": answer}


def _subtitles(name: str, way: str) -> str:
    end = FRAMES / FPS
    seconds, thousandths = int(end), round(1000 * (end - int(end)))
    return (
        "1\n00:00:00,000 --> 00:00:02,000\nLook at the picture.\n\n"
        f"2\n00:00:02,000 --> 00:00:{seconds:02d},{thousandths:03d}\n"
        f"The {name}\nmoves {way.lower()}.\n"
    )


def write_films(
    source: SceneSource,
    path: Path,
    images: int,
    image_format: ImageFormat,
    on_image: Callable[[], None] | None,
) -> int:
    """Write the data file, and beside it a folder of its name with the frames of each film.

    Returns:
        The number of rows.
    """
    folder = path.with_suffix("")
    suffix = "png" if image_format == "png" else "jpg"

    def rows() -> Iterator[Row]:
        index = 0
        for number, (scene, duration, domain) in enumerate(
            zip(source, cycle(_DURATIONS), cycle(_DOMAINS), strict=False)
        ):
            if number == images:
                return
            rng = question_rng(scene, _SALT)
            name, thing = expressions(scene)[0]
            way = [*_WAYS][int(rng.integers(len(_WAYS)))]
            film = f"film{number:04d}"
            (folder / film).mkdir(parents=True)
            for frame in range(FRAMES):
                picture = render(moved(scene, thing, way, frame / (FRAMES - 1)))
                file = folder / film / f"{frame:03d}.{suffix}"
                file.write_bytes(image_bytes(picture, image_format))
            (folder / film / "film.json").write_text(json.dumps({"fps": FPS}))
            said = folder / "subtitle" / f"{film}.srt"
            said.parent.mkdir(exist_ok=True)
            said.write_text(_subtitles(name, way), encoding="utf-8")
            if on_image is not None:
                on_image()
            shared = {
                "video": film,
                "video_path": f"./video/{film}.mp4",
                "duration": duration,
                "domain": domain,
                "sub_category": "Technology",
                "subtitle_path": f"./subtitle/{film}.srt",
            }
            for row in _film_rows(scene, rng, thing, name, way):
                yield {"index": index, **shared, **row}
                index += 1

    return write_tsv(path, FILM_COLUMNS, rows(), image_format)
