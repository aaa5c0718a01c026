"""GQA, scored as the reference evaluator scores it."""

from __future__ import annotations

from collections.abc import Sequence

from lossylens.vlm import Question, QuestionKind
from lossylens_toolkit.tsv_task import (
    Judged,
    Row,
    Summary,
    TsvTask,
    Verdict,
    effective_text,
    mean_credit,
    text_or_missing,
)

from lossylens_task_gqa.plugin import DATASET, SPEC

CATEGORIES = ("choose", "compare", "logical", "query", "verify")
OVERALL = "Overall"


class GqaTask(TsvTask):
    """Questions with one short answer each, of five structural types."""

    spec = SPEC
    dataset = DATASET

    def check(self, row: Row) -> None:
        """Check the category.

        Raises:
            DataError: it is unknown.
        """
        self.one_of(row, "category", CATEGORIES)

    def question(self, row: Row) -> Question:
        """Return the question; a word or phrase is asked for."""
        return Question(QuestionKind.SHORT_ANSWER, row.text("question"), task=SPEC.name)

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Compare texts, but for case and whitespace around them; nothing else is normalised.

        An answer that is a missing-value word, such as ``None``, is ``nan``.
        """
        extracted = prediction.strip().lower()
        answer = effective_text(text_or_missing(row.get("answer"))).strip().lower()
        return Verdict(float(extracted == answer), extracted)

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return the share of right answers, of all and per category, in percent."""
        credit: dict[str, list[float]] = {OVERALL: []}
        for category in sorted({each.row.text("category") for each in judged}):
            credit[category] = []
        for each in judged:
            value = each.verdict.credit or 0.0
            credit[OVERALL].append(value)
            credit[each.row.text("category")].append(value)
        metrics = {name: 100 * sum(each) / len(each) for name, each in credit.items()}
        return Summary(metrics, resampling=mean_credit(judged, 100))
