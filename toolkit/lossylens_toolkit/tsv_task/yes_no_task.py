"""The base of yes-no tasks (POPE, MME)."""

from __future__ import annotations

from lossylens.vlm import Question, QuestionKind

from lossylens_toolkit.tsv_task.judged import JudgedTask
from lossylens_toolkit.tsv_task.tsv_base import Verdict
from lossylens_toolkit.tsv_task.tsv_table import Row
from lossylens_toolkit.tsv_task.yes_no import NO, UNKNOWN, YES, extract_yes_no

_PROMPT = """\
Below are a question that is to be answered with yes or no, and an answer to it.
Does the answer mean Yes or No? Reply with one word: Yes, No, or Unknown if it means neither.

Question: {question}
Answer: {answer}
"""


class YesNoTask(JudgedTask):
    """Questions whose answer is Yes or No."""

    judge_tries = 5

    def check(self, row: Row) -> None:
        """Check the answer.

        Raises:
            DataError: it is not Yes or No.
        """
        self.one_of(row, "answer", (YES, NO))

    def question(self, row: Row) -> Question:
        """Return the question, verbatim."""
        return Question(QuestionKind.YES_NO, row.text("question"), task=self.spec.name)

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Compare the yes or no in *prediction* with the answer; Unknown is wrong."""
        extracted = extract_yes_no(prediction)
        return Verdict(float(extracted == row.text("answer")), extracted, extracted != UNKNOWN)

    def judge_prompt(self, row: Row, prediction: str) -> str:
        """Return the question whether *prediction* means yes or no."""
        return _PROMPT.format(question=row.text("question"), answer=prediction)
