"""The base of tasks that ask for a word or phrase (TextVQA, DocVQA, ChartQA, GQA ...)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lossylens.vlm import Question, QuestionKind

from lossylens_toolkit.tsv_task.effective import effective_text
from lossylens_toolkit.tsv_task.missing import text_or_missing
from lossylens_toolkit.tsv_task.tsv_base import Judged, Summary, TsvTask, mean_credit
from lossylens_toolkit.tsv_task.tsv_table import Row

OVERALL = "Overall"


class ShortAnswerTask(TsvTask):
    """Questions with one or several right answers, each a word or phrase."""

    def check(self, row: Row) -> None:
        """Check that there are answers.

        Raises:
            DataError: the list of them is empty, or the row is of another data set.
        """
        self.refuse_mix_up(row)
        if not self.answers(row):
            raise row.error("answer", "an empty list; an answer is needed to score by")

    def question(self, row: Row) -> Question:
        """Return the question; a word or phrase is asked for."""
        return Question(QuestionKind.SHORT_ANSWER, row.text("question"), task=self.spec.name)

    def answers(self, row: Row) -> list[str]:
        """Return the right answers: the members of a list, or the cell as the only one.

        One that is a missing-value word, such as ``None``, is ``nan``.
        """
        if row.get("answer") is not None:
            several = row.strings("answer")
            if several is not None:
                return several
        return [effective_text(text_or_missing(row.get("answer")))]

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return the mean credit in percent: of all, and by split or else by category."""
        column = next((c for c in ("split", "category") if c in self.table.header.kept), None)
        credit: dict[str, list[float]] = {OVERALL: []}
        if column is not None:
            groups = {each.row.get(column) or "" for each in judged} - {""}
            credit |= {name: [] for name in sorted(groups)}
        for each in judged:
            value = each.verdict.credit or 0.0
            credit[OVERALL].append(value)
            group = each.row.get(column) if column else None
            if group is not None:
                credit[group].append(value)
        metrics = {name: math.fsum(each) / len(each) * 100 for name, each in credit.items()}
        return Summary(metrics, resampling=mean_credit(judged, 100))
