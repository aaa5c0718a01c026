"""Which texts stand for a missing value in the reference evaluator's files."""

from __future__ import annotations

#: Texts that ``pandas.read_csv`` and ``pandas.read_excel`` (2.0 and later) read
#: as a missing value, quoted or not.  Blanks around them count: ``" NA"`` is text.
MISSING_TEXTS = frozenset(
    [
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)

#: What ``str`` makes of a missing value.
MISSING = "nan"


def text_or_missing(cell: str | None) -> str:
    """Return *cell*, or ``"nan"`` where it is missing, as ``str`` does with pandas cells."""
    return MISSING if cell is None else cell
