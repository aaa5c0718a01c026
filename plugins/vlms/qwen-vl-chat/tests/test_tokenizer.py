"""The tokenizer against tiktoken, on a vocabulary that is trained here."""

from __future__ import annotations

import base64
import unicodedata
from collections import Counter
from itertools import pairwise
from operator import itemgetter

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens.errors import RequirementError
from lossylens_vlm_qwen_vl_chat import tokenizer as module
from lossylens_vlm_qwen_vl_chat.tokenizer import (
    PLACE_MARKS,
    SPECIAL_TOKENS,
    load_tokenizer,
    merges,
    read_ranks,
)

TEXT = """The quick brown fox isn't lazy; it's 12345 times faster, they'll say.
你好，世界！ 这是一只猫。 naïve café déjà vu  \t  tabs\r\n\r\nlines   end
Which of the following is the answer? A. cat B. dog C. 42.5% <ref>it</ref> 🙂🙃👍🏽
"""
TEXTS = (
    *TEXT.splitlines(keepends=True),
    "",
    " ",
    "\n\n\n a",
    "cafe\u0301",
    "I'LL don'T",
    "x" * 50,
    "<|im_end|> <img> <box>(1,2)</box>",
)


def trained(size: int = 400) -> dict[bytes, int]:
    """Ranks of a byte-level BPE, learned in the plainest way."""
    words = [
        [bytes([byte]) for byte in word.encode()]
        for spelt in TEXT.split()
        for word in (spelt, f" {spelt}")
    ]
    ranks = dict(
        sorted(((bytes([byte]), byte * 7 % 256) for byte in range(256)), key=itemgetter(1))
    )
    while len(ranks) < size:
        counts = Counter(pair for word in words for pair in pairwise(word))
        left, right = max(
            counts, key=lambda pair: (left_right(pair) not in ranks, counts[pair], pair)
        )
        ranks[left + right] = len(ranks)
        words = [merged(word, left, right) for word in words]
    return ranks


def left_right(pair: tuple[bytes, bytes]) -> bytes:
    return pair[0] + pair[1]


def merged(word: list[bytes], left: bytes, right: bytes) -> list[bytes]:
    at = 0
    while at < len(word) - 1:
        if (word[at], word[at + 1]) == (left, right):
            word = [*word[:at], left + right, *word[at + 2 :]]
        at += 1
    return word


@pytest.fixture(scope="module")
def ranks():
    return trained()


@pytest.fixture(scope="module")
def path(ranks, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokens") / "qwen.tiktoken"
    lines = [f"{base64.b64encode(t).decode()} {rank}" for t, rank in ranks.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def tokenizer(path):
    return load_tokenizer(path)


@pytest.fixture(scope="module")
def official(ranks):
    special = {token: len(ranks) + number for number, token in enumerate(SPECIAL_TOKENS)}
    return tiktoken.Encoding(
        "Qwen", pat_str=module._PIECES, mergeable_ranks=ranks, special_tokens=special
    )


def same(tokenizer, official, text):
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    normal = unicodedata.normalize("NFC", text)
    assert ids == official.encode(normal, disallowed_special=())
    assert tokenizer.decode(ids) == normal


def test_ranks_are_read_back(path, ranks):
    assert read_ranks(path) == ranks
    assert len(merges(ranks)) == len(ranks) - 256


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_tokenised_as_by_tiktoken(tokenizer, official, text):
    same(tokenizer, official, text)


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_is_tokenised_as_by_tiktoken(tokenizer, official, text):
    same(tokenizer, official, text)


def test_special_tokens_have_the_official_ids(tokenizer, ranks):
    # In the official file, 151643 tokens precede them.
    shift = 151643 - len(ranks)
    ids = dict(zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS), strict=True))
    assert {token: number + shift for token, number in ids.items() if "extra" not in token} == {
        "<|endoftext|>": 151643,
        "<|im_start|>": 151644,
        "<|im_end|>": 151645,
        "<ref>": 151851,
        "</ref>": 151852,
        "<box>": 151853,
        "</box>": 151854,
        "<quad>": 151855,
        "</quad>": 151856,
        "<img>": 151857,
        "</img>": 151858,
        "<imgpad>": 151859,
    }
    assert ids["<|extra_204|>"] + shift == 151850
    assert len(tokenizer) + shift == 151860


def test_answers_keep_marks_of_places_and_lose_special_tokens(tokenizer):
    ids = tokenizer.convert_tokens_to_ids(["<|im_start|>", *PLACE_MARKS, "<img>", "<|im_end|>"])
    assert tokenizer.decode(ids, skip_special_tokens=True) == "".join(PLACE_MARKS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda lines: lines[:200], "cut off: it lacks tokens of a single byte"),
        (lambda lines: [*lines[:3], "!!!! 3", *lines[4:]], "token 3: not base64"),
        (lambda lines: [*lines[:3], *lines[4:]], "token 3: "),
        (lambda lines: [*lines[:3], lines[2].replace(" 2", " 3"), *lines[4:]], "token 3: "),
        (lambda lines: [*lines, f"{'A' * 4000} {len(lines)}"], "token 400: "),
        (lambda lines: [*lines, f"cXp4cXo= {len(lines)}"], "not made of two lower tokens"),
        (lambda lines: [], "cut off"),
    ],
)
def test_a_damaged_file_is_refused(path, tmp_path, change, reason):
    damaged = tmp_path / "qwen.tiktoken"
    damaged.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(RequirementError, match=reason):
        load_tokenizer(damaged)
