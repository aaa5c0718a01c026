from __future__ import annotations

import ast
from pathlib import Path

import pytest
from lossylens.errors import DataError
from lossylens.vlm import QuestionKind
from lossylens_task_coco_caption.bleu import bleu, bleu_counts
from lossylens_task_coco_caption.plugin import CocoCaptionOptions
from lossylens_task_coco_caption.rouge import rouge_l
from lossylens_task_coco_caption.task import CocoCaptionTask
from lossylens_task_coco_caption.words import overlap, split_words
from lossylens_toolkit.tsv_task.tsv_testing import GoldenTests, differences, write_tsv


class TestGolden(GoldenTests):
    task_class = CocoCaptionTask
    name = "coco-caption"
    folder = Path(__file__).parent / "golden"
    relative = 1e-9

    def test_scores_of_every_caption_equal_the_reference_evaluators(self, task, case):
        score = task.score(case.predictions)
        found = {}
        for row in task.table:
            caption = score.extracted[row.id]
            references = ast.literal_eval(row.text("answer"))
            by_whitespace, by_blanks = split_words(caption, references)
            scores = bleu(bleu_counts(overlap(by_whitespace)))
            found[row.id] = {f"Bleu_{n}": score for n, score in enumerate(scores, 1)}
            found[row.id] |= {
                "ROUGE_L": rouge_l(overlap(by_blanks)),
                "CIDEr": 10 * score.verdicts[row.id],
            }
        assert differences(found, case.expected["rows"], 1e-9, 1e-12) == []


@pytest.fixture
def make(tmp_path):
    def make(*answers: str, question: str = "", category: str = "") -> CocoCaptionTask:
        extra = {"question": question, "category": category}
        extra = {name: text for name, text in extra.items() if text}
        path = write_tsv(tmp_path / "COCO_VAL.tsv", *({"answer": a, **extra} for a in answers))
        return CocoCaptionTask(CocoCaptionOptions(data=str(path)))

    return make


def test_the_question_of_the_data_is_verbatim_else_the_default(make):
    question = next(make("['a cat']").samples()).question
    assert question.kind is QuestionKind.CAPTION
    assert question.text.endswith('do not include prefix like "This image depicts". ')
    assert next(make("['a cat']", question="What is it?").samples()).question.text == "What is it?"


@pytest.mark.parametrize("text", ["", "None", "NA"])
def test_an_empty_caption_is_the_word_nan(make, text):
    score = make("['nan']", "['a cat']").score({"0": text, "1": "a cat"})
    assert score.extracted["0"] == "nan"
    assert score.metrics["Bleu"][0] == pytest.approx(100)


def test_a_caption_that_begins_with_an_equals_sign_is_0(make):
    assert make("['0']").score({"0": "= a cat"}).extracted == {"0": "0"}


def test_case_and_punctuation_count(make):
    task = make("['a cat']", "['a dog']")
    assert task.score({"0": "A cat.", "1": "x"}).metrics["Bleu"][0] < 1e-6


def test_verdicts_are_tenths_of_cider_and_their_mean_the_metric(make):
    score = make("['a cat', 'one cat']", "['a dog']").score({"0": "a cat", "1": "a fox"})
    assert all(0 <= verdict <= 1 for verdict in score.verdicts.values())
    assert score.value == pytest.approx(1000 * sum(score.verdicts.values()) / 2)


def test_missing_captions_are_left_out_of_the_document_frequencies_too(make):
    task = make("['a cat']", "['a dog']", "['a cat']")
    partial = task.score({"0": "a cat", "1": "x"})
    assert partial.missing == 1
    assert partial.metrics == make("['a cat']", "['a dog']").score({"0": "a cat", "1": "x"}).metrics


@pytest.mark.parametrize("answer", ["a cat", "[]", "['a cat'", "{'a': 1}"])
def test_answers_that_are_no_list_of_captions_are_refused(make, answer):
    with pytest.raises(DataError, match=r"row 1 \(index 0\), column 'answer': not a list"):
        make(answer).score({"0": "a cat"})


def test_ocrbench_rows_are_refused_and_recognised(make):
    task = make("['stop']", question="What?", category="Doc-oriented VQA")
    with pytest.raises(DataError, match=r"not a file of COCO Caption\..*a file of OCRBench"):
        task.score({"0": "stop"})
