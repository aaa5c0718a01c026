"""Each rule by name, and all of them against a plain statement of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens_toolkit.tsv_task.vqa_text import without_punctuation
from lossylens_toolkit.tsv_task.yes_no import extract_yes_no


@pytest.mark.parametrize(
    ("text", "expected"),
    [("yes", "Yes"), ("YES", "Yes"), ("No", "No"), ("nO thanks", "No"), ("\u212aes no", "No")],
)
def test_case_does_not_matter(text, expected):
    assert extract_yes_no(text) == expected


@pytest.mark.parametrize("text", ["yes, there is", "there is ,yes", "a, b yes,"])
def test_punctuation_that_touches_a_blank_anywhere_is_deleted_everywhere(text):
    assert extract_yes_no(text) == "Yes"


def test_deleting_joins_the_words_around_punctuation():
    assert without_punctuation("no,there it is, so") == "nothere it is so"
    assert extract_yes_no("no,there it is, so") == "Unknown"


def test_punctuation_that_touches_no_blank_becomes_a_blank():
    assert extract_yes_no("no,there it is") == "No"
    assert extract_yes_no("yes/no") == "Unknown"
    assert extract_yes_no("\\boxed{yes}") == "Yes"


def test_only_the_ordinary_blank_counts_as_one():
    assert extract_yes_no("no,there\tit,\nis") == "No"
    assert extract_yes_no("no,there it,\u00a0is") == "No"


def test_digit_comma_digit_anywhere_deletes_all_punctuation():
    assert extract_yes_no("yes;certainly") == "Yes"
    assert extract_yes_no("yes;certainly 1,000") == "Unknown"


def test_periods_are_deleted_unless_they_touch_a_digit():
    assert extract_yes_no("Yes.") == "Yes"
    assert extract_yes_no("y.e.s") == "Yes"
    assert extract_yes_no("yes.5") == "Unknown"
    assert extract_yes_no("5.yes") == "Unknown"


def test_at_most_32_periods_are_deleted():
    assert extract_yes_no("yes" + "." * 32) == "Yes"
    assert extract_yes_no("yes" + "." * 33) == "Unknown"


@pytest.mark.parametrize("text", ["yes and no", "", "maybe", "nan", "none", "yesterday", "noyes"])
def test_both_neither_and_parts_of_words_are_unknown(text):
    assert extract_yes_no(text) == "Unknown"


@pytest.mark.parametrize(
    "text", ["**yes**", "'yes'", "yes:", "yes。", "\u200byes", "ｙｅｓ", "yes…"]
)
def test_other_characters_stay_in_their_words(text):
    assert extract_yes_no(text) == "Unknown"


@pytest.mark.parametrize("blank", ["\t", "\n", "\u00a0", "\u3000", "\u2028"])
def test_words_are_separated_by_any_whitespace(blank):
    assert extract_yes_no(f"well{blank}yes{blank}sure") == "Yes"


def plainly(text: str) -> str:
    text = result = text.lower()
    for character in ';/[]"{}()=+\\_-><@`,?!':
        spaced = character + " " in text or " " + character in text
        if spaced or re.search(r"\d,\d", text):
            result = result.replace(character, "")
        else:
            result = result.replace(character, " ")
    deleted = 0
    while deleted < 32 and (period := re.search(r"(?<!\d)[.](?!\d)", result)):
        # Mark it, so that what follows is judged by its neighbours of before.
        result = result[: period.start()] + "\0" + result[period.end() :]
        deleted += 1
    words = result.replace("\0", "").split()
    return {(True, False): "Yes", (False, True): "No"}.get(
        ("yes" in words, "no" in words), "Unknown"
    )


_PARTS = st.sampled_from(
    ["yes", "No", " ", "  ", ",", ".", "...", "1", "٣", "1,2", "/", "-", "\n", "*", "?", "(", ")"]
)


@given(st.lists(_PARTS, max_size=50).map("".join))
def test_any_text_agrees_with_a_plain_statement_of_the_rules(text):
    assert extract_yes_no(text) == plainly(text)


@given(st.text())
def test_the_answer_is_one_of_three(text):
    assert extract_yes_no(text) in {"Yes", "No", "Unknown"}
