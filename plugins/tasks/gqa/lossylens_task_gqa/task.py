"""GQA, scored as the reference evaluator scores it."""

from __future__ import annotations

from lossylens_toolkit.tsv_task import (
    Row,
    ShortAnswerTask,
    Verdict,
    effective_text,
    text_or_missing,
)

from lossylens_task_gqa.plugin import DATASET, SPEC

CATEGORIES = ("choose", "compare", "logical", "query", "verify")


class GqaTask(ShortAnswerTask):
    """Questions with one short answer each, of five structural types."""

    spec = SPEC
    dataset = DATASET

    def check(self, row: Row) -> None:
        """Check the category.

        Raises:
            DataError: it is unknown.
        """
        self.one_of(row, "category", CATEGORIES)

    def answers(self, row: Row) -> list[str]:
        """Return the cell as the only answer."""
        return [effective_text(text_or_missing(row.get("answer")))]

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Compare texts, but for case and whitespace around them; nothing else is normalised."""
        extracted = prediction.strip().lower()
        [answer] = self.answers(row)
        return Verdict(float(extracted == answer.strip().lower()), extracted)
