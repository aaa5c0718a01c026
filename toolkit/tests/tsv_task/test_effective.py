"""Each effect of the spreadsheet by name, and all of them against the real libraries."""

from __future__ import annotations

import io
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens_toolkit.tsv_task.effective import effective_text
from lossylens_toolkit.tsv_task.missing import MISSING_TEXTS


@pytest.mark.parametrize("text", sorted(MISSING_TEXTS))
def test_missing_value_words_become_nan(text):
    assert effective_text(text) == "nan"


@pytest.mark.parametrize("text", [" ", " NA", "NA ", "none", "Nan", "N/a", "na", "nil"])
def test_other_words_and_blanks_are_kept(text):
    assert effective_text(text) == text


@pytest.mark.parametrize("text", ["=", "=1+1", "= yes", "=yes no", "{=1}", "{=}", "=SORT(A1)"])
def test_a_formula_becomes_0(text):
    assert effective_text(text) == "0"


@pytest.mark.parametrize("text", [" =1", "{=1", "x=1", "{ =1}", "'=1", "-1", "+1", "@1", "007"])
def test_what_only_resembles_a_formula_is_kept(text):
    assert effective_text(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mailto:me", "me"),
        ("internal:Sheet1!A1", "Sheet1!A1"),
        ("external:c:/x", "c:\\x"),
        ("mailto:", "nan"),
        ("mailto:None", "nan"),
        ("mailto:=1", "=1"),
        ("Mailto:me", "Mailto:me"),
        (" mailto:me", " mailto:me"),
        ("the internal: part", "the internal: part"),
        ("http://a b", "http://a b"),
        ("https://x#y", "https://x#y"),
    ],
)
def test_a_link_loses_its_prefix(text, expected):
    assert effective_text(text) == expected


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("http://" + "x" * 2072, True),
        ("http://" + "x" * 2073, False),
        ("http://" + " " * 691, False),
        ("http://%20" + " " * 691, True),
        ("http://x#" + "y" * 2079, True),
        ("http://x#" + "y" * 2080, False),
        ("see http://" + "x" * 2073, True),
    ],
)
def test_a_link_that_is_too_long_is_not_written(text, kept):
    assert effective_text(text) == (text if kept else "nan")


def test_a_text_is_cut_at_32767_characters():
    assert effective_text("x" * 32767) == "x" * 32767
    assert effective_text("x" * 32768) == "x" * 32767


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb", "a_x000D_\nb"),
        ("\x00\x1f", "_x0000__x001F_"),
        ("\ufffe\uffff", "_xFFFE__xFFFF_"),
        ("a\tb\nc", "a\tb\nc"),
        ("\x7f\x85\u2028", "\x7f\x85\u2028"),
        ("_x000D_", "_x000D_"),
        ("ax005F_b", "ab"),
    ],
)
def test_control_characters_are_escaped(text, expected):
    assert effective_text(text) == expected


def round_trip(texts: list[str]) -> list[str]:
    """Send texts through a real file, beside one that keeps the column from being numbers."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("xlsxwriter")
    pytest.importorskip("openpyxl")
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # About links that are too long.
        warnings.simplefilter("ignore")
        frame = pandas.DataFrame({"prediction": [*texts, "text"]})
        frame.to_excel(stream, index=False, engine="xlsxwriter")
        read = pandas.read_excel(stream)
    return [str(cell) for cell in read["prediction"]][:-1]


_TRAPS = [
    *sorted(MISSING_TEXTS),
    *("=1", "{=1}", "{=1", "mailto:x", "internal:y#z", "external:c:/x/y", "mailto:", "http://x y"),
    *("a\r\nb", "\x00\x1f\x7f", "_x000D_", "_x00ZZ_", "x005F_", "\ufffe", " lead", "trail ", "\n"),
    *(
        "x" * 32768,
        "http://" + "x" * 2073,
        "3",
        "3.0",
        "True",
        "1e5",
        "#REF!",
    ),
    # Not here: long links with blanks; newer versions of xlsxwriter count a blank
    # as one character, those of the published results as three.
    *("http://x#" + "y" * 2080, "ftps://x", "&amp;<>'\"", "<r>", "nan.", "ſ", "日本", "😀"),
]


def test_every_trap_agrees_with_the_real_libraries():
    read = dict(zip(_TRAPS, round_trip(_TRAPS), strict=True))
    assert {text: effective_text(text) for text in _TRAPS} == read


# Left out: lone surrogates, which cannot be written; control characters in
# formulas and links, which make a file that cannot be read; file:// links, which
# newer versions of xlsxwriter take for links too; markup, which is not matched.
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="=<"), max_size=20)
_STARTS = st.sampled_from(["", "=", "{=", "mailto:", "http://", "nan", "_x", "x005F_", " "])
_SPECIAL = ("=", "{=", "mailto:", "http:")
_ENDS = st.sampled_from(["", "}", "\r", "_", " "])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(_STARTS, _TEXTS, _ENDS).map("".join), min_size=1, max_size=30))
def test_any_text_agrees_with_the_real_libraries(texts):
    texts = [text for text in texts if text.isprintable() or not text.startswith(_SPECIAL)]
    assert [effective_text(text) for text in texts] == round_trip(texts)
