from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens_toolkit.tsv_task.literals import string_list


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("['a', \"it's\"]", ["a", "it's"]),
        (' ["caf\\u00e9"]\n', ["café"]),
        (r"['\d', '\\frac']", [r"\d", r"\frac"]),
        ("['a' 'b']", ["ab"]),
        ("['a',]", ["a"]),
        ("[1, None]", ["1", "None"]),
        ("[]", []),
    ],
)
def test_a_list_of_strings_is_read(text, expected):
    assert string_list(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "'a'",
        "('a',)",
        "{'a'}",
        "['a'",
        "['a'] + ['b']",
        "[f()]",
        "['a\n']",
        "['\0']",
        "[" * 9999,
        "[" * 9999 + "]" * 9999,
    ],
)
def test_anything_else_is_none(text):
    assert string_list(text) is None


@given(st.lists(st.text()))
def test_what_python_writes_is_read_back(strings):
    assert string_list(repr(strings)) == strings


# About escapes that mean nothing.
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
@given(st.text(alphabet="[]'\", \\nab").map(lambda text: f"[{text}]"))
def test_any_text_is_read_as_by_python(text):
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        value = None
    expected = [str(member) for member in value] if isinstance(value, list) else None
    assert string_list(text) == expected
