"""DocVQA and InfoVQA, scored as the reference evaluator scores them."""

from __future__ import annotations

from lossylens_toolkit.tsv_task import Row, ShortAnswerTask, Verdict

from lossylens_task_docvqa.anls import anls, common_form
from lossylens_task_docvqa.plugin import DOCVQA, DOCVQA_SPEC, INFOVQA, INFOVQA_SPEC


class DocvqaTask(ShortAnswerTask):
    """Questions about pages; the nearest of the answers counts."""

    spec = DOCVQA_SPEC
    dataset = DOCVQA

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Return the ANLS against the answer that is nearest."""
        return Verdict(anls(prediction, self.answers(row)), common_form(prediction))


class InfovqaTask(DocvqaTask):
    """Questions about infographics; scored as those about pages."""

    spec = INFOVQA_SPEC
    dataset = INFOVQA
