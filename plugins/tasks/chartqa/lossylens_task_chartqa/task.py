"""ChartQA, scored as the reference evaluator scores it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lossylens_toolkit.tsv_task import Judged, Row, ShortAnswerTask, Summary, Verdict

from lossylens_task_chartqa.plugin import DATASET, SPEC

#: How far a number may be from the right one, as a share of it.
TOLERANCE = 0.05

#: Name of the metrics by the rule that the evaluator had until September 2025.
SWAPPED = "tolerance of the prediction"


class ChartqaTask(ShortAnswerTask):
    """Questions with a number or a word for an answer."""

    spec = SPEC
    dataset = DATASET

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Return the relaxed accuracy: numbers may be off by 5 percent of the right one."""
        extracted = prediction.strip()
        right = any(relaxed(extracted, answer) for answer in self.answers(row))
        return Verdict(float(right), extracted)

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return the share of right answers, and beside it that by the former rule.

        Until September 2025 the evaluator had prediction and answer in each other's place:
        the tolerance was 5 percent of the prediction.
        """
        summary = super().summary(judged)
        former = [
            replace(each, verdict=Verdict(float(self._swapped(each)), each.verdict.extracted))
            for each in judged
        ]
        return replace(
            summary, metrics={**summary.metrics, SWAPPED: super().summary(former).metrics}
        )

    def _swapped(self, each: Judged) -> bool:
        # A failed prediction, which has no text, is wrong by either rule.
        said = each.verdict.extracted
        return bool(said) and any(relaxed(answer, said) for answer in self.answers(each.row))


def relaxed(prediction: str, answer: str) -> bool:
    """Whether numbers agree within the tolerance, or texts but for case.

    They are compared as texts if either is no number, or if the answer is 0.
    """
    said, right = number(prediction), number(answer)
    if said is None or not right:
        return prediction.lower() == answer.lower()
    return abs(said - right) / abs(right) <= TOLERANCE


def number(text: str) -> float | None:
    """Return the number that *text* is for Python, a hundredth where it ends in a percent sign."""
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
