"""What a report reads out of a run folder: scores, intervals, identities, samples."""

from __future__ import annotations

import base64
import io
import pickle
import re
import sqlite3

import numpy as np
import pytest

pytest.importorskip("plotly")
pytest.importorskip("scipy")

from lossylens.cells import CellResult
from lossylens.cli import main
from lossylens.errors import ConfigError, StoreError
from lossylens.run.driver import run
from lossylens.store.database import Store
from lossylens_report import write_report
from lossylens_report.comparing import Source, compare
from lossylens_report.reading import read_run
from lossylens_report.sample_pictures import SIDE, Budget, embedded
from lossylens_report.samples import choose, write_samples
from lossylens_report.verdicts import TaskVerdicts
from lossylens_report.watching import INTERVAL, watch_runs
from PIL import Image


@pytest.fixture
def finished(make_config):
    def make(*overrides):
        config = make_config(*overrides)
        run(config, lambda line: None)
        return config.run.out

    return make


def verdicts(**changes):
    """Return four questions on two images: verdicts 1, 0, 1, 1 of the cell ``key``."""
    fields = {
        "samples": ("a", "b", "c", "d"),
        "images": ("one", "two"),
        "image": np.array([0, 0, 1, 1]),
        "topics": ("", "", "", ""),
        "verdicts": {"key": np.array([1, 0, 1, 1], dtype=np.float32)},
    }
    return TaskVerdicts(**(fields | changes))


def cell(value, **changes):
    fields = {"vlm": "v", "adaptor": "", "codec": "jpeg", "level": "q1", "task": "t"}
    more = {"uncompressed": False, "metric": "m", "bpp": 0.1, "key": "key"}
    return CellResult(**(fields | more | {"value": value} | changes))


def test_scores_of_a_run_have_intervals_and_rates(finished):
    reading = read_run(finished())
    compressed = [each for each in reading.results.cells if not each.uncompressed]
    assert {each.level for each in compressed} == {"b64", "b16"}
    for each in compressed:
        low, high = each.interval
        assert low <= each.value <= high
        rates = reading.replicates[each.key].rates
        assert rates.mean() == pytest.approx(each.bpp, rel=0.05)
    [data] = reading.results.data.values()
    assert "24 questions on 6 images" in data.words


def test_runs_are_comparable_if_data_and_questions_agree(finished, tmp_path):
    one = read_run(finished(f"run.out={tmp_path / 'one'}"))
    same = read_run(finished(f"run.out={tmp_path / 'same'}", "codecs.blocky.levels=[b16]"))
    less = read_run(finished(f"run.out={tmp_path / 'less'}", "run.limit=3"))
    found = compare([Source(each.results) for each in (one, same, less)])
    assert [group.title for group in found.groups] == ["patches (one, same)", "patches (less)"]
    assert len(found.apart) == 1


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="is no run folder"):
        write_report(tmp_path)


def test_browser_shows_pictures_answers_and_flips(finished, browse):
    content = browse([read_run(finished())])
    [item, *_] = content["items"]
    assert {each["level"] for each in item["cells"]} == {"raw", "b64", "b16"}
    picture = content["pictures"][f"run {item['image']} blocky b16"]
    assert picture["src"].startswith("data:image/webp;base64,")
    assert picture["bpp"] > 0
    assert content["pictures"][f"run {item['image']} original"]["src"].startswith("data:")


def test_browser_says_what_the_budget_left_out(finished, browse):
    content = browse([read_run(finished())], Budget(size=1))
    reasons = [each["why"] for each in content["pictures"].values() if "why" in each]
    assert len(reasons) == len(content["pictures"]) - 1
    assert "MB of pictures are there already" in reasons[0]


def test_browser_says_why_a_picture_cannot_be_decoded(finished, browse):
    folder = finished()
    for path in (folder / "bitstreams").glob("*/*"):
        path.write_bytes(b"damaged")
    content = browse([read_run(folder)])
    assert {"the stored bitstream is damaged"} == {
        each["why"] for each in content["pictures"].values() if "why" in each
    }


def pixels(picture):
    """Return the image in a picture of the browser."""
    content = base64.b64decode(picture["src"].partition(",")[2])
    return Image.open(io.BytesIO(content)).convert("RGB")


@pytest.mark.parametrize("parity", [False, True])
def test_pictures_have_the_very_pixels_that_the_model_was_given(
    finished, monkeypatch, tmp_path, browse, parity
):
    path = tmp_path / "given"
    monkeypatch.setenv("SAMPLE_GIVEN", str(path))
    folder = finished(f"run.evaluator_parity={str(parity).lower()}")
    given = set()
    with path.open("rb") as file:
        while file.peek(1):
            each = pickle.load(file)
            given.add((each.condition.point.level, each.image.tobytes()))
    pictures = browse([read_run(folder)])["pictures"]
    assert len(pictures) == 6 * 3
    for key, picture in pictures.items():
        assert picture["exact"], key
        level = "raw" if key.endswith(" original") else key.rpartition(" ")[2]
        assert (level, pixels(picture).tobytes()) in given, key


@pytest.mark.parametrize(
    "overrides",
    [
        ("codecs.blocky.program=here", "tasks.patches.place=there"),
        (
            "codecs={BLK: {levels: [b64], program: no}, mine: {plugin: blocky, program: here,"
            " levels: [b16]}}",
            "tasks={mine: {plugin: patches, images: 6, questions: 4, place: there}}",
        ),
    ],
)
def test_options_that_change_no_result_are_as_in_the_run(
    finished, monkeypatch, tmp_path, overrides
):
    """Where data and programs are is no part of any key, but needed all the same."""
    folder = finished(*overrides)
    path = tmp_path / "built"
    monkeypatch.setenv("SAMPLE_BUILT", str(path))
    write_samples([read_run(folder)], tmp_path / "browser")
    seen = {tuple(line.split()) for line in path.read_text().splitlines()}
    programs = {"b64": "here" if len(overrides[0]) < 40 else "no", "b16": "here"}
    assert seen == {("task", "there"), *programs.items()}


def test_pictures_that_are_large_or_over_the_budget_are_marked():
    noise = Image.effect_noise((SIDE + 1, 20), 90).convert("RGB")
    large = embedded(noise, exact=True)
    assert "exact" not in large
    assert max(pixels(large).size) == SIDE
    small = noise.crop((0, 0, 20, 20))
    assert pixels(embedded(small, exact=True)).tobytes() == small.tobytes()
    assert "exact" not in embedded(small, exact=False)


def change(folder, *statements):
    """Change the database of a run."""
    with sqlite3.connect(folder / "run.sqlite") as database:
        for statement in statements:
            database.execute(statement)
    database.close()


def reported(capsys, folder, *arguments):
    """Write a report; return what is printed."""
    capsys.readouterr()
    assert main(["report", str(folder), *arguments]) == 0
    return capsys.readouterr()


#: The cell of the last level, of which a killed run has half of the answers.
HALF = (
    "DELETE FROM scores WHERE cell IN (SELECT key FROM cells WHERE level = 'b16')",
    "DELETE FROM predictions WHERE cell IN (SELECT key FROM cells WHERE level = 'b16')"
    " AND sample IN (SELECT id FROM samples WHERE position % 2)",
    "UPDATE runs SET ended = NULL, outcome = NULL",
)


def test_cells_that_are_not_finished_are_told_and_the_others_shown(finished, capsys):
    folder = finished()
    change(folder, *HALF)
    out, err = reported(capsys, folder, "--format", "html", "--format", "csv")
    assert out == f"{folder / 'report' / 'index.html'}\n"
    first, second = err.splitlines()
    expected = (
        "run: 1 of 3 cells is not finished (the run is in progress, or was killed) and not shown,"
        " 12 of its 24 questions answered. `lossylens run` with the same configuration goes on"
        " with it."
    )
    assert first == expected
    assert second == "  seer, blocky b16, patches: 12 of 24 questions answered"
    page = (folder / "report" / "index.html").read_text()
    assert expected in page
    assert "Cells that are not finished (1)" in page
    table = (folder / "report" / "tables" / "unfinished.csv").read_text().splitlines()
    assert table[1:] == ["run,patches,seer,blocky,b16,12,24,none yet"]
    scores = (folder / "report" / "tables" / "scores.csv").read_text()
    assert "b64" in scores
    assert "b16" not in scores


def test_where_nothing_is_scored_the_page_has_counts(finished, capsys):
    folder = finished()
    change(folder, "DELETE FROM scores", "UPDATE runs SET outcome = 'interrupted'", HALF[1])
    err = reported(capsys, folder, "--format", "all").err
    expected = (
        "run: nothing is scored yet (the run was interrupted): none of 3 cells is finished,"
        " 60 of their 72 questions answered."
    )
    assert err.startswith(expected)
    assert err.count(" of 24 questions answered") == 3
    page = (folder / "report" / "index.html").read_text()
    assert expected in page
    assert 'id="curves"' not in page
    markdown = (folder / "report" / "tables" / "unfinished.md").read_text()
    assert "| run | patches | seer | blocky | b16 | 12 | 24 | none yet |" in markdown


def test_a_run_that_is_stopped_while_it_answers_can_be_reported(make_config, monkeypatch, capsys):
    config = make_config()
    keep, count = Store.add_predictions, iter(range(100))

    def stopping(store, predictions, timings=()):
        predictions = list(predictions)
        if predictions and next(count) == 9:
            raise KeyboardInterrupt
        keep(store, predictions, timings)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_predictions", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(config, lambda line: None)
    err = reported(capsys, config.run.out).err
    assert "the run was interrupted" in err
    with Store(config.run.out, writable=False) as store:
        scored = store.rows("SELECT count(*) FROM scores")[0][0]
    named = re.findall(
        r"^  .*: (\d+) of 24 questions answered(?:, not scored yet)?$", err, re.MULTILINE
    )
    assert len(named) == 3 - scored
    assert "0" in named


def test_before_the_grid_is_known_the_page_says_so(finished, capsys):
    folder = finished()
    tables = ("scores", "predictions", "verdicts", "cells")
    change(folder, *(f"DELETE FROM {table}" for table in tables))
    assert "run: nothing is planned or scored yet" in reported(capsys, folder).err
    assert "nothing is planned or scored yet" in (folder / "report" / "index.html").read_text()


def test_a_score_of_an_earlier_start_is_marked(finished, capsys):
    folder = finished()
    change(folder, HALF[1])
    err = reported(capsys, folder).err.splitlines()
    assert err[0].startswith("run: 1 of 3 cells has a score of an earlier start, 12 of its 24")
    assert err[1].endswith("12 of 24 questions answered; its score is of an earlier start")


def test_a_finished_run_has_nothing_to_add(finished, capsys):
    folder = finished()
    assert reported(capsys, folder).err == ""
    page = (folder / "report" / "index.html").read_text()
    assert "Not shown" not in page


def test_cells_of_earlier_configurations_are_counted(finished, capsys):
    finished()
    folder = finished("codecs.blocky.offset=1")
    expected = "run: 2 cells of earlier configurations are in this folder and not shown."
    assert reported(capsys, folder).err == f"{expected}\n"
    assert expected in (folder / "report" / "index.html").read_text()


def test_sections_without_content_are_not_shown(finished):
    page = write_report(finished()).read_text()
    titles = re.findall(r"<h2 id=[^>]*>([^<]*)</h2>", page)
    links = re.findall(r'<li><a href="#([^"]*)">([^<]*)</a></li>', page)
    assert [title for _, title in links] == titles
    assert {"Overview", "Rate and score", "Samples", "How it was made"} <= set(titles)
    # One VLM, one task, no adaptor.
    assert {"Model size", "Gaps", "As printed"}.isdisjoint(titles)
    assert all(f'id="{anchor}"' in page for anchor, _ in links)


def test_images_with_flips_come_first_and_some_without():
    count = 40
    base = np.ones(count, dtype=np.float32)
    after = base.copy()
    after[30:] = 0
    judged = verdicts(
        samples=tuple(map(str, range(count))),
        images=tuple(map(str, range(count))),
        image=np.arange(count),
        verdicts={"base": base, "key": after},
    )
    cells = [cell(1.0, key="base", codec="uncompressed", uncompressed=True), cell(0.5)]
    places, flipped = choose(judged, cells, 8)
    assert flipped == 10
    assert places == [30, 31, 32, 33, 34, 35, 0, 1]


def test_boxes_are_there_to_be_drawn(finished, browse):
    folder = finished()
    truth, given = "[0.1000, 0.2000, 0.3000, 0.4000]", "[0.1000, 0.2000, 0.3000, 0.5000]"
    database = sqlite3.connect(folder / "run.sqlite")
    database.execute("UPDATE samples SET question = json_set(question, '$.kind', 'box')")
    database.execute("UPDATE samples SET fields = json_set(fields, '$.answer', ?)", (truth,))
    database.execute(
        "UPDATE predictions SET text = ? WHERE cell IN (SELECT key FROM cells WHERE level = 'b16')",
        (given,),
    )
    database.commit()
    database.close()
    [item, *_] = browse([read_run(folder)])["items"]
    assert item["box"] == [0.1, 0.2, 0.3, 0.4]
    boxes = {each["level"]: item["boxes"][each["place"]] for each in item["cells"]}
    assert boxes == {"raw": None, "b64": None, "b16": [0.1, 0.2, 0.3, 0.5]}


def test_rates_of_films_are_per_second(finished):
    folder = finished()
    database = sqlite3.connect(folder / "run.sqlite")
    # As if each of the six pictures were a film of half a second.
    database.execute("UPDATE samples SET fields = json_set(fields, '$.seconds', '0.5')")
    sizes = database.execute(
        "SELECT sum(encodings.bytes) FROM encodings JOIN cells ON cells.codec = encodings.codec"
        " WHERE cells.level = 'b16'"
    ).fetchone()
    database.commit()
    database.close()
    notes = [note.text for note in read_run(folder).results.notes if "per second" in note.text]
    assert len(notes) == 1
    assert "mean over 6 films" in notes[0]
    found = float(re.search(r"b16 (\d+\.?\d*)", notes[0])[1])
    assert found == pytest.approx(8 * sizes[0] / 6 / 0.5 / 1000, rel=0.01)


def test_watching_writes_whenever_the_run_has_gone_on_and_at_its_end(finished, monkeypatch):
    folder = finished()
    change(folder, "UPDATE runs SET ended = NULL, outcome = NULL")
    written, said, looks = [], [], iter(range(10))

    def sleep(_seconds):
        # The second look finds nothing new, the third a run that has ended.
        if next(looks) == 1:
            change(folder, "UPDATE runs SET ended = started, outcome = 'done'")

    monkeypatch.setattr("lossylens_report.watching.time.sleep", sleep)
    watch_runs([folder], written.append, said.append)
    assert written == [INTERVAL, 0]
    assert said == []


def test_watching_waits_for_a_run_and_ends_by_the_keyboard(tmp_path, monkeypatch):
    said = []

    def sleep(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("lossylens_report.watching.time.sleep", sleep)
    watch_runs([tmp_path], lambda _reload: pytest.fail("there is nothing to write"), said.append)
    assert [line.partition(";")[0] for line in said] == [
        "waiting for the run to begin",
        "no longer watched",
    ]
    with pytest.raises(ConfigError, match="no run folder is among these"):
        watch_runs(["published"], said.append, said.append)


def test_a_watched_page_reloads_itself_until_the_run_has_ended(finished, capsys):
    folder = finished()
    write_report(folder, reload=10, pictures=0)
    page = folder / "report" / "index.html"
    assert '<meta http-equiv="refresh" content="10">' in page.read_text()
    out, _ = reported(capsys, folder, "--watch")
    assert out == f"{page}\n"
    assert 'http-equiv="refresh"' not in page.read_text()
