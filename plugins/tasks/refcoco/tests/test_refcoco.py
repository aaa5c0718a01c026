from __future__ import annotations

import base64
from pathlib import Path

import pytest
from lossylens.cli import main
from lossylens.errors import DataError
from lossylens.vlm import QuestionKind, format_box, parse_box
from lossylens_task_refcoco.plugin import RefcocoOptions
from lossylens_task_refcoco.reading import guessed, overlap
from lossylens_task_refcoco.splits import split_of
from lossylens_task_refcoco.task import RefcocoTask
from lossylens_task_refcoco.units import in_units, resized
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, golden_case, write_tsv

GOLDEN = Path(__file__).parent / "golden"

#: In a picture of 400x200 pixels.
TRUTH = "[100, 50, 200, 150]"


class TestGolden(GoldenTests):
    task_class = RefcocoTask
    name = "refcoco"
    folder = GOLDEN

    def test_boxes_and_overlaps_equal_the_reference_evaluators(self, task, case) -> None:
        """As far as its spreadsheet keeps them; boxes have six decimals there."""
        score = task.score(case.predictions)
        for row in task.table:
            expected = case.expected["rows"][row.id]
            width, height = float(row.text("width")), float(row.text("height"))
            found = parse_box(score.extracted[row.id])
            assert (found is None) == (expected["box"] is None)
            if found is not None:
                left, top, right, bottom = expected["box"]
                box = (left / width, top / height, right / width, bottom / height)
                assert found == pytest.approx(box, abs=1e-4)
        assert score.metrics == case.expected["metrics"]  # to the last digit


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make(tmp_path):
    def make(*rows: dict[str, object], **options: object) -> RefcocoTask:
        cells = {"question": "Where?", "category": "RefCOCO val", "width": 400, "height": 200}
        full = [{**cells, "answer": TRUTH, **row} for row in rows]
        path = write_tsv(tmp_path / "RefCOCO.tsv", *full)
        return RefcocoTask(RefcocoOptions(data=str(path), **options))

    return make


def test_questions_ask_for_a_box_and_samples_carry_it_in_fractions(make):
    [sample] = make({}).samples()
    assert (sample.question.kind, sample.question.text) == (QuestionKind.BOX, "Where?")
    assert sample.fields == {
        "category": "RefCOCO_val",
        "answer": "[0.2500, 0.2500, 0.5000, 0.7500]",
    }


def test_answers_of_runs_are_fractions_and_are_read_as_such(make):
    task = make({})
    score = task.score({"0": format_box((0.25, 0.25, 0.5, 0.75))})
    assert score.metrics["RefCOCO_val"] == {"Precision@1": 100, "Average IoU": 1}
    assert score.extracted == {"0": "[0.2500, 0.2500, 0.5000, 0.7500]"}


@pytest.mark.parametrize(
    ("numbers", "box"),
    [
        ((0.1, 0.2, 1.5, 0.5), (40, 40, 400, 100)),  # fractions, cut to the picture
        ((1, 2, 1.51, 500), (0.4, 0.4, 0.604, 100)),  # thousandths
        ((0, 0, 1000, 1000), (0, 0, 400, 200)),
        ((0, 0, 1001, 50), (0, 0, 400, 50)),  # pixels
        ((900, 800, 100, 200), (40, 40, 360, 160)),  # corners change places
        ((-500, -1, 500, 2000), (0, 0, 400, 200)),
    ],
)
def test_what_numbers_are_is_guessed_from_the_largest(numbers, box):
    assert guessed(numbers, 400, 200) == pytest.approx(box)


def test_overlap_of_continuous_boxes():
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 2, 2), (2, 0, 3, 2)) == 0
    assert overlap((0, 0, 0, 0), (0, 0, 2, 2)) == 0


def test_half_of_the_union_is_a_hit(make):
    score = make({}, {}).score({"0": "[250, 250, 375, 750]", "1": "[250, 250, 374, 750]"})
    assert score.verdicts == {"0": 1, "1": 0}


@pytest.mark.parametrize(
    ("cells", "split"),
    [
        ({"split": "mine", "category": "RefCOCO val"}, "mine"),
        ({"category": "RefCOCO testA"}, "RefCOCO_testA"),
        ({"category": "  RefCOCO+   test_b "}, "RefCOCO+_testB"),
        ({"category": "RefCOCOg Val"}, "RefCOCOg_val"),
        ({"category": "RefCOCO my-own part"}, "RefCOCO_my_own_part"),
        ({"category": "RefCOCOg"}, "RefCOCOg"),
        ({"split": None, "category": None}, "RefCOCO"),
    ],
)
def test_splits(cells, split):
    assert split_of(cells) == split


def test_the_average_is_of_known_splits_alike_however_large(make):
    task = make(
        {"category": "RefCOCO val"},
        {"category": "RefCOCO val"},
        {"category": "RefCOCO testA"},
        {"category": "other"},
    )
    right, wrong = format_box((0.25, 0.25, 0.5, 0.75)), "nowhere"
    score = task.score({"0": right, "1": wrong, "2": right, "3": wrong})
    assert list(score.metrics) == ["RefCOCO_val", "RefCOCO_testA", "other", "Average"]
    assert score.metrics["Average"] == {"Precision@1": 75, "Average IoU": 0.75}
    assert score.unextracted == 2
    # Of splits that are all unknown, all rows are averaged.
    only = task.score({"3": right})
    assert only.metrics["Average"]["Precision@1"] == only.value == 100


def test_resampling_comes_to_the_score(make):
    task = make({"category": "RefCOCO val"}, {"category": "RefCOCO val"}, {"category": "x"}, {})
    right = format_box((0.25, 0.25, 0.5, 0.75))
    score = task.score({"0": right, "1": "", "2": right, "3": right})
    parts = score.resampling.parts
    sums = [sum(each) for each in zip(*parts.values(), strict=True)]
    assert score.resampling.factor * sums[0] / sums[1] == pytest.approx(score.value)
    assert "2" not in parts


BOXES = [
    ({"bbox_x1": 100, "bbox_y1": 50, "bbox_x2": 200, "bbox_y2": 150, "answer": "[1, 1, 2, 2]"}),
    ({"x1": 100, "y1": 50, "x2": 200, "y2": 150, "answer": ""}),
    ({"answer": TRUTH}),
    ({"answer": "100 50 200 150, a cup"}),
    ({"answer": "[0.25, 0.25, 0.5, 0.75]"}),
    # With sides in columns of their own, a text is read as a prediction is.
    ({"bbox_x1": "", "bbox_y1": 50, "bbox_x2": 200, "bbox_y2": 150, "answer": "[250,250,500,750]"}),
    ({"bbox": "[250, 250, 500, 750]", "answer": ""}),
]


@pytest.mark.parametrize("cells", BOXES)
def test_where_the_box_is(make, cells):
    [sample] = make(cells).samples()
    assert parse_box(sample.fields["answer"]) == (0.25, 0.25, 0.5, 0.75)


def test_answers_are_fractions_only_if_all_of_them_are(make):
    first, second = make({"answer": "[0, 0, 1, 1]"}, {}).samples()
    assert first.fields["answer"] == "[0.0000, 0.0000, 0.0025, 0.0050]"
    assert second.fields["answer"] == "[0.2500, 0.2500, 0.5000, 0.7500]"


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ({"answer": "[100, 50, 420, 150]"}, r"box \[100, 50, 420, 150\].*400x200 pixels; correct"),
        ({"answer": "[200, 50, 100, 150]"}, "is not in the picture"),
        ({"answer": "[100, -2, 200, 150]"}, "is not in the picture"),
        ({"answer": "nowhere"}, "no box; give one or remove the row"),
        ({"width": "", "height": ""}, "1x1 pixels; correct the box, or the columns width"),
    ],
)
def test_a_box_outside_the_picture_is_the_samples_own_failure(make, cells, problem):
    first, bad, last = make({}, cells, {"answer": "[0, 0, 400.8, 200]"}).samples()
    with pytest.raises(DataError, match=rf"RefCOCO.tsv: row 2 \(index 1\): .*{problem}"):
        bad.images[0].read()
    assert [sample.images[0].key for sample in (first, last)] == ["0", "2"]


def test_a_file_without_boxes_is_refused(tmp_path):
    path = write_tsv(tmp_path / "RefCOCO.tsv", {"question": "Where?"})
    with pytest.raises(DataError, match="no column with boxes; looked for bbox_x1"):
        RefcocoTask(RefcocoOptions(data=str(path)))


def test_indices_may_begin_anew_in_each_split(make):
    rows = [{"index": 7, "category": f"RefCOCO {part}"} for part in ("val", "testA")]
    pictures = [base64.b64encode(bytes([n] * 90)).decode() for n in (1, 2)]
    task = make(*({**row, "image": each} for row, each in zip(rows, pictures, strict=True)))
    samples = {sample.id: sample for sample in task.samples()}
    assert list(samples) == ["7", "RefCOCO_testA_7"]
    assert samples["RefCOCO_testA_7"].images[0].read() == bytes([2] * 90)
    right = format_box((0.25, 0.25, 0.5, 0.75))
    # As the evaluator's own predictions name them.
    score = task.score({"RefCOCO_val_7": "nowhere", "RefCOCO_testA_7": right})
    assert score.verdicts == {"7": 0, "RefCOCO_testA_7": 1}
    with pytest.raises(DataError, match="two predictions for one row"):
        task.score({"RefCOCO_val_7": right, "7": right})
    with pytest.raises(DataError, match="RefCOCO_testB_7"):
        task.score({"RefCOCO_testB_7": right})


def test_an_index_twice_in_a_split_is_refused(make):
    task = make({"index": 7}, {"index": 7}, {"index": 7})
    with pytest.raises(DataError, match=r"'RefCOCO_val_7' is also that of row 2"):
        list(task.samples())


@pytest.mark.parametrize(
    ("units", "numbers"),
    [
        ("fractions", (0.25, 0.25, 0.5, 0.75)),
        ("thousandths", (250, 250, 500, 750)),
        ("pixels", (100, 50, 200, 150)),
        # The square is 400x400, with bars of 100 above and below.
        ("square", (0.25, 0.375, 0.5, 0.625)),
        # 1428x728 is the nearest that has 1280 squares of 28.
        ("resized", (357, 182, 714, 546)),
    ],
)
def test_what_the_numbers_are_may_be_known(make, units, numbers):
    pixels = (1280 * 28 * 28, 16384 * 28 * 28)
    assert in_units(numbers, units, 400, 200, pixels) == pytest.approx((100, 50, 200, 150))
    text = str([*numbers])
    plain = make({}).score({"0": text}).metrics
    both = make({}, units=units).score({"0": text}).metrics
    # The evaluator's remain the default, and the primary metric.
    assert {name: each for name, each in both.items() if not name.startswith("boxes")} == plain
    assert both[f"boxes in {units}"]["Average"]["Precision@1"] == 100


def test_qwens_pixels_are_misread_by_the_evaluator_and_right_beside_it(make):
    score = make({}, units="resized").score({"0": '[{"bbox_2d": [357, 182, 714, 546]}]'})
    assert score.value == score.metrics["RefCOCO_val"]["Precision@1"] == 0
    assert score.metrics["boxes in resized"]["RefCOCO_val"]["Precision@1"] == 100


@pytest.mark.parametrize("size", [(640, 480), (333, 500), (30, 2000), (4000, 5000), (20, 20)])
@pytest.mark.parametrize("limits", [(1280 * 784, 16384 * 784), (3136, 100352)])
def test_pictures_are_resized_as_transformers_does(size, limits):
    smart_resize = pytest.importorskip(
        "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl"
    ).smart_resize
    height, width = smart_resize(
        size[1], size[0], factor=28, min_pixels=limits[0], max_pixels=limits[1]
    )
    assert resized(*size, *limits) == (width, height)


def test_the_command_takes_what_the_numbers_are(tmp_path, capsys):
    case = golden_case(GOLDEN, "refcoco", tmp_path)
    words = ["score", "refcoco", "--data", str(case.data), "--option", "units=thousandths"]
    assert main([*words, "--predictions", str(case.predictions_file)]) == 0
    assert "thousandths" in capsys.readouterr().out
    assert main([*words[:-1], "units=inches", "--predictions", "x"]) == 2
    assert "units" in capsys.readouterr().err
