"""Each rule of the letter stage and the text stage, by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens_toolkit.tsv_task.choice import extract_choice

OPTIONS = {"A": "a red apple", "B": "two dogs", "C": "the sea", "D": "nothing of that kind"}


def choice(text: str, **options: str) -> str | None:
    return extract_choice(text, options or OPTIONS)


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "B.",
        "(B)",
        "[B]",
        "B, two",
        "B:",
        "B;",
        "B!",
        "**B**",
        "#B",
        "{B}",
        "\\boxed B",
        "so:B",
    ],
)
def test_punctuation_around_a_letter_is_blanked(text):
    assert choice(text) == "B"


@pytest.mark.parametrize("text", ['"B"', "'B'", "B?", "B/", "-B", "<B>", "$B$", "B。", "Ｂ", "b"])
def test_other_characters_stay_with_the_letter(text):
    assert choice(text) is None


def test_the_letter_must_be_among_the_last_four_tokens():
    assert choice("qq rr B ss tt uu") == "B"
    assert choice("qq rr B ss tt uu vv") is None


def test_the_first_occurrence_of_the_letter_decides():
    assert choice("B qq rr ss B") is None
    assert choice("B or rather B") == "B"


def test_the_article_counts_as_the_letter():
    assert choice("A thing") == "A"
    assert choice("A good pick would be B") is None


def test_two_letters_give_nothing():
    assert choice("B or C") is None


def test_letters_that_are_no_choice_do_not_count():
    assert choice("B not C", A="x1", B="y1") == "B"
    assert choice("C", A="x1", B="y1") is None


def test_z_is_taken_where_no_letter_is():
    assert choice("Z") == "Z"
    assert choice("Z or B") == "B"


@pytest.mark.parametrize(
    "text",
    [
        "Sorry, I can't help with images of people yet. B",
        "I can't process this file. B",
        "I'm sorry, but without the image provided B",
        "Cannot determine the answer, B",
    ],
)
def test_a_known_refusal_is_z_even_if_a_letter_follows(text):
    assert choice(text) == "Z"


def test_a_failed_api_call_skips_the_letter_stage_only():
    assert choice("Failed to obtain answer via API. B") is None
    assert choice("Failed to obtain answer via API. Two dogs") == "B"


def test_the_text_of_exactly_one_option_is_taken():
    assert choice("I see Two Dogs") == "B"
    assert choice("two dogs and the sea") is None
    assert choice("a cat") is None


def test_short_options_match_inside_longer_words():
    assert choice("nan", A="n", B="xx") == "A"
    assert choice("nan", A="n", B="a") is None


def test_a_text_more_than_twice_as_long_as_all_options_gives_nothing():
    assert choice("ab   ", A="ab", B="c") == "A"
    assert choice("ab  b", A="ab", B="c") == "A"
    assert choice("ab     ", A="ab", B="c") is None


def test_answer_is_is_not_searched_for_as_newer_versions_do():
    assert choice("the answer is B because of the many barking animals") is None


@given(st.text())
def test_the_answer_is_a_choice_or_z_or_nothing(text):
    assert choice(text) in {None, "Z", *OPTIONS}
