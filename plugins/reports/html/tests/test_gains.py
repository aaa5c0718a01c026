"""What a report says of adaptors: gains on curves, by topic, and answers that they turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lossylens.cells import CellResult
from lossylens_report.gains import codec_gain, paired_interval, topic_gains
from lossylens_report.replicates import Replicates
from lossylens_report.samples import choose
from lossylens_report.verdicts import TaskVerdicts

PLAIN = CellResult(
    vlm="v",
    adaptor="",
    codec="jpeg",
    level="q1",
    task="t",
    uncompressed=False,
    metric="m",
    value=60.0,
    bpp=0.1,
    key="q1",
)
RATES = {"q1": 0.1, "q3": 0.2, "q5": 0.4, "q6": 0.8}


def curve(values, adaptor="", unseen=()):
    return [
        replace(
            PLAIN,
            adaptor=adaptor,
            level=level,
            bpp=bpp,
            value=value,
            key=f"{level}{adaptor}",
            unseen=level in unseen,
        )
        for (level, bpp), value in zip(RATES.items(), values, strict=True)
    ]


def drawn(cells, spread):
    random = np.random.default_rng(0)
    shared = random.normal(0, spread, 300)
    return {c.key: Replicates(c.value + shared, c.bpp * np.ones(300)) for c in cells}


def test_a_gain_is_the_difference_of_bd_metrics():
    plain, adapted = curve([50, 55, 60, 65]), curve([53, 58, 63, 68], "cve")
    found = codec_gain(adapted, plain, -12.0, drawn([*plain, *adapted], 5))
    assert found.gain == pytest.approx(3)
    # The images that are drawn are the same, and so is what is won on them.
    assert found.interval == pytest.approx((3, 3))
    assert found.recovered == pytest.approx(25)


def test_a_curve_of_few_points_has_no_gain():
    found = codec_gain(curve([1, 2, 3, 4], "cve")[:3], curve([1, 2, 3, 4]), -1.0, {})
    assert found.gain == "3 points, 4 are needed"
    assert found.recovered is None


@pytest.mark.parametrize(
    ("unseen", "words"),
    [((), "yes"), (("q1",), "some levels"), (tuple(RATES), "unseen")],
)
def test_what_was_not_trained_on_is_said(unseen, words):
    adapted = curve([1, 2, 3, 4], "cve", unseen)
    assert codec_gain(adapted, curve([1, 2, 3, 4]), None, {}).seen == words


def test_no_interval_without_draws():
    one, other = curve([1, 2, 3, 4])[:2]
    assert paired_interval(one, other, drawn([one], 1)) is None


def verdicts(**by_key):
    return TaskVerdicts(
        samples=tuple("abcdef"),
        images=("one", "two", "three"),
        image=np.array([0, 0, 1, 1, 2, 2]),
        topics=("color", "word") * 3,
        verdicts={key: np.array(each, dtype=np.float32) for key, each in by_key.items()},
    )


ADAPTED = replace(PLAIN, adaptor="cve", key="adapted")


def test_topics_are_apart():
    judged = verdicts(q1=[0, 1, 0, 1, 0, np.nan], adapted=[1, 1, 1, 0, 1, 1])
    color, word = topic_gains([PLAIN, ADAPTED], judged)
    assert (color.topic, color.questions, color.plain, color.adapted) == ("color", 3, 0, 100)
    assert (color.low, color.high) == (100, 100)
    # What one of them has no verdict on does not count.
    assert (word.topic, word.questions, word.plain, word.adapted) == ("word", 2, 100, 50)
    assert word.low < word.high <= 0


def test_a_task_of_one_topic_has_no_topics():
    judged = replace(verdicts(q1=[0] * 6, adapted=[1] * 6), topics=("color",) * 6)
    assert not list(topic_gains([PLAIN, ADAPTED], judged))


def test_images_on_which_an_adaptor_turns_answers_are_shown_first():
    base = replace(PLAIN, uncompressed=True, codec="uncompressed", level="raw", key="raw")
    right = [1.0] * 6
    judged = verdicts(raw=right, q1=right, adapted=[1, 1, 1, 1, 0, 1])
    places, flipped = choose(judged, [base, PLAIN, ADAPTED], 1)
    assert places == [4, 5]
    # By the adaptor, and not by compression.
    assert flipped == 0
