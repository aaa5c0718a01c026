"""For tasks that read the TSV files of the reference evaluator (VLMEvalKit).

A task plugin derives from :class:`TsvTask` and states what is particular to it;
the files, the evaluator's ways of reading answers, and the errors are here.
"""

from lossylens.toolkit.tsv_task.base import Judged, Summary, TsvTask, Verdict
from lossylens.toolkit.tsv_task.choice import OPTION_LETTERS, extract_choice
from lossylens.toolkit.tsv_task.dataset import Dataset, TsvOptions, data_needed
from lossylens.toolkit.tsv_task.effective import effective_text
from lossylens.toolkit.tsv_task.literals import string_list
from lossylens.toolkit.tsv_task.missing import text_or_missing
from lossylens.toolkit.tsv_task.multiple_choice import MultipleChoiceTask, means_by_split
from lossylens.toolkit.tsv_task.table import Row, TsvTable
from lossylens.toolkit.tsv_task.yes_no import NO, UNKNOWN, YES, extract_yes_no

__all__ = [
    "NO",
    "OPTION_LETTERS",
    "UNKNOWN",
    "YES",
    "Dataset",
    "Judged",
    "MultipleChoiceTask",
    "Row",
    "Summary",
    "TsvOptions",
    "TsvTable",
    "TsvTask",
    "Verdict",
    "data_needed",
    "effective_text",
    "extract_choice",
    "extract_yes_no",
    "means_by_split",
    "string_list",
    "text_or_missing",
]
