"""Reading answers out of predictions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from lossylens_task_scenes.questions.scene_question import LETTERS, SceneQuestion

_LETTER = re.compile(r"^\(?([A-D])(?:$|[\s.):,])")


def extract(question: SceneQuestion, prediction: str) -> str | None:
    """The answer that a prediction gives, in the form of the truth; None when there is none.

    Deliberately simple.  Blanks around and a period at the end do not count, nor does case.  Yes
    or no is the first word.  A choice is a letter at the beginning, or the text of one option.
    """
    text = prediction.strip().rstrip(".").strip()
    if not text:
        return None
    if question.kind == "yes_no":
        word = re.split(r"[\s,.!;:]", text, maxsplit=1)[0].lower()
        return {"yes": "Yes", "no": "No"}.get(word)
    if question.kind == "multiple_choice":
        lowered = [option.lower() for option in question.options]
        if text.lower() in lowered:
            return LETTERS[lowered.index(text.lower())]
        match = _LETTER.match(text)
        letter = match.group(1) if match else text.upper()
        valid = letter in LETTERS[: len(question.options)] and len(letter) == 1
        return letter if valid else None
    return text


def is_right(question: SceneQuestion, extracted: str | None) -> bool:
    """Whether the extracted answer equals an accepted one, case aside."""
    if extracted is None:
        return False
    return extracted.lower() in {reference.lower() for reference in question.references}


def caption_f1(prediction: str, references: Sequence[str]) -> float:
    """F1 of the words (a bag, case aside) against the reference that suits best; 0 to 1."""
    said = Counter(re.findall(r"\w+", prediction.lower()))
    best = 0.0
    for reference in references:
        meant = Counter(re.findall(r"\w+", reference.lower()))
        total = said.total() + meant.total()
        if total:
            best = max(best, 2 * (said & meant).total() / total)
    return best
