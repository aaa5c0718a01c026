"""VQAv2, scored as lmms-eval scores it; VLMEvalKit has no such data set."""

from __future__ import annotations

from lossylens_toolkit.tsv_task import Row, ShortAnswerTask, Verdict, string_list
from lossylens_toolkit.tsv_task.vqa_text import LMMS_EVAL, normalised_answer, vqa_credit

from lossylens_task_vqav2.plugin import DATASET, SPEC


class Vqav2Task(ShortAnswerTask):
    """Questions that ten people answered."""

    spec = SPEC
    dataset = DATASET

    def answers(self, row: Row) -> list[str]:
        """Return the answers, as they stand in the file.

        Raises:
            DataError: the cell is no list.
        """
        answers = string_list(row.text("answer"))
        if answers is None:
            raise row.error("answer", "not a list of strings, as in ['red', 'red', 'dark red']")
        return answers

    def seen(self, prediction: str) -> str:
        """Return the prediction as it is: lmms-eval writes no spreadsheet."""
        return prediction

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Return the VQA accuracy."""
        extracted = normalised_answer(prediction, LMMS_EVAL)
        return Verdict(vqa_credit(extracted, self.answers(row), LMMS_EVAL), extracted)
