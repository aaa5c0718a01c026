"""TextVQA, scored as the reference evaluator scores it."""

from __future__ import annotations

from lossylens_toolkit.tsv_task import Row, ShortAnswerTask, Verdict
from lossylens_toolkit.tsv_task.vqa_text import normalised_answer, vqa_credit

from lossylens_task_textvqa.plugin import DATASET, SPEC


class TextvqaTask(ShortAnswerTask):
    """Questions that ten people answered."""

    spec = SPEC
    dataset = DATASET

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Return the VQA accuracy.

        A cell that is no list is one answer, of which no other can agree: the credit is 0.
        """
        extracted = normalised_answer(prediction)
        return Verdict(vqa_credit(extracted, self.answers(row)), extracted)
