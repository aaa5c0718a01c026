"""Runs in this process: what is done, stored, reused, and what becomes of failures."""

from __future__ import annotations

import io
import json
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from lossylens.codec import Codec
from lossylens.errors import BitstreamError, LossylensError, PluginError
from lossylens.grid.config import Config
from lossylens.grid.plan import make_plan
from lossylens.images import evaluator_parity
from lossylens.images.pixels import decoded_image, source_image
from lossylens.run.asking import batches
from lossylens.run.decoding import ahead
from lossylens.run.driver import run
from lossylens.store.database import Store
from lossylens.task import Primary, Score
from lossylens.uncompressed import Uncompressed
from lossylens.vlm import ImageQuestions
from PIL import Image

MakeConfig = Callable[..., Config]

#: Tables that are the same however often a run was interrupted.
LASTING = (
    "parts",
    "images",
    "encodings",
    "samples",
    "sample_images",
    "cells",
    "predictions",
    "scores",
    "resamplings",
    "verdicts",
)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return what codec, VLM and task were called for since last asked."""
    path = tmp_path / "log"
    monkeypatch.setenv("SAMPLE_LOG", str(path))

    def take() -> list[str]:
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    return take


def do(config: Config) -> int:
    return run(config, lambda line: None)


def contents(folder: Path) -> dict[str, list[tuple]]:
    with Store(folder, writable=False) as store:
        return {
            table: [tuple(row) for row in store.rows(f"SELECT * FROM {table}")] for table in LASTING
        }


def failures(folder: Path) -> set[tuple[str, str, str, str]]:
    with Store(folder, writable=False) as store:
        return {
            (row["stage"], row["level"], row["sample"].partition(".")[0], row["failure"])
            for row in store.rows("SELECT * FROM failures")
        }


def count(lines: list[str], what: str) -> int:
    return sum(line.startswith(what) for line in lines)


def test_a_run(make_config: MakeConfig, calls: Callable[[], list[str]]) -> None:
    config = make_config()
    said: list[str] = []
    assert run(config, said.append) == 0
    assert said[0] == "1 VLM x 3 codec levels x 1 task = 3 cells"
    assert said[1].startswith("6 distinct images, 24 questions: 12 encodings, 72 answers; ")
    done = calls()
    assert (count(done, "encode"), count(done, "answer"), count(done, "score")) == (14, 72, 3)
    with Store(config.run.out, writable=False) as store:
        scores = store.rows("SELECT * FROM cells JOIN scores ON cell = key ORDER BY position")
        sizes = store.rows(
            "SELECT sum(encodings.bytes), sum(width * height) FROM encodings"
            " JOIN images ON sha256 = image GROUP BY codec"
        )
        runs = store.rows("SELECT * FROM runs")
        timings = dict(map(tuple, store.rows("SELECT stage, sum(items) FROM timings GROUP BY 1")))
    assert [(row["codec_label"], row["level"]) for row in scores] == [
        ("uncompressed", "raw"),
        ("blocky", "b64"),
        ("blocky", "b16"),
    ]
    assert (scores[0]["bpp_mean"], scores[0]["bpp_total"]) == (24, 24)
    assert {row["bpp_total"] for row in scores[1:]} == {8 * bits / area for bits, area in sizes}
    assert scores[1]["bpp_mean"] != scores[1]["bpp_total"]
    assert all(row["images"] == 6 and row["samples"] == 24 for row in scores)
    assert timings == {"encode": 12, "decode": 12, "answer": 72}
    assert runs[0]["outcome"] == "done"
    manifest = json.loads(runs[0]["manifest"])
    assert manifest["plugins"] == {"lossylens-sample": "1.0"}
    assert manifest["seeds"] == {"tasks.patches.seed": 1}
    assert manifest["evaluator_parity"] is False
    assert json.loads(runs[0]["config"])["tasks"]["patches"]["images"] == 6


def test_a_finished_run_does_nothing_again(
    make_config: MakeConfig, calls: Callable[[], list[str]]
) -> None:
    config = make_config()
    do(config)
    before = contents(config.run.out)
    calls()
    said: list[str] = []
    assert run(config, said.append) == 0
    assert calls() == []
    assert said[2:] == ["Done already: 12 encodings, 72 answers"]
    assert contents(config.run.out) == before


def test_processes_give_the_same(make_config: MakeConfig, tmp_path: Path) -> None:
    alone, pool = make_config(), make_config("run.workers=2", f"run.out={tmp_path / 'pool'}")
    do(alone)
    do(pool)
    assert contents(alone.run.out) == contents(pool.run.out)


@pytest.mark.parametrize(
    ("override", "again"),
    [
        ("vlms.seer.salt=1", (0, 72, 3)),
        ("codecs.blocky.offset=1", (14, 48, 2)),
        ("codecs.blocky.levels=[b64, b8]", (7, 24, 1)),
        ("run.evaluator_parity=true", (14, 72, 3)),
        ("tasks.patches.questions=5", (0, 90, 3)),
        ("run.limit=2", (0, 0, 3)),
        ("tasks={twice: {plugin: patches, images: 6, questions: 4}}", (0, 0, 0)),
        ("adaptors={darken: null}", (0, 72, 3)),
    ],
)
def test_a_changed_option_does_again_what_depends_on_it(
    make_config: MakeConfig,
    calls: Callable[[], list[str]],
    override: str,
    again: tuple[int, int, int],
) -> None:
    do(make_config())
    calls()
    do(make_config(override))
    done = calls()
    assert (count(done, "encode"), count(done, "answer"), count(done, "score")) == again


def test_a_limit_that_is_lifted(
    make_config: MakeConfig, calls: Callable[[], list[str]], tmp_path: Path
) -> None:
    limited = make_config("run.limit=2")
    do(limited)
    done = calls()
    assert (count(done, "encode"), count(done, "answer")) == (6, 24)
    with Store(limited.run.out, writable=False) as store:
        rows = store.rows("SELECT DISTINCT samples, missing, limited FROM scores")
        assert list(map(tuple, rows)) == [(8, 0, 1)]
    do(make_config())
    done = calls()
    assert (count(done, "encode"), count(done, "answer")) == (8, 48)
    do(make_config(f"run.out={tmp_path / 'other'}"))
    assert contents(limited.run.out) == contents(tmp_path / "other")


def test_a_dry_run_writes_nothing(make_config: MakeConfig, calls: Callable[[], list[str]]) -> None:
    config = make_config()
    said: list[str] = []
    assert run(config, said.append, dry=True) == 0
    assert not config.run.out.exists()
    do(config)
    before = {path: path.stat().st_mtime_ns for path in config.run.out.rglob("*")}
    calls()
    run(config, said.append, dry=True)
    assert "Done already: 12 encodings, 72 answers" in said
    assert "hours of one worker for encoding, most for codecs.blocky" in said[-2]
    # Decoding is part of it; which of the two takes longer is the machine's affair.
    assert "hours of one worker for answering, most for" in said[-1]
    assert "vlms.seer" in said[-1]
    assert {path: path.stat().st_mtime_ns for path in config.run.out.rglob("*")} == before
    assert calls() == []


def test_images_are_shared_between_tasks(
    make_config: MakeConfig, calls: Callable[[], list[str]]
) -> None:
    more = "tasks.more={plugin: patches, images: 8, questions: 1}"
    config = make_config(more, "run.uncompressed=false")
    do(config)
    done = calls()
    # The first image at each level twice, to see whether the codec is deterministic.
    assert count(done, "encode") == 8 * 2 + 2
    assert count(done, "answer") == (6 * 4 + 8) * 2


TROUBLES = "refused,raising,undecodable,shrinking,truncated,unreadable,unanswerable,impossible,"


def test_failures_are_recorded_and_everything_else_is_done(
    make_config: MakeConfig, calls: Callable[[], list[str]]
) -> None:
    config = make_config(
        "tasks.patches.images=10",
        f"tasks.patches.troubles='{TROUBLES}unbearable'",
        "codecs.blocky.levels=[b8]",
    )
    assert do(config) == 4 * (2 * 4 + 4)
    size = "RGB 1x1, not RGB 24x19"
    assert failures(config.run.out) == {
        ("encode", "b8", "0", "blocky does not like it"),
        ("encode", "b8", "1", "ZeroDivisionError: a bug"),
        ("decode", "b8", "2", "cannot make sense of it"),
        ("decode", "b8", "3", f"the decoder returned {size}"),
        *(("image", level, "4", truncated(config)) for level in ("raw", "b8")),
        *(("image", level, "5", "OSError: the file has gone") for level in ("raw", "b8")),
        *(("answer", level, "6", "it is beyond me") for level in ("raw", "b8")),
        *(("answer", level, "7", "ValueError: no such thing") for level in ("raw", "b8")),
    }
    with Store(config.run.out, writable=False) as store:
        rows = store.rows(
            "SELECT level, failed, images, text IS NULL AS no, count(*) FROM cells"
            " JOIN scores ON scores.cell = key JOIN predictions ON predictions.cell = key"
            " GROUP BY level, no ORDER BY position, no"
        )
    assert [tuple(row) for row in rows] == [
        ("raw", 16, 8, 0, 24),
        ("raw", 16, 8, 1, 16),
        ("b8", 32, 6, 0, 8),
        ("b8", 32, 6, 1, 32),
    ]
    calls()
    # Failures stay as they are until they are to be tried again.
    assert do(config) == 48
    assert calls() == []


def truncated(config: Config) -> str:
    with Store(config.run.out, writable=False) as store:
        [row] = store.rows("SELECT * FROM images WHERE failure IS NOT NULL")
    assert row["width"] is None
    assert "truncated" in row["failure"]
    return row["failure"]


def test_failures_are_tried_again_on_request(
    make_config: MakeConfig, calls: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMPLE_TROUBLES", "unreadable")
    monkeypatch.setenv("SAMPLE_SULK", "question 2.")
    assert do(make_config()) == 24
    monkeypatch.delenv("SAMPLE_TROUBLES")
    monkeypatch.delenv("SAMPLE_SULK")
    calls()
    said: list[str] = []
    assert run(make_config(), said.append) == 24
    assert any(line.startswith("Of these, 24 answers failed: kept; run.retry") for line in said)
    # The image that can be read now is encoded; its samples have failed and stay so.
    assert count(calls(), "answer") == 0
    assert run(make_config("run.retry_failed=true"), said.append) == 0
    assert "Of these, 24 answers failed: tried again" in said
    done = calls()
    assert (count(done, "encode"), count(done, "answer"), count(done, "score")) == (0, 24, 3)


def test_a_dead_worker_fails_its_image_alone(make_config: MakeConfig) -> None:
    config = make_config("run.workers=2", "tasks.patches.troubles='crashing'")
    assert do(config) == 8
    reason = "the worker process was killed by SIGSEGV"
    assert failures(config.run.out) == {("encode", level, "0", reason) for level in ("b64", "b16")}


def test_a_file_that_changes_is_not_mixed_up(make_config: MakeConfig) -> None:
    config = make_config("tasks.patches.troubles='fickle'")
    assert do(config) == 12
    reason = "the image file has changed since the run has begun"
    assert {(stage, failure) for stage, _, _, failure in failures(config.run.out)} == {
        ("encode", reason),
        ("decode", reason),
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_what_concerns_all_images_stops_the_run(make_config: MakeConfig, workers: int) -> None:
    config = make_config("tasks.patches.troubles=',,,,,hopeless'", f"run.workers={workers}")
    with pytest.raises(LossylensError, match="lost its binary"):
        do(config)
    with Store(config.run.out, writable=False) as store:
        assert store.rows("SELECT outcome FROM runs")[0]["outcome"] == "error"
        kept = store.rows("SELECT count(*) FROM encodings")[0][0]
        assert kept <= 10


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("[]", "vlm 'seer' gave [0] answers to [4] questions"),
        ("None", "vlm 'seer' must return a list of Answers for each image, not [None]"),
        ("['yes'] * 4", "vlm 'seer' must return a list of Answers for each image, not 'yes'"),
        ("[Answer(5)] * 4", "vlm 'seer' must return a list of Answers for each image, not Answer("),
    ],
)
def test_a_vlm_that_breaks_its_contract_is_told(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, reply: str, reason: str
) -> None:
    config = make_config()
    monkeypatch.setenv("SAMPLE_REPLY", reply)
    assert do(config) == 72
    [told] = {failure for _, _, _, failure in failures(config.run.out)}
    assert reason in told
    assert told.startswith(("TypeError: ", "ValueError: "))


def test_a_plugin_at_fault_is_left_alone_and_all_else_is_done(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that fails on every image is not asked about thousands."""
    two = "vlms={seer: null, other: {plugin: seer, salt: 1}}"
    config = make_config(two, "tasks.patches.images=30")
    monkeypatch.setenv("SAMPLE_REPLY", "None if self.options.salt == 0 else [Answer('1')] * 4")
    said: list[str] = []
    with pytest.raises(
        PluginError, match=r"vlm 'seer' failed on 10 images .* always with the same"
    ):
        run(config, said.append)
    with Store(config.run.out, writable=False) as store:
        rows = store.rows("SELECT DISTINCT vlm_label FROM cells JOIN predictions ON cell = key")
        assert [row[0] for row in rows] == ["other"]
        assert store.rows("SELECT count(*) FROM scores")[0][0] == 3
    [trace] = (config.run.out / "faults").iterdir()
    assert "TypeError" in trace.read_text()
    # Nothing of it is recorded, so the same command tries again.
    monkeypatch.delenv("SAMPLE_REPLY")
    assert do(config) == 0


def test_a_codec_at_fault_is_left_alone_and_all_else_is_done(make_config: MakeConfig) -> None:
    troubles = ",".join(["raising"] * 30)
    codecs = "codecs={blocky: {levels: [b8]}, jpeg: {plugin: blocky, levels: [b4]}}"
    config = make_config("tasks.patches.images=30", f"tasks.patches.troubles='{troubles}'", codecs)
    with pytest.raises(PluginError, match="encoder of codec 'blocky' failed on 10 images"):
        do(config)
    with Store(config.run.out, writable=False) as store:
        assert store.rows("SELECT count(*) FROM encodings")[0][0] == 0
        assert store.rows("SELECT count(*) FROM scores")[0][0] == 1


def test_decoders_that_misbehave_fail_their_images_alone(make_config: MakeConfig) -> None:
    troubles = "exiting,killed,hanging,greedy,wandering"
    config = make_config(
        f"tasks.patches.troubles='{troubles}'",
        "codecs.blocky.levels=[b8]",
        "run.timeout=6",
        "run.memory=0.5",
    )
    assert do(config) == 4 * 4
    assert failures(config.run.out) == {
        ("decode", "b8", "0", "SystemExit: 0"),
        ("decode", "b8", "1", "the worker process was killed by SIGSEGV"),
        ("decode", "b8", "2", "it took longer than 6 s (run.timeout)"),
        ("decode", "b8", "3", "it took more than 0.5 GB of memory (run.memory)"),
    }


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("forbidden", "the worker process was killed by SIGABRT"),
        ("endless", "it took longer than 8 s (run.timeout)"),
    ],
)
def test_a_model_that_crashes_is_named_and_the_next_start_goes_on(
    make_config: MakeConfig, trouble: str, reason: str
) -> None:
    config = make_config(
        f"tasks.patches.troubles=',{trouble}'", "codecs.blocky.levels=[b8]", "run.timeout=8"
    )
    with pytest.raises(PluginError, match=r"vlm 'seer' crashed: .* asked about 3 images"):
        do(config)
    said: list[str] = []
    assert run(config, said.append) == 2 * 4
    assert any("crashed at an earlier start; the 3 images" in line for line in said)
    # At the other level it crashes on the same image, which is asked about alone by now.
    assert failures(config.run.out) == {("answer", level, "1", reason) for level in ("raw", "b8")}
    with Store(config.run.out, writable=False) as store:
        assert store.rows("SELECT count(*) FROM scores")[0][0] == 2


def test_what_may_pass_is_asked_again_and_not_scored_until_then(
    make_config: MakeConfig, calls: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("codecs.blocky.levels=[b8]")
    busy = "[Answer(None, 'busy', transient=True)] * 4"
    monkeypatch.setenv("SAMPLE_REPLY", busy)
    said: list[str] = []
    assert run(config, said.append) == 48
    assert said[-1].startswith("2 cells are not scored, because questions failed for a reason")
    with Store(config.run.out, writable=False) as store:
        assert store.rows("SELECT count(*) FROM scores")[0][0] == 0
    assert run(make_config("codecs.blocky.levels=[b8]", "run.accept_failures=true"), print) == 48
    with Store(config.run.out, writable=False) as store:
        assert store.rows("SELECT count(*) FROM scores")[0][0] == 2
    monkeypatch.delenv("SAMPLE_REPLY")
    calls()
    assert do(config) == 0
    assert count(calls(), "answer") == 48


def test_long_reasons_are_cut(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_REPLY", "[Answer(None, 'begin' + 'x' * 10**6 + 'end')] * 4")
    config = make_config()
    do(config)
    for _, _, _, reason in failures(config.run.out):
        assert reason.startswith("begin")
        assert reason.endswith("end")
        assert len(reason) <= 600


def test_a_codec_that_is_not_deterministic_is_told(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMPLE_RANDOM", "1")
    config = make_config("codecs.blocky.levels=[b8]")
    said: list[str] = []
    run(config, said.append)
    text = "Note: codec 'blocky' at b8: it is not deterministic: it made two bitstreams of one"
    assert any(line.startswith(text) for line in said)


def test_a_metric_of_another_split_stands_for_the_primary_one() -> None:
    from lossylens.run.scoring import score_problems

    primary = Primary("dev/Overall", 0, 1)
    assert list(score_problems(Score({"test": {"Overall": 0.5}}, 0.5), primary)) == []
    assert list(score_problems(Score({"test": {"Overall": 0.5}}, 0.4), primary))
    assert list(score_problems(Score({"test": {"Other": 0.5}}, 0.5), primary))
    assert list(score_problems(Score({"Overall": 0.5}, 0.5), primary))


@pytest.mark.parametrize(
    ("score", "problem"),
    [
        ("Score({'right': 101.0}, 101.0)", "its score of 101 is outside the range"),
        ("Score({'wrong': 1.0}, 1.0)", "its primary metric 'right' is not among the metrics"),
        ("Score({'right': 1.0}, 2.0)", "the value of its Score is 2, its primary metric 'right' 1"),
        ("resampled(Resampling.mean(dict(zip(predictions, (1, 0)))))", "1, .* gives 0.5"),
        ("resampled(Resampling('median', {}))", "'median', not one of mean, f1, sum-of-means"),
        ("resampled(Resampling('mean', {'0.0': (1,)}))", r"has \(1,\) of '0.0', no parts of mean"),
        ("resampled(Resampling('f1', {'0.0': (1, 1)}))", r"\(1, 1\) of '0.0', no parts of f1"),
        ("resampled(Resampling('mean', {'0.0': (1, float('nan'))}))", r"\(1, nan\) of '0.0'"),
        ("resampled(Resampling.mean({'9.9': 1.0}))", "'9.9', which is no sample that was asked"),
        (
            "resampled(Resampling('sum-of-means', {'0.0': (1, 1), '0.1': (1, 1, 1, 1)}))",
            "2 and 4 parts of different samples",
        ),
        ("resampled(Resampling.mean({'0.0': 1.0}, '1'))", "factor of its resampling is '1'"),
        ("resampled('mean')", "is 'mean' instead of a Resampling"),
        ("{'right': 1.0}", "returned {'right': 1.0} instead of a Score"),
        ("1 / 0", "score\\(\\) raised ZeroDivisionError: division by zero \\(<string>, line 1"),
        ("exit(0)", "score\\(\\) raised SystemExit: 0"),
    ],
)
def test_a_task_that_breaks_its_contract_is_refused(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, score: str, problem: str
) -> None:
    monkeypatch.setenv("SAMPLE_SCORE", score)
    with pytest.raises(PluginError, match=f"task 'patches'.*{problem}"):
        do(make_config())


def test_the_score_follows_the_clusters(
    make_config: MakeConfig, calls: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that draws other samples together is scored anew; no answer is lost."""
    do(make_config())
    calls()
    monkeypatch.setenv("SAMPLE_CLUSTER", "pair {pair}")
    config = make_config()
    do(config)
    done = calls()
    assert (count(done, "answer"), count(done, "score")) == (0, 3)
    with Store(config.run.out, writable=False) as store:
        for row in store.rows("SELECT * FROM resamplings"):
            sums = json.loads(row["sums"])
            assert [weight for _, weight in sums.values()] == [8, 8, 8]
            assert list(sums) == ["pair 0", "pair 1", "pair 2"]


def test_the_score_follows_the_data(
    make_config: MakeConfig, calls: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are kept where labels alone have changed, even if the task does not tell."""
    monkeypatch.setenv("SAMPLE_DATA", "the same")
    do(make_config())
    calls()
    monkeypatch.setenv("SAMPLE_LABEL", "corrected")
    do(make_config())
    done = calls()
    assert (count(done, "answer"), count(done, "score")) == (0, 3)


def test_a_damaged_bitstream_is_told_and_mended(make_config: MakeConfig) -> None:
    config = make_config("codecs.blocky.levels=[b8]")
    do(config)
    with Store(config.run.out, writable=True) as store:
        row = store.rows("SELECT * FROM encodings LIMIT 1")[0]
        path = config.run.out / "bitstreams" / row["bitstream"][:2] / row["bitstream"]
        content = path.read_bytes()
        path.write_bytes(bytes(len(content)))
        before = store.rows("SELECT * FROM predictions")
        # As if the answers had not been given yet.
        with store._writing() as database:
            database.execute("DELETE FROM predictions")
    assert do(config) == 4
    assert {each[3] for each in failures(config.run.out)} == {"the stored bitstream is damaged"}
    assert do(make_config("codecs.blocky.levels=[b8]", "run.retry_failed=true")) == 0
    assert path.read_bytes() == content
    with Store(config.run.out, writable=False) as store:
        assert store.rows("SELECT * FROM predictions") == before


def watched(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> list[ImageQuestions]:
    """Return what the model was given in a run."""
    path = tmp_path / "given"
    monkeypatch.setenv("SAMPLE_GIVEN", str(path))
    do(config)
    with path.open("rb") as file:
        given = []
        while file.peek(1):
            given.append(pickle.load(file))
        return given


@pytest.mark.parametrize("parity", [False, True])
def test_the_vlm_is_given_exactly_what_the_decoder_returned(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parity: bool
) -> None:
    config = make_config(f"run.evaluator_parity={parity}", "codecs.blocky.levels=[b8]")
    given = watched(config, monkeypatch, tmp_path)
    plan = make_plan(config)
    sources = {
        sample.images[0].key: source_image(sample.images[0].read(), parity=False)
        for sample in plan.benchmarks[0].task.samples()
    }
    assert len(given) == 2 * len(sources)
    codec = config.registry.build_codec("blocky", "b8")
    for item in given:
        source = sources[item.questions[0].text.split()[-1].partition(".")[0]]
        if parity:
            source = evaluator_parity(source)
        if item.condition.point.codec == "uncompressed":
            assert item.image.tobytes() == source.tobytes()
            continue
        bitstream = codec.encode(source)
        assert item.condition.bitstream == bitstream
        decoded = codec.decode(bitstream)
        expected = evaluator_parity(decoded) if parity else decoded
        assert item.image.tobytes() == expected.tobytes()
        assert item.image.size == source.size
        if parity:
            assert expected.tobytes() != decoded.tobytes()


def test_uncompressed_is_what_its_codec_would_give() -> None:
    """The run leaves the codec out; by definition, that makes no difference."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    source = source_image(buffer.getvalue(), parity=False)
    from lossylens.codec import Level

    codec = Uncompressed(Level("raw"), None)
    assert codec.decode(codec.encode(source)).tobytes() == source.tobytes() == pixels.tobytes()


def test_all_questions_of_an_image_come_together(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    more = "tasks.more={plugin: patches, images: 3, questions: 2}"
    given = watched(make_config(more, "codecs.blocky.levels=[b8]"), monkeypatch, tmp_path)
    assert sorted(len(item.questions) for item in given) == [4] * 6 + [6] * 6


def test_what_a_decoder_returns_is_checked() -> None:
    class Grey(Codec):
        def encode(self, image):
            raise NotImplementedError

        def decode(self, bitstream):
            return Image.new("L", (4, 4))

    with pytest.raises(BitstreamError, match="returned L 4x4, not RGB 4x4"):
        decoded_image(Grey(None, None), b"", (4, 4), parity=False)


def test_ahead_keeps_order_and_depth() -> None:
    worked: list[int] = []

    def work(item: int) -> int:
        worked.append(item)
        return -item

    results = ahead(work, range(20), 2)
    assert next(results) == (0, 0)
    assert len(worked) <= 5
    assert list(results) == [(item, -item) for item in range(1, 20)]


def test_ahead_passes_exceptions_on_and_stops() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(ahead(str, items(), 1))
    endless = ahead(str, iter(int, 1), 1)
    assert next(endless) == (0, "0")
    endless.close()


def test_ahead_is_bounded_by_weight() -> None:
    worked: list[int] = []
    results = ahead(lambda item: worked.append(item) or item, range(9), 8, lambda _: 4.0, 9.0)
    assert next(results) == (0, 0)
    for _ in range(100):
        if len(worked) == 3:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    # Two wait, and the third does not fit.
    assert worked == [0, 1, 2]
    assert len(list(results)) == 8
    # What is heavier than all that may wait still comes, alone.
    assert [item for item, _ in ahead(str, range(3), 8, lambda _: 50.0, 9.0)] == [0, 1, 2]


def test_batches() -> None:
    class Job(NamedTuple):
        name: int
        alone: bool
        order: tuple[int, ...] = (0,)
        adaptor: str = ""

    def names(*alone: int, size: int) -> list[list[int]]:
        jobs = [(Job(name, name in alone), "decoded") for name in range(5)]
        return [[job.name for job, _ in batch] for batch in batches(jobs, size)]

    assert names(size=2) == [[0, 1], [2, 3], [4]]
    assert names(1, 4, size=3) == [[0], [1], [2, 3], [4]]
    several = [(Job(name, False, tuple(range(1 + name))), "decoded") for name in range(4)]
    assert [[job.name for job, _ in each] for each in batches(several, 4)] == [[0, 1], [2], [3]]
