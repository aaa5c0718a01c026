"""What to upload: the cheapest that keeps enough, or the best within a budget."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy")

from lossylens.cells import CellResult, TaskData
from lossylens.cli import main
from lossylens.run.driver import run
from lossylens.store.read_models import EncodingCost
from lossylens_report.advice import (
    EVERY_TASK,
    advice_in_words,
    advise_budget,
    advise_keeping,
    as_json_values,
    keeping_table,
)
from lossylens_report.comparing import Source, compare
from lossylens_report.replicates import Replicates
from lossylens_report.run_results import SourceResults

#: What draws add to a score: little for the first, much for the second.
NARROW, WIDE = np.linspace(-0.1, 0.1, 101), np.linspace(-9.0, 9.0, 101)


def cell(codec, level, value, *, task="pope", vlm="nano", adaptor="", **changes):
    made = CellResult(
        vlm=vlm,
        adaptor=adaptor,
        codec=codec,
        level=level,
        task=task,
        uncompressed=codec == "uncompressed",
        metric="accuracy",
        value=value,
        bpp=24.0 if codec == "uncompressed" else 0.5,
        images=10,
        samples=180,
        key=f"{vlm} {adaptor} {codec} {level} {task}",
    )
    return replace(made, **changes)


def groups_of(*described, drawn=NARROW, costs=True, **changes):
    """Return groups of (cell, bytes) pairs; the scores vary with the draws, the reference's not."""
    cells = tuple(each for each, _ in described)
    data = {each.task: TaskData(frozenset({each.task}), "words") for each in cells}
    known = {
        each.key: EncodingCost("codec", "task", size, 2 * size, 0.004) for each, size in described
    }
    results = SourceResults(name="run", cells=cells, data=data, costs=known if costs else {})
    replicates = {}
    if drawn is not None:
        for each in cells:
            spread = 0 * drawn if each.uncompressed else drawn
            replicates[each.key] = Replicates(each.value + spread, None)
    return compare([Source(results, replicates)]).groups


REFERENCE = (cell("uncompressed", "raw", 80.0), 90_000)
JPEG = [
    (cell("jpeg", "q5", 60.0), 1000),
    (cell("jpeg", "q25", 79.6), 2000),
    (cell("jpeg", "q75", 80.0), 5000),
]


def only(found):
    [advice] = found
    return advice


def test_the_cheapest_that_keeps_the_share_is_advised_with_its_costs():
    chain = (cell("messenger", "q50", 79.4), 1500)
    advice = only(advise_keeping(groups_of(REFERENCE, *JPEG, chain), 0.99))
    assert advice.choice.name == "messenger q50"
    assert advice.choice.share == pytest.approx(79.4 / 80)
    assert (advice.choice.size, advice.choice.seconds) == (1500, 0.004)
    assert advice.choice.interval == pytest.approx((79.305 / 80, 79.495 / 80), abs=1e-6)
    assert advice.sure is advice.choice
    assert advice.remark == ""


def test_what_the_interval_does_not_let_one_say_is_said():
    advice = only(advise_keeping(groups_of(REFERENCE, *JPEG, drawn=WIDE), 0.99))
    assert (advice.choice.name, advice.sure) == ("jpeg q25", None)
    assert advice.remark == "more images are needed to be sure of any"
    [text] = advice_in_words([advice], 0.99)
    assert "jpeg q25, 2000 bytes" in text
    assert "does not let one be sure" in text
    table = keeping_table([advice], 0.99)
    assert dict(zip(table.columns, table.rows[0], strict=True))["sure"] == "no"


def test_a_dearer_one_that_is_sure_is_named():
    better = (cell("webp", "q9", 90.0), 3000)
    advice = only(advise_keeping(groups_of(REFERENCE, *JPEG, better, drawn=WIDE), 0.99))
    assert (advice.choice.name, advice.sure.name) == ("jpeg q25", "webp q9")
    assert advice.remark == "sure: webp q9, 3000 bytes"


def test_without_draws_there_is_no_interval():
    advice = only(advise_keeping(groups_of(REFERENCE, *JPEG, drawn=None), 0.99))
    assert advice.choice.name == "jpeg q25"
    assert advice.choice.interval is None
    assert "no interval" in advice.remark


def test_a_curve_that_falls_again_is_no_silent_advice():
    dip = (cell("jpeg", "q50", 70.0), 3000)
    advice = only(advise_keeping(groups_of(REFERENCE, *JPEG, dip), 0.99))
    assert advice.remark == "q50 of jpeg costs more and keeps 87.5 % alone"


@pytest.mark.parametrize(
    ("given", "remark"),
    [
        ([REFERENCE, JPEG[0]], "nothing keeps 99 %: the most is 75 %, jpeg q5"),
        (JPEG, "there is no score on uncompressed images (run.uncompressed: true)"),
        ([REFERENCE], "nothing was run with a known rate"),
        (
            [(replace(REFERENCE[0], value=0.0), 1), *JPEG],
            "the score on uncompressed images is 0",
        ),
        (
            [(replace(each, higher_is_better=False), size) for each, size in [REFERENCE, *JPEG]],
            "of accuracy less is better, so that no share of it is kept",
        ),
    ],
)
def test_where_there_is_no_advice_there_is_a_reason(given, remark):
    advice = only(advise_keeping(groups_of(*given), 0.99))
    assert (advice.choice, advice.remark) == (None, remark)
    assert as_json_values([advice])[0]["choice"] is None
    assert remark in next(advice_in_words([advice], 0.99))


def test_several_tasks_have_what_keeps_it_on_each_of_them():
    other = [(replace(each, task="mme", key=f"{each.key} mme"), size) for each, size in [REFERENCE]]
    other += [(cell("jpeg", "q25", 60.0, task="mme"), 2500)]
    other += [(cell("jpeg", "q75", 80.0, task="mme"), 6000)]
    found = advise_keeping(groups_of(REFERENCE, *JPEG, *other), 0.99)
    assert [(each.task, each.choice.name) for each in found] == [
        ("pope", "jpeg q25"),
        ("mme", "jpeg q75"),
        (EVERY_TASK, "jpeg q75"),
    ]
    assert found[-1].choice.size == 5500
    assert found[-1].choice.share == 1


def test_an_adaptor_is_measured_against_the_vlm_as_it_is():
    adapted = [
        (replace(REFERENCE[0], adaptor="cve", value=40.0, key="a raw"), 90_000),
        (cell("jpeg", "q5", 79.5, adaptor="cve", unseen=True), 1000),
    ]
    plain, mine = advise_keeping(groups_of(REFERENCE, *JPEG, *adapted), 0.99)
    assert (plain.model, plain.choice.level) == ("nano", "q25")
    assert (mine.model, mine.choice.level) == ("nano + cve", "q5")
    assert mine.choice.share == pytest.approx(79.5 / 80)
    assert mine.remark == "the adaptor's training had not this codec and level"


def test_failures_and_limits_are_told():
    failing = (cell("webp", "q1", 80.0, failed=3, limited=10), 500)
    advice = only(advise_keeping(groups_of(REFERENCE, *JPEG, failing), 0.99))
    assert advice.choice.name == "webp q1"
    assert "on 10 images alone (run.limit)" in advice.remark
    assert "3 of 180 answers failed" in advice.remark


def test_within_a_budget_the_best_is_advised():
    webp = (cell("webp", "q9", 79.5), 1900)
    advice = only(advise_budget(groups_of(REFERENCE, *JPEG, webp), 2000))
    assert advice.choice.name == "jpeg q25"
    assert advice.equal == ()
    assert advice.remark == "single images take up to 4000 bytes"
    # Draws that move the two apart by more than they differ.
    groups = groups_of(REFERENCE, *JPEG, webp)
    [group] = groups
    other = next(key for key in group.replicates if "webp" in key)
    group.replicates[other] = Replicates(79.5 + WIDE, None)
    assert only(advise_budget(groups, 2000)).equal == ("webp q9",)


def test_a_budget_that_nothing_fits_or_bytes_that_are_not_known():
    advice = only(advise_budget(groups_of(REFERENCE, *JPEG), 10))
    assert advice.remark == "nothing fits: the least is jpeg q5, 1000 bytes"
    advice = only(advise_budget(groups_of(REFERENCE, *JPEG, costs=False), 10))
    assert advice.remark == "the bytes of its images are not known"
    by_rate = only(advise_keeping(groups_of(REFERENCE, *JPEG, costs=False), 0.99))
    assert by_rate.choice.size is None
    assert "0.500 bpp" in next(advice_in_words([by_rate], 0.99))


def test_the_command_prints_tables_and_json(make_config, capsys):
    config = make_config()
    run(config, lambda line: None)
    folder = str(config.run.out)
    capsys.readouterr()
    assert main(["advise", folder, "--keep", "50%", "--budget", "1MB", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["keep"], found["budget"]) == (0.5, 1_000_000)
    [keeping], [within] = found["keeping"], found["within"]
    for each in (keeping["choice"], within["choice"]):
        assert each["codec"] == "blocky"
        assert each["bytes"] > 0
        assert each["encode_seconds"] > 0
        low, high = each["interval"]
        assert low <= each["share"] <= high
    assert main(["advise", folder]) == 0
    assert "keeps 99 % of the uncompressed accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keep", "99"], "--keep 99: expected a share, such as 95% or 0.95"),
        (["--keep", "0%"], "--keep 0%: expected a share"),
        (["--budget", "30 potatoes"], "expected bytes, such as 30000, 30kB"),
        ([], "is neither a run folder nor published results"),
    ],
)
def test_what_the_command_does_not_understand(words, message, capsys):
    assert main(["advise", "nothing", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
