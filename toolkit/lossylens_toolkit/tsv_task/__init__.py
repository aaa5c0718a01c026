"""For tasks that read the TSV files of the reference evaluator (VLMEvalKit).

A task plugin derives from :class:`TsvTask` and states what is particular to it;
the files, the evaluator's ways of reading answers, and the errors are here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossylens_toolkit.tsv_task.choice import OPTION_LETTERS, extract_choice
    from lossylens_toolkit.tsv_task.dataset import Dataset, data_needed
    from lossylens_toolkit.tsv_task.effective import effective_text
    from lossylens_toolkit.tsv_task.judged import JudgedTask
    from lossylens_toolkit.tsv_task.literals import string_list
    from lossylens_toolkit.tsv_task.missing import text_or_missing
    from lossylens_toolkit.tsv_task.multiple_choice import (
        MultipleChoiceTask,
        means_by_split,
        split_of,
    )
    from lossylens_toolkit.tsv_task.short_answer_task import ShortAnswerTask
    from lossylens_toolkit.tsv_task.tsv_base import Judged, Summary, TsvTask, Verdict, mean_credit
    from lossylens_toolkit.tsv_task.tsv_options import JudgedOptions, TsvOptions
    from lossylens_toolkit.tsv_task.tsv_table import Row, TsvTable
    from lossylens_toolkit.tsv_task.yes_no import NO, UNKNOWN, YES, extract_yes_no
    from lossylens_toolkit.tsv_task.yes_no_task import YesNoTask

__all__ = [
    "NO",
    "OPTION_LETTERS",
    "UNKNOWN",
    "YES",
    "Dataset",
    "Judged",
    "JudgedOptions",
    "JudgedTask",
    "MultipleChoiceTask",
    "Row",
    "ShortAnswerTask",
    "Summary",
    "TsvOptions",
    "TsvTable",
    "TsvTask",
    "Verdict",
    "YesNoTask",
    "data_needed",
    "effective_text",
    "extract_choice",
    "extract_yes_no",
    "mean_credit",
    "means_by_split",
    "split_of",
    "string_list",
    "text_or_missing",
]

# Where each name is.  Imported when first used: plugins are listed with what is
# in ``dataset`` and ``tsv_options`` alone.
_HOMES = {
    "Dataset": "dataset",
    "Judged": "tsv_base",
    "JudgedOptions": "tsv_options",
    "JudgedTask": "judged",
    "MultipleChoiceTask": "multiple_choice",
    "NO": "yes_no",
    "OPTION_LETTERS": "choice",
    "Row": "tsv_table",
    "ShortAnswerTask": "short_answer_task",
    "Summary": "tsv_base",
    "TsvOptions": "tsv_options",
    "TsvTable": "tsv_table",
    "TsvTask": "tsv_base",
    "UNKNOWN": "yes_no",
    "Verdict": "tsv_base",
    "YES": "yes_no",
    "YesNoTask": "yes_no_task",
    "data_needed": "dataset",
    "effective_text": "effective",
    "extract_choice": "choice",
    "extract_yes_no": "yes_no",
    "mean_credit": "tsv_base",
    "means_by_split": "multiple_choice",
    "split_of": "multiple_choice",
    "string_list": "literals",
    "text_or_missing": "missing",
}


def __getattr__(name: str) -> Any:
    """Import *name* from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
