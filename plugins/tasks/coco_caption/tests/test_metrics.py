"""Each rule of the metrics by name."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossylens_task_coco_caption.bleu import bleu, bleu_counts, total_counts
from lossylens_task_coco_caption.cider import cider
from lossylens_task_coco_caption.rouge import rouge_l as rouge_l_of_overlap
from lossylens_task_coco_caption.words import overlap, split_words


def counts(caption: str, *references: str):
    return bleu_counts(overlap(split_words(caption, references)[0]))


def rouge_l(caption: str, references: list[str]) -> float:
    return rouge_l_of_overlap(overlap(split_words(caption, references)[1]))


@given(st.text(" ab\t\n\xa0\u3000", max_size=12), st.text(" ab\t", max_size=12))
def test_words_are_separated_by_any_whitespace_or_by_single_blanks(caption, reference):
    by_whitespace, by_blanks = split_words(caption, [reference])
    assert by_whitespace == (caption.split(), [reference.split()])
    assert by_blanks == (caption.split(" "), [reference.split(" ")])


def test_bleu_clips_at_the_reference_that_has_most():
    assert counts("the the the the", "the cat", "the dog the fox").matches == (2, 0, 0, 0)


def plain_matches(caption: list[str], references: list[list[str]], order: int) -> int:
    def count(words: list[str]) -> Counter[tuple[str, ...]]:
        return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))

    most = Counter[tuple[str, ...]]()
    for reference in references:
        most |= count(reference)
    return (count(caption) & most).total()


@given(st.text("aab ", max_size=30), st.lists(st.text("aab ", max_size=30), min_size=1, max_size=3))
def test_bleu_counts_ngrams_as_plainly_counted(caption, references):
    others = [reference.split() for reference in references]
    expected = tuple(plain_matches(caption.split(), others, order) for order in (1, 2, 3, 4))
    assert counts(caption, *references).matches == expected


def test_bleu_takes_the_nearest_reference_length_and_the_shorter_of_two():
    assert counts("a b c d", "a b c", "a b c d e", "a").reference_length == 3
    assert counts("a b c d", "a b c d e", "a").reference_length == 5


def test_bleu_pools_counts_over_images():
    pooled = total_counts([counts("a b", "a b"), counts("c d e", "x y z e")])
    assert (pooled.length, pooled.reference_length) == (5, 6)
    assert pooled.matches == (3, 1, 0, 0)
    assert pooled.total == (5, 3, 1, 0)
    assert bleu(pooled)[0] == pytest.approx(3 / 5 * math.exp(1 - 6 / 5))


def test_bleu_does_not_penalise_long_captions_for_length():
    assert bleu(counts("a b c d e f", "a b c"))[0] == pytest.approx(0.5)


def test_bleu_of_an_empty_caption_is_0():
    assert bleu(counts(" ", "a b c")) == [0, 0, 0, 0]


def test_rouge_takes_precision_and_recall_from_different_references():
    precision, recall = 1.0, 1.0
    f = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l("a b", ["a b c d e f", "a"]) == pytest.approx(f)


def test_rouge_splits_at_single_blanks():
    assert rouge_l("a  b", ["a b"]) < 1
    assert rouge_l("a  b", ["a  b"]) == pytest.approx(1)
    assert rouge_l("a\tb", ["a b"]) == 0


def plain_lcs(a: list[str], b: list[str]) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        previous = 0
        for j, y in enumerate(b, 1):
            best = previous + 1 if x == y else max(row[j], row[j - 1])
            previous, row[j] = row[j], best
    return row[-1]


_WORDS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=40)


@given(_WORDS, st.lists(_WORDS, min_size=1, max_size=3))
def test_rouge_finds_the_longest_common_subsequence_with_each_reference(a, others):
    common = [plain_lcs(a, b) for b in others]
    precision = max(common) / len(a)
    recall = max(each / len(b) for each, b in zip(common, others, strict=True))
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision) if precision else 0
    assert rouge_l(" ".join(a), list(map(" ".join, others))) == pytest.approx(expected)


def scores(*pairs: tuple[str, list[str]]) -> list[float]:
    return cider([caption for caption, _ in pairs], [others for _, others in pairs])


def test_cider_of_a_single_image_is_0():
    assert scores(("a cat", ["a cat"])) == [0]


def test_cider_of_the_only_reference_is_10():
    pairs = [("a grey cat sat", ["a grey cat sat"]), ("x", ["no dog was here"])]
    assert scores(*pairs) == [pytest.approx(10), 0]


def test_cider_depends_on_the_other_images():
    rare = scores(("a cat", ["a cat", "a fox"]), ("x", ["a dog"]), ("x", ["b"]))[0]
    common = scores(("a cat", ["a cat", "a fox"]), ("x", ["a cat"]), ("x", ["b"]))[0]
    assert rare != common


def test_cider_discounts_captions_of_another_length_counted_in_bigrams():
    reference = "one two three four five"
    (same, _) = scores((reference, [reference]), ("x", ["y z"]))
    (longer, _) = scores((reference + " " + reference, [reference]), ("x", ["y z"]))
    assert longer < same * math.exp(-(5**2) / 72) + 1e-9


def test_cider_counts_an_ngram_at_most_as_often_as_the_reference():
    (once, _) = scores(("cat", ["cat"]), ("x", ["y"]))
    (often, _) = scores(("cat cat cat", ["cat"]), ("x", ["y"]))
    assert often < once


@given(
    st.lists(st.tuples(_WORDS, st.lists(_WORDS, min_size=1, max_size=3)), min_size=1, max_size=5)
)
def test_scores_are_in_their_ranges(rows):
    captions = [" ".join(caption) for caption, _ in rows]
    references = [[" ".join(other) for other in others] for _, others in rows]
    pooled = total_counts(
        counts(caption, *others) for caption, others in zip(captions, references, strict=True)
    )
    assert all(0 <= score <= 1 for score in bleu(pooled))
    assert all(-1e-9 <= score <= 10 + 1e-9 for score in cider(captions, references))
