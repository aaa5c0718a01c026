from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path

import pytest
from lossylens.cli import main
from lossylens.errors import ConfigError, DataError
from lossylens.vlm import QuestionKind, interleaved
from lossylens_task_few_shot.answers import begins_with, is_name
from lossylens_task_few_shot.groups import drawn, invented_names
from lossylens_task_few_shot.plugin import FewShotOptions, missing
from lossylens_task_few_shot.task import FewShotTask


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Seven classes of three files each."""
    for name in ("cat", "dog", "fox", "cow", "tiger_shark", "owl", "bee"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "classes" / name / f"{number}.png").write_bytes(f"{name}{number}".encode())
    (tmp_path / "classes" / "notes.txt").write_text("no class")
    return tmp_path / "classes"


@pytest.fixture
def make(folder):
    def make(**options: object) -> FewShotTask:
        return FewShotTask(FewShotOptions(data=str(folder), **{"groups": 20, **options}))

    return make


def test_a_group_is_five_labelled_pictures_and_a_query_of_one_of_their_classes(make):
    for sample in make().samples():
        *shown, query = [image.key.split("/") for image in sample.images]
        assert len({name for name, _ in shown}) == len(shown) == 5
        assert query[0] == sample.fields["class"]
        assert query[0] in {name for name, _ in shown}
        assert query not in shown
        assert [image.read().decode() for image in sample.images] == [
            f"{name}{file.removesuffix('.png')}" for name, file in [*shown, query]
        ]
    assert pickle.loads(pickle.dumps(sample.images))[0].read() == sample.images[0].read()


def test_the_seed_decides_the_groups_and_more_begin_with_the_same(folder, make):
    first = [*drawn(folder, 5, 1, 20, seed=3)]
    assert [*drawn(folder, 5, 1, 30, seed=3)][:20] == first
    assert [*drawn(folder, 5, 1, 20, seed=4)] != first
    assert make().fingerprint() == make().fingerprint()
    others = [{"seed": 1}, {"groups": 19}, {"shots": 2}, {"invented": True}]
    assert len({make().fingerprint(), *(make(**each).fingerprint() for each in others)}) == 5
    before = make().fingerprint()
    (folder / "cat" / "0.png").write_bytes(b"another cat")
    assert make().fingerprint() != before


def test_every_class_and_place_is_asked_about(folder):
    groups = [*drawn(folder, 5, 1, 300, seed=0)]
    assert len({group.query.split("/")[0] for group in groups}) == 7
    places = [group.classes.index(group.query.split("/")[0]) for group in groups]
    assert all(30 < places.count(place) < 90 for place in range(5))


@pytest.mark.parametrize(
    ("compress", "context"),
    [
        ("all", [False] * 6),
        ("query", [True] * 5 + [False]),
        ("context", [False] * 5 + [True]),
    ],
)
def test_what_is_compressed(make, compress, context):
    for sample in make(compress=compress).samples():
        assert [image.context for image in sample.images] == context


def test_letters(make):
    task = make()
    sample = next(task.samples())
    assert sample.question.kind is QuestionKind.MULTIPLE_CHOICE
    assert list(sample.question.options) == list("ABCDE")
    asked = interleaved(sample.question.text, 6)
    assert [part for part in asked if isinstance(part, int)] == [0, 1, 2, 3, 4, 5]
    letter = sample.fields["answer"]
    name = sample.fields["class"].replace("_", " ")
    assert sample.question.options[letter] == name
    assert f"This is: {name}\n" in sample.question.text
    wrong = next(each for each in "ABCDE" if each != letter)
    assert task.score({"0": f"{letter}."}).value == 1
    assert task.score({"0": f"It is the {name}"}).value == 1
    score = task.score({"0": wrong, "1": "what?", "2": None})
    assert (score.value, score.unextracted, score.failed) == (0, 1, 1)
    assert (score.samples, score.missing) == (20, 17)


def test_names(make):
    task = make(answer="name")
    samples = [*itertools.islice(task.samples(), 3)]
    assert samples[0].question.kind is QuestionKind.OPEN
    first, second, third = (sample.fields["answer"] for sample in samples)
    answers = {"0": f"{first} or so", "1": f" {second.upper()}. So it is", "2": f"{third}\nfox"}
    score = task.score(answers)
    assert score.verdicts == {"0": 1, "1": 0, "2": 1}
    assert score.metrics == {
        "accuracy": pytest.approx(2 / 3),
        "accuracy by VL-ICL's rule": pytest.approx(2 / 3),
    }


@pytest.mark.parametrize(
    ("text", "begins", "is_it"),
    [
        ("tiger shark", True, True),
        ("Tiger shark.", False, True),
        (" tiger shark\nand more. So", False, True),
        ("tiger sharks", True, False),
        ("tiger shark. It swims.", True, True),
        ("a tiger shark", False, False),
        ("", False, False),
    ],
)
def test_the_two_published_rules(text, begins, is_it):
    assert begins_with(text, "tiger shark") is begins
    assert is_name(text, "tiger shark") is is_it


def test_classes_can_have_names_that_a_file_gives_or_that_mean_nothing(make, tmp_path):
    (tmp_path / "names.txt").write_text("cat house cat, tabby\n\ndog\tthe dog\n")
    names = {}
    for group in (task := make(names=str(tmp_path / "names.txt"))).groups.values():
        names |= task.names(group)
    assert (names["cat"], names["dog"], names["fox"]) == ("house cat", "the dog", "fox")
    task = make(invented=True)
    for group in task.groups.values():
        words = set(task.names(group).values())
        assert len(words) == 5
        assert not words & set(names.values())
    assert invented_names(5, "x") == invented_names(5, "x") != invented_names(5, "y")
    (tmp_path / "names.txt").write_text("cat house cat\ndog\n")
    with pytest.raises(DataError, match=r"names.txt: row 2: no name for the class 'dog'"):
        make(names=str(tmp_path / "names.txt"))


def test_groups_can_be_listed(make, tmp_path):
    lines = ["cat/0.png,dog/1.png,dog/0.png,", "", "fox/0.png, cow/0.png ,fox/1.png"]
    (tmp_path / "groups.csv").write_text("\n".join(lines))
    first, second = make(list=str(tmp_path / "groups.csv")).samples()
    assert [image.key for image in first.images] == ["cat/0.png", "dog/1.png", "dog/0.png"]
    assert (first.id, first.fields["answer"]) == ("1", "B")
    assert (second.id, second.fields["answer"]) == ("3", "A")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("cat/0.png,dog/0.png,fox/0.png", "no labelled picture is of the query's class 'fox'; add"),
        ("cat/0.png,dog/0.png,dog/0.png", "the query 'dog/0.png' is labelled too; put another"),
        ("cat/0.png,dog/9.png,cat/1.png", "no file 'dog/9.png' in .*; add it, or remove the line"),
        ("../cat/0.png,dog/0.png,dog/1.png", "'../cat/0.png' is not a path of a class folder"),
        ("cat/0.png", "no labelled picture"),
    ],
)
def test_a_bad_line_is_its_groups_own_failure(make, tmp_path, line, problem):
    good = "cat/0.png,dog/1.png,dog/0.png,"
    (tmp_path / "groups.csv").write_text(f"{good}\n{line}\n{good}\n")
    task = make(list=str(tmp_path / "groups.csv"))
    first, bad, last = task.samples()
    assert first.images == last.images
    with pytest.raises(DataError, match=rf"groups.csv: row 2: .*{problem}"):
        bad.images[0].read()
    assert task.score({"1": "B", "2": None, "3": "B"}).value == pytest.approx(2 / 3)
    task.fingerprint()


def test_a_class_folder_with_one_image_fails_where_it_is_asked_about(folder, make):
    for file in ("1.png", "2.png"):
        (folder / "owl" / file).unlink()
    samples = [*make(groups=100).samples()]
    with_owl = [sample for sample in samples if "owl" in sample.question.options.values()]
    failing = [sample for sample in samples if len(sample.images) == 1]
    assert 0 < len(failing) < len(with_owl)
    for sample in failing:
        assert sample.fields["class"] == "owl"
        expected = (
            rf"classes/owl: 1 image where group {sample.id} needs 2, the query among them; add"
        )
        with pytest.raises(DataError, match=expected):
            sample.images[0].read()
    assert len({sample.images for sample in failing}) == len(failing)


def test_an_empty_class_folder(folder, make):
    (folder / "empty").mkdir()
    failing = [sample for sample in make(groups=100).samples() if len(sample.images) == 1]
    assert failing
    with pytest.raises(DataError, match=r"classes/empty: 0 images where group \d+ needs [12]"):
        failing[0].images[0].read()


def test_a_run_goes_on_past_a_group_that_fails(folder, make):
    """It is counted as failed and wrong."""
    (folder / "owl" / "1.png").unlink()
    (folder / "owl" / "2.png").unlink()
    task = make(groups=100)
    samples = [*task.samples()]
    answers = {
        sample.id: sample.fields["answer"] if len(sample.images) > 1 else None for sample in samples
    }
    score = task.score(answers)
    assert score.failed == sum(answer is None for answer in answers.values()) > 0
    assert score.value == pytest.approx(1 - score.failed / 100)
    assert score.unextracted == 0


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"ways": 8}, DataError, "7 class folders, fewer than the 8 of a group; add some, or set"),
        ({"ways": 1}, ConfigError, "ways must be between 2 and 20"),
        ({"shots": 0}, ConfigError, "shots must be between"),
        ({"list": "/no/such/file"}, DataError, "file: cannot be read"),
    ],
)
def test_what_cannot_be_asked_at_all(make, options, error, problem):
    with pytest.raises(error, match=problem):
        list(make(**options).samples())


def test_a_folder_that_is_not_there(tmp_path):
    options = FewShotOptions(data=str(tmp_path / "none"))
    [lacking] = missing(options)
    assert "none" in lacking.what
    with pytest.raises(DataError, match="none: no such folder"):
        list(FewShotTask(options).samples())


def test_predictions_for_unknown_groups_are_refused(make):
    with pytest.raises(DataError, match="no-such"):
        make().score({"no-such": "A"})
    with pytest.raises(DataError, match="no predictions for its 20 groups"):
        make().score({})


def test_the_command_scores(folder, tmp_path, capsys):
    predictions = tmp_path / "predictions.jsonl"
    lines = [json.dumps({"index": n, "prediction": "A"}) for n in range(10)]
    predictions.write_text("\n".join(lines))
    words = ["--data", str(folder), "--predictions", str(predictions), "--option", "groups=10"]
    assert main(["score", "few-shot", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 10
