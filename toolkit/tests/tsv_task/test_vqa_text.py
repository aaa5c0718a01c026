"""Each rule by name, and all of them against a plain statement of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens_toolkit.tsv_task.vqa_text import (
    CONTRACTIONS,
    EVALUATOR,
    LMMS_EVAL,
    normalised_answer,
    vqa_credit,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Red\tand\nblue ", "red and blue"),
        ("the a an cat", "cat"),
        ("None", "0"),
        ("TEN twos", "10 twos"),
        ("dont", "don't"),
        ("wouldn'tve", "wouldn't've"),
        ("wouldnt've", "wouldn't've"),
        ("twas", "'twas"),
        ("somebody'd", "somebodyd"),
        ("im", "im"),
        ("let's", "let's"),
        ("well-known", "well known"),
        ("well- known", "well known"),
        ("'quoted': $5 #1 50% a&b*", "'quoted': $5 #1 50% a&b*"),
        ("a\u00a0b", "b"),
        ("e\u0301", "e\u0301"),
    ],
)
def test_normalised(text, expected):
    assert normalised_answer(text) == normalised_answer(text, LMMS_EVAL) == expected


@pytest.mark.parametrize(
    ("text", "evaluator", "lmms_eval"),
    [
        ("1995.", "1995.", "1995"),
        (".5", ".5", ".5"),
        ("a.5", "a.5", "a.5"),
        ("u.s.a.", "usa", "usa"),
        ("1,,2/x", "1 2 x", "12x"),
        ("1,2/x", "12x", "12x"),
        ("." * 33 + "x", ".x", ".x"),
    ],
)
def test_where_evaluators_differ(text, evaluator, lmms_eval):
    assert normalised_answer(text, EVALUATOR) == evaluator
    assert normalised_answer(text, LMMS_EVAL) == lmms_eval


def test_contractions_get_what_they_lack():
    assert len(CONTRACTIONS) == 114
    for without, word in CONTRACTIONS.items():
        assert without.replace("'", "") == word.replace("'", "")
        assert len(word) - len(without) in (1, -1)
    assert [each for each in CONTRACTIONS if len(each) > len(CONTRACTIONS[each])] == ["somebody'd"]


@given(st.text("aA1 ,.;?-'\n\u00a0", max_size=12) | st.sampled_from(["none the", "One cant"]))
def test_all_rules(text):
    plain = text.replace("\n", " ").replace("\t", " ").strip()
    out = plain
    for mark in ';/[]"{}()=+\\_-><@`,?!':
        joined = mark + " " in plain or " " + mark in plain or re.search(r"\d,\d", plain)
        out = out.replace(mark, "" if joined else " ")
    out = re.sub(r"(?<!\d)\.(?!\d)", "", out, count=32)
    numbers = {"none": "0", "one": "1"}
    words = [numbers.get(word, word) for word in out.lower().split()]
    words = [CONTRACTIONS.get(word, word) for word in words if word not in ("a", "an", "the")]
    assert normalised_answer(text) == " ".join(words)


@given(st.lists(st.sampled_from(["x", "X.", "y", "the z"]), min_size=1, max_size=12))
def test_the_credit_leaves_each_answer_out(answers):
    forms = [normalised_answer(each) for each in answers]
    left_out = [
        min(1, sum(form == "x" for form in forms[:k] + forms[k + 1 :]) / 3)
        for k in range(len(forms))
    ]
    assert vqa_credit("x", answers) == pytest.approx(sum(left_out) / len(left_out), abs=1e-15)
