from __future__ import annotations

import ast
import base64
import csv
import io
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from lossylens.errors import ConfigError
from lossylens_task_scenes.boxes import REFCOCO_CATEGORIES
from lossylens_task_scenes.charts import draw_chart, make_chart
from lossylens_task_scenes.export import BENCHMARKS, export, find_benchmark
from lossylens_task_scenes.questions.scene_question import SceneQuestion
from lossylens_task_scenes.render import render
from lossylens_task_scenes.rows import (
    CIRCULAR_STEP,
    GQA_CATEGORIES,
    MME_ASKERS,
    OCRBENCH_CATEGORIES,
    POPE_SPLITS,
    SEEDBENCH_CATEGORIES,
    circular_copies,
)
from lossylens_task_scenes.scene import make_scene
from lossylens_task_scenes.short_answer_rows import CHARTQA_SPLITS, VQAV2_CATEGORIES
from lossylens_task_scenes.tsv import write_tsv
from lossylens_task_scenes.vocabulary import COLOR_VALUES, POSITIONS
from PIL import Image

csv.field_size_limit(10**9)

IMAGES = 28
SEED = 13

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    folder = tmp_path_factory.mktemp("tsv")
    found = {}
    for name in BENCHMARKS:
        path = folder / f"{name}.tsv"
        number = export(name, path, IMAGES, SEED, size=96)
        with path.open(encoding="utf-8", newline="") as stream:
            found[name] = list(csv.DictReader(stream, delimiter="\t"))
        assert len(found[name]) == number
    return found


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("pope", "index image question answer category"),
        ("gqa", "index image question answer category"),
        ("mme", "index image question answer category image_path"),
        (
            "mmbench",
            "index question hint A B C D answer category image source l2-category comment split",
        ),
        ("seedbench", "index image question A B C D answer category"),
        ("ocrbench", "index image question answer category"),
        ("coco-caption", "index image answer"),
        ("textvqa", "index image question answer"),
        ("vqav2", "index image question answer category question_type"),
        ("docvqa", "index image question answer split"),
        ("infovqa", "index image question answer split"),
        ("chartqa", "index image question answer split"),
        ("mmmu", "index question A B C D E F G answer category l2-category split image"),
        ("refcoco", "index image question answer category width height"),
    ],
)
def test_columns(tables: dict[str, Rows], name: str, columns: str) -> None:
    assert list(tables[name][0]) == columns.split()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_indices_and_images(tables: dict[str, Rows], name: str) -> None:
    rows = tables[name]
    by_index = {row["index"]: row["image"] for row in rows}
    assert len(by_index) == len(rows)
    pictures = 0
    for row in rows:
        cell = row["image"]
        if len(cell) <= 64:
            # A reference leads straight to a picture.
            cell = by_index[cell]
        else:
            pictures += cell.count(",") + 1
        for member in ast.literal_eval(cell) if cell.startswith("[") else [cell]:
            image = Image.open(io.BytesIO(base64.b64decode(member, validate=True)))
            assert (image.format, image.size, image.mode) == ("PNG", (96, 96), "RGB")
    assert pictures == IMAGES


@pytest.mark.parametrize("name", sorted(set(BENCHMARKS) - {"coco-caption"}))
def test_no_cell_is_taken_for_a_missing_value(tables: dict[str, Rows], name: str) -> None:
    for row in tables[name]:
        for column in {"question", "answer", "category", "split", "l2-category"} & row.keys():
            assert row[column].strip()
            assert row[column].lower() not in {"na", "nan", "none", "null", "n/a"}


def test_pictures_are_the_scenes(tables: dict[str, Rows]) -> None:
    for index, row in enumerate(tables["coco-caption"]):
        image = Image.open(io.BytesIO(base64.b64decode(row["image"])))
        assert np.array_equal(np.asarray(image), np.asarray(render(make_scene(SEED, index, 96))))


def test_refcoco_names_one_object_of_each_scene(tables: dict[str, Rows]) -> None:
    assert {row["category"] for row in tables["refcoco"]} == set(REFCOCO_CATEGORIES)
    for index, row in enumerate(tables["refcoco"]):
        expression = re.fullmatch(r".*: <ref>the (.*)</ref>", row["question"])[1]
        words = expression.removeprefix("largest ").split()
        box = ast.literal_eval(row["answer"])
        meant = [
            thing
            for thing in make_scene(SEED, index, 96).objects
            if set(words) <= {thing.shape, thing.color, thing.texture}
        ]
        if expression.startswith("largest "):
            meant = [max(meant, key=lambda thing: thing.radius)]
        [thing] = meant
        assert box == pytest.approx([min(max(side, 0), 96) for side in thing.box], abs=0.01)


def test_pope_has_as_many_yes_as_no_in_every_split(tables: dict[str, Rows]) -> None:
    counts: dict[str, Counter[str]] = {split: Counter() for split in POPE_SPLITS}
    for row in tables["pope"]:
        assert row["question"].endswith("in the image? Please answer yes or no.")
        splits = row["category"].split(",")
        assert set(splits) <= set(POPE_SPLITS)
        assert splits == [split for split in POPE_SPLITS if split in splits]
        for split in splits:
            counts[split][row["answer"]] += 1
    for split in POPE_SPLITS:
        assert set(counts[split]) == {"Yes", "No"}
        assert counts[split]["Yes"] == counts[split]["No"] > IMAGES


def test_gqa(tables: dict[str, Rows]) -> None:
    assert {row["category"] for row in tables["gqa"]} == set(GQA_CATEGORIES)
    for row in tables["gqa"]:
        assert "Please answer" not in row["question"]
        assert row["answer"] == row["answer"].strip().lower()
        if row["category"] in ("verify", "logical", "compare"):
            assert row["answer"] in ("yes", "no")
        if row["category"] == "choose":
            assert row["answer"] in row["question"]


def test_mme_has_two_questions_for_each_image(tables: dict[str, Rows]) -> None:
    groups: dict[tuple[str, str], Rows] = {}
    for row in tables["mme"]:
        groups.setdefault((row["category"], row["image_path"]), []).append(row)
    assert {category for category, _ in groups} == set(MME_ASKERS)
    assert len(MME_ASKERS) == 14
    for (category, path), rows in groups.items():
        assert {row["answer"] for row in rows} == {"Yes", "No"}
        assert len(rows) == 2
        assert re.fullmatch(rf"{category}/\d{{6}}\.png", path)
        assert all(row["question"].endswith(" Please answer yes or no.") for row in rows)
    assert len({path for _, path in groups}) == IMAGES


def test_mmbench_holds_the_circular_copies(tables: dict[str, Rows]) -> None:
    groups: dict[int, dict[int, dict[str, str]]] = {}
    for row in tables["mmbench"]:
        rank, original = divmod(int(row["index"]), CIRCULAR_STEP)
        groups.setdefault(original, {})[rank] = row
    assert sorted(groups) == list(range(IMAGES))
    for original, copies in groups.items():
        first = copies[0]
        options = [first[letter] for letter in "ABCD" if first[letter]]
        assert sorted(copies) == list(range(len(options)))
        right = first[first["answer"]]
        for rank, row in copies.items():
            found = [row[letter] for letter in "ABCD" if row[letter]]
            assert found == options[rank:] + options[:rank]
            assert row[row["answer"]] == right
            assert row["question"] == first["question"]
            assert row["image"] == str(original) or rank == 0
            assert row["split"] == "dev"
    assert {row["l2-category"] for row in tables["mmbench"]} == {
        "coarse_perception",
        "finegrained_perception (instance-level)",
        "finegrained_perception (cross-instance)",
        "logic_reasoning",
        "relation_reasoning",
        "attribute_reasoning",
    }


def test_circular_copies() -> None:
    question = SceneQuestion("multiple_choice", "color", "?", "C", options=("x", "y", "z"))
    assert circular_copies(question) == [
        (("x", "y", "z"), "C"),
        (("y", "z", "x"), "B"),
        (("z", "x", "y"), "A"),
    ]


def test_seedbench_has_four_different_options(tables: dict[str, Rows]) -> None:
    assert {row["category"] for row in tables["seedbench"]} == set(SEEDBENCH_CATEGORIES.values())
    for row in tables["seedbench"]:
        assert len({row[letter] for letter in "ABCD"} - {""}) == 4
        assert row["answer"] in "ABCD"


def test_ocrbench_answers_are_lists(tables: dict[str, Rows]) -> None:
    assert {row["category"] for row in tables["ocrbench"]} == set(OCRBENCH_CATEGORIES)
    for row in tables["ocrbench"]:
        (answer,) = ast.literal_eval(row["answer"])
        assert isinstance(answer, str)
        if row["category"] == "Digit String Recognition":
            assert answer.isdigit()


def test_coco_has_five_captions(tables: dict[str, Rows]) -> None:
    for row in tables["coco-caption"]:
        texts = ast.literal_eval(row["answer"])
        assert len(texts) == 5
        assert all(isinstance(text, str) for text in texts)


def test_ten_people_agree(tables: dict[str, Rows]) -> None:
    for name in ("textvqa", "vqav2"):
        for row in tables[name]:
            answers = ast.literal_eval(row["answer"])
            assert len(answers) == 10
            assert len(set(answers)) == 1
    assert {row["category"] for row in tables["vqav2"]} == set(VQAV2_CATEGORIES)
    assert {row["question_type"] for row in tables["vqav2"]} > {"how many", "is there"}


def test_words_of_documents_stand_on_plates(tables: dict[str, Rows]) -> None:
    scenes = [make_scene(SEED, index, 96) for index in range(200)]
    allowed = [scene for scene in scenes if all(word.plate is not None for word in scene.words)]
    texts = [{word.text for word in scene.words} for scene in allowed if scene.words]
    for row in tables["docvqa"]:
        (answer,) = ast.literal_eval(row["answer"])
        place = re.fullmatch("Where is the word (.*) in the image[?]", row["question"])
        word = place[1] if place else answer
        if len(row["image"]) > 64:
            here = texts.pop(0)
            while word not in here:
                here = texts.pop(0)
        assert word in here
        assert answer in {cell for cells in POSITIONS for cell in cells} or not place


def test_charts_show_what_is_asked(tables: dict[str, Rows]) -> None:
    assert {row["split"] for row in tables["chartqa"]} == set(CHARTQA_SPLITS)
    for index in range(IMAGES):
        chart = make_chart(SEED, index, 96)
        values = dict(zip(chart.names, chart.values, strict=True))
        value, color, highest, total = tables["chartqa"][4 * index : 4 * index + 4]
        assert values[value["question"].split()[-1][:-1]] == int(value["answer"])
        assert values[highest["answer"]] == max(chart.values)
        one, other = re.findall(r"[A-Z]{3}", total["question"])
        assert values[one] + values[other] == int(total["answer"])
        name = color["question"].split()[-1][:-1]
        assert chart.colors[chart.names.index(name)] == color["answer"]
        image = np.asarray(draw_chart(make_chart(SEED, index, 384)))
        # A bar's colour fills more pixels, the larger its value.
        filled = [np.all(image == COLOR_VALUES[color], axis=2).sum() for color in chart.colors]
        assert np.argsort(filled).tolist() == np.argsort(chart.values).tolist()


def test_mmmu_asks_about_one_to_seven_pictures(tables: dict[str, Rows]) -> None:
    by_index = {row["index"]: row["image"] for row in tables["mmmu"]}
    first = 0
    groups: dict[str, tuple[int, int]] = {}
    for row in tables["mmmu"]:
        holder = row["image"] if len(row["image"]) <= 64 else row["index"]
        if holder not in groups:
            count = by_index[holder].count(",") + 1
            groups[holder] = first, count
            first += count
        start, count = groups[holder]
        options = [row[letter] for letter in "ABCDEFG" if row[letter]]
        if options and options[0].startswith("<image"):
            assert options == [f"<image {k + 1}>" for k in range(count)]
            color, shape = row["question"].removesuffix("?").split()[-2:]
            shown = [
                any((o.color, o.shape) == (color, shape) for o in make_scene(SEED, k, 96).objects)
                for k in range(start, start + count)
            ]
            assert [k for k, here in enumerate(shown) if here] == ["ABCDEFG".index(row["answer"])]
        else:
            markers = " ".join(f"<image {k + 1}>" for k in range(count))
            assert row["question"].startswith(markers + " ")
            assert row["answer"] in "ABCD" if options else row["answer"].isdigit()
    assert sorted(count for _, count in groups.values()) == [1, 2, 3, 4, 5, 6, 7]
    assert {row["split"] for row in tables["mmmu"]} == {"validation", "dev"}


def test_same_arguments_same_bytes(tmp_path: Path) -> None:
    export("gqa", tmp_path / "a.tsv", 5, 3, size=96)
    export("GQA", tmp_path / "b.tsv", 5, 3, size=96)
    export("gqa", tmp_path / "c.tsv", 5, 4, size=96)
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()
    assert (tmp_path / "a.tsv").read_bytes() != (tmp_path / "c.tsv").read_bytes()


def test_jpeg_on_request(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    export("coco_caption", path, 1, 3, image_format="jpeg95", size=96)
    with path.open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream, delimiter="\t")
    assert Image.open(io.BytesIO(base64.b64decode(row["image"]))).format == "JPEG"


def test_progress_counts_pictures(tmp_path: Path) -> None:
    calls: list[None] = []
    for name in ("pope", "chartqa", "mmmu"):
        export(name, tmp_path / "a.tsv", 4, 3, size=96, on_image=lambda: calls.append(None))
    assert len(calls) == 3 * 4


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("old")

    def rows():
        yield {"index": 0, "image": "x"}
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        write_tsv(path, ("index", "image"), rows())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_row_with_other_columns_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="columns"):
        write_tsv(tmp_path / "a.tsv", ("index", "image"), [{"index": 0}])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "pop"}, "Did you mean pope"),
        ({"name": "xyz"}, "pope, gqa, mme, mmbench, seedbench, ocrbench, coco-caption"),
        ({"images": 0}, "at least 1"),
        ({"name": "mme", "images": 13}, "at least 14"),
        ({"seed": -1}, "seed"),
        ({"image_format": "jpg95"}, "Did you mean jpeg95"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    usual: dict[str, object] = {"name": "pope", "images": 2, "seed": 1}
    with pytest.raises(ConfigError, match=message):
        export(path=tmp_path / "a.tsv", **{**usual, **arguments})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_folder_must_exist_and_the_target_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        export("pope", tmp_path / "none" / "a.tsv", 1, 1)
    with pytest.raises(ConfigError, match="is a folder"):
        export("pope", tmp_path, 1, 1)


def test_names_are_matched_as_elsewhere() -> None:
    assert find_benchmark("COCO_Caption") == "coco-caption"
