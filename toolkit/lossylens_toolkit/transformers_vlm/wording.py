"""How the reference evaluator words questions for models that have a wording of their own.

The texts follow the image immediately, so some begin with a newline.  Models without an
own wording get :func:`lossylens.vlm.default_prompt`.
"""

from __future__ import annotations

import re

from lossylens.vlm import Question, QuestionKind, default_prompt

_SHORT = "Answer the question using a single word or phrase."
_LETTER = "Answer with the option's letter from the given choices directly."
_BOX_REQUEST = "Please provide the bounding box coordinate of the region this sentence describes"
_CJK = re.compile("[\u4e00-\u9fff]")

#: Tasks whose images are the frames of a film.
FILM_TASKS = frozenset({"video-mme"})

# How a box question marks its expression, and what is asked before it.
_REFERENCE = re.compile(r"[^<>]*<ref>(.*)</ref>\s*", re.DOTALL)


def internvl_wording(question: Question) -> str:
    """Return *question* as InternVL3 gets it."""
    text = question.text
    if question.kind is QuestionKind.MULTIPLE_CHOICE:
        text = f"{question.hint}\n{text}" if question.hint else text
        text += "".join(f"\n{letter}. {option}" for letter, option in question.options.items())
        text += "\n" + _internvl_request(bool(question.options), _CJK.search(text) is not None)
    elif question.task in FILM_TASKS:
        text = text.replace("\nAnswer:", "") + f"\n{_LETTER}"
    elif question.task == "mme":
        text += f" {_SHORT}"
    elif question.kind is QuestionKind.SHORT_ANSWER or question.task == "ocrbench":
        text += f"\n{_SHORT}"
    return f"\n{text}"


def _internvl_request(options: bool, chinese: bool) -> str:
    if options:
        return "请直接回答选项字母。" if chinese else _LETTER
    return "请直接回答问题。" if chinese else "Answer the question directly."


def qwen_wording(question: Question, *, own_boxes: bool = False) -> str:
    """Return *question* as Qwen2.5-VL gets it: the generic wording.

    Args:
        question: to be worded.
        own_boxes: whether boxes are asked for as its authors do.
    """
    if own_boxes and question.kind is QuestionKind.BOX:
        return f"Locate {_expression(question)}, output its bbox coordinates using JSON format."
    return default_prompt(question)


def _expression(question: Question) -> str:
    """Return what a box question asks about, without the words and marks around it."""
    found = _REFERENCE.fullmatch(question.text)
    return found[1].strip() if found else question.text


def llava_wording(
    question: Question, *, short_answers: bool = False, own_boxes: bool = False
) -> str:
    """Return *question* as LLaVA-1.5 gets it.

    Args:
        question: to be worded.
        short_answers: whether yes-no questions ask for a single word or phrase, as LLaVA's
            own scripts do; the reference evaluator asks them as they are.
        own_boxes: whether boxes are asked for as in its training, without marks.
    """
    if own_boxes and question.kind is QuestionKind.BOX:
        return f"{_BOX_REQUEST}: {_expression(question)}"
    if question.kind is QuestionKind.MULTIPLE_CHOICE:
        return internvl_wording(question).removeprefix("\n")
    text = default_prompt(question)
    if short_answers and question.kind is QuestionKind.YES_NO:
        return f"{text}\n{_SHORT}"
    return text


def janus_wording(question: Question) -> str:
    """Return *question* as Janus-Pro gets it."""
    text = question.text
    if question.kind is QuestionKind.MULTIPLE_CHOICE:
        hint = f"Hint: {question.hint}\n" if question.hint else ""
        options = "".join(f"{letter}. {option}\n" for letter, option in question.options.items())
        request = f"\n{_LETTER}" if options else "Answer the question directly. "
        return f"\n{hint}{text}\n{options}{request}"
    if question.kind is QuestionKind.YES_NO:
        if question.task == "pope":
            text = text.replace(" Please answer yes or no.", "")
        return f"\n{text}\n{_SHORT}"
    return f"{text}\n{_SHORT}" if question.kind is QuestionKind.SHORT_ANSWER else text
