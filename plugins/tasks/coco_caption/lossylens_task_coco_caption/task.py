"""COCO Caption, scored as the reference evaluator scores it."""

from __future__ import annotations

from collections.abc import Sequence

from lossylens.task import Resampling
from lossylens.vlm import Question, QuestionKind
from lossylens_toolkit.tsv_task import Judged, Row, Summary, TsvTask, Verdict

from lossylens_task_coco_caption.bleu import bleu, bleu_counts, total_counts
from lossylens_task_coco_caption.cider import SCALE, cider
from lossylens_task_coco_caption.plugin import DATASET, SPEC
from lossylens_task_coco_caption.rouge import rouge_l
from lossylens_task_coco_caption.words import overlap, split_words

#: What is asked where the file has no questions; the blank at the end is the
#: evaluator's.
PROMPT = (
    "Please describe this image in general. Directly provide the description, "
    'do not include prefix like "This image depicts". '
)


class CocoCaptionTask(TsvTask):
    """Captions, each compared with several references."""

    spec = SPEC
    dataset = DATASET

    def check(self, row: Row) -> None:
        """Check the references.

        Raises:
            DataError: they are no list, or the row is of another data set.
        """
        self.refuse_mix_up(row)
        _references(row)

    def question(self, row: Row) -> Question:
        """Return the question of the data, verbatim, else the evaluator's default."""
        return Question(QuestionKind.CAPTION, row.get("question") or PROMPT, task=SPEC.name)

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Return no verdict yet: it depends on the captions of all images."""
        return Verdict(None, prediction)

    def failed(self, row: Row) -> Verdict:
        """Return no verdict; the caption of a failed sample is that of an empty one."""
        return Verdict(None, "")

    def summary(self, judged: Sequence[Judged]) -> Summary:
        """Return BLEU, ROUGE-L and CIDEr times 100.

        The credit of a caption is a tenth of its CIDEr.  A resampled CIDEr is a mean of these,
        with the document frequencies of all images.
        """
        captions = [each.prediction for each in judged]
        references = [_references(each.row) for each in judged]
        bleus, rouges = _bleu_and_rouge(captions, references)
        ciders = cider(captions, references)
        metrics = {
            "Bleu": [100 * score for score in bleus],
            "ROUGE_L": 100 * sum(rouges) / len(rouges),
            "CIDEr": 100 * sum(ciders) / len(ciders),
        }
        credit = {each.row.id: score / SCALE for each, score in zip(judged, ciders, strict=True)}
        return Summary(metrics, credit, Resampling.mean(credit, 100 * SCALE))


def _bleu_and_rouge(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[list[float], list[float]]:
    """Return BLEU-1 to BLEU-4 of all captions together, and ROUGE-L of each."""
    counts, rouges = [], []
    for caption, others in zip(captions, references, strict=True):
        by_whitespace, by_blanks = split_words(caption, others)
        shared = overlap(by_whitespace)
        counts.append(bleu_counts(shared))
        if by_blanks is not by_whitespace:
            shared = overlap(by_blanks)
        rouges.append(rouge_l(shared))
    return bleu(total_counts(counts)), rouges


def _references(row: Row) -> list[str]:
    references = row.strings("answer")
    if not references:
        raise row.error("answer", "not a list of captions, as in ['A cat.', 'A grey cat.']")
    return references
