"""The base of multiple-choice tasks (MMBench, SEEDBench, MMMU)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from lossylens.vlm import Question, QuestionKind

from lossylens_toolkit.tsv_task.choice import OPTION_LETTERS, extract_choice
from lossylens_toolkit.tsv_task.effective import effective_text
from lossylens_toolkit.tsv_task.judged import JudgedTask
from lossylens_toolkit.tsv_task.tsv_base import Verdict
from lossylens_toolkit.tsv_task.tsv_table import Row

OVERALL = "Overall"

_PROMPT = """\
Below are a question, the options to choose its answer from, and an answer to it.
Which option does the answer mean? Reply with its letter alone, or Z if it means none of them.

Question: {question}
Options:
{options}Answer: {answer}
"""

_LETTERS = frozenset(OPTION_LETTERS)

#: Name of the split of files that have no column ``split``.
NO_SPLIT = "none"


class MultipleChoiceTask(JudgedTask):
    """Questions with options in columns ``A``, ``B`` ...; the answer is a letter."""

    judge_tries = 3

    def check(self, row: Row) -> None:
        """Check the answer.

        Raises:
            DataError: it is not a letter.
        """
        self.one_of(row, "answer", OPTION_LETTERS)

    def question(self, row: Row) -> Question:
        """Return the question with its options and its hint, if it has one."""
        return Question(
            QuestionKind.MULTIPLE_CHOICE,
            row.text("question"),
            task=self.spec.name,
            options=options(row),
            hint=row.get("hint") or "",
        )

    def choices(self, row: Row) -> dict[str, str]:
        """Return what an answer is looked up among: the options."""
        return options(row)

    def right_letter(self, row: Row) -> str:
        """Return the letter of the right choice."""
        return row.text("answer")

    def verdict(self, row: Row, prediction: str) -> Verdict:
        """Compare the choice in *prediction* with the answer; none is wrong."""
        letters = {letter: effective_text(text) for letter, text in self.choices(row).items()}
        choice = extract_choice(prediction, letters)
        return Verdict(float(choice == self.right_letter(row)), choice or "", choice is not None)

    def judge_prompt(self, row: Row, prediction: str) -> str:
        """Return the question which option *prediction* means."""
        choices = self.choices(row)
        listed = "".join(f"{letter}. {text}\n" for letter, text in choices.items())
        return _PROMPT.format(question=row.text("question"), options=listed, answer=prediction)


def options(row: Row) -> dict[str, str]:
    """Return the options of a question by letter, in the order of the data set's columns.

    An option that is a missing-value word, such as ``None``, is no option.
    """
    return {
        name: text
        for name, text in row.cells.items()
        if len(name) == 1 and name in _LETTERS and text is not None
    }


def split_of(row: Row) -> str:
    """Return the split that a row belongs to."""
    return row.get("split") or NO_SPLIT


def means_by_split(
    hits: Iterable[tuple[Row, float]], columns: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the share of hits per split, over all its rows and per ability.

    An ability that has rows in another split only is not a number.

    Args:
        hits: rows with their credit.
        columns: that name abilities; those of the first column come first, each
            column's sorted by name.
    """
    credit: dict[str, dict[tuple[int, str], list[float]]] = {}
    for row, hit in hits:
        by_ability = credit.setdefault(split_of(row), {})
        for order, column in enumerate([OVERALL, *columns]):
            name = row.text(column) if order else OVERALL
            by_ability.setdefault((order, name), []).append(hit)
    abilities = sorted({ability for by_ability in credit.values() for ability in by_ability})
    return {
        split: {ability[1]: _mean(by_ability.get(ability, [])) for ability in abilities}
        for split, by_ability in credit.items()
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
