"""OCRBench, scored as the reference evaluator scores it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lossylens.task import Resampling
from lossylens.vlm import Question, QuestionKind
from lossylens_toolkit.tsv_task import Judged, Row, Summary, TsvTask, Verdict

from lossylens_task_ocrbench.plugin import DATASET, SPEC

RECOGNITION = (
    "Regular Text Recognition",
    "Irregular Text Recognition",
    "Artistic Text Recognition",
    "Handwriting Recognition",
    "Digit String Recognition",
    "Non-Semantic Text Recognition",
)
FORMULAS = "Handwritten Mathematical Expression Recognition"
OTHERS = (
    "Scene Text-centric VQA",
    "Doc-oriented VQA",
    "Key Information Extraction",
    FORMULAS,
)
CATEGORIES = RECOGNITION + OTHERS


class OcrbenchTask(TsvTask):
    """Questions about text, right if one of the answers is contained in the reply."""

    spec = SPEC
    dataset = DATASET

    def check(self, row: Row) -> None:
        """Check category and answers.

        Raises:
            DataError: the category is unknown, or the answers are no list.
        """
        self.one_of(row, "category", CATEGORIES)
        _answers(row)

    def question(self, row: Row) -> Question:
        """Return the question, verbatim."""
        return Question(QuestionKind.OPEN, row.text("question"), task=SPEC.name)

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Look for each of the answers in *prediction*."""
        normalised = _formula if row.text("category") == FORMULAS else _words
        reply = normalised(prediction)
        hit = any(normalised(answer) in reply for answer in _answers(row))
        return Verdict(float(hit), reply)

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return the number of right answers per group of categories, and their sum."""
        hits = Counter[str]()
        for each in judged:
            hits[each.row.text("category")] += int(each.verdict.credit or 0)
        groups = {"Text Recognition": sum(hits[category] for category in RECOGNITION)}
        groups |= {category: hits[category] for category in OTHERS}
        total = sum(groups.values())
        right = Resampling.sum({each.row.id: each.verdict.credit for each in judged})
        metrics = groups | {"Final Score": total, "Final Score Norm": total / 10}
        return Summary(metrics, resampling=right)


def _answers(row: Row) -> list[str]:
    answers = row.strings("answer")
    if answers is None:
        raise row.error("answer", "not a list of strings, as in ['stop']")
    return answers


def _words(text: str) -> str:
    """Lower-case; whitespace around it goes, then newlines become blanks."""
    return text.lower().strip().replace("\n", " ")


def _formula(text: str) -> str:
    """Case is kept; whitespace around it goes, then newlines and all blanks."""
    return text.strip().replace("\n", " ").replace(" ", "")
