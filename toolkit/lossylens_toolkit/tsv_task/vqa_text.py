"""How evaluators of VQA bring answers to a common form before they compare them.

1. Newlines and tabs become blanks; blanks around the text go.
2. Punctuation (``; / [ ] " { } ( ) = + \\ _ - > < @ ` , ? !``): a character that
   stands next to a blank (U+0020) *anywhere* in the text is deleted *everywhere*; one
   that does not becomes a blank everywhere.  If a comma stands between two digits
   anywhere, all punctuation is deleted.
3. Periods that are no decimal points are deleted, the first 32 of them.
4. Lower-case; the words are what whitespace separates.  ``none``, ``zero``, ``one`` to
   ``ten`` become digits, ``a``, ``an`` and ``the`` go, and contractions without their
   apostrophe get it: ``dont`` becomes ``don't``.

Other characters stay in their words.  The table of contractions is that of the VQA
Challenge's script (Goyal et al., Making the V in VQA Matter, CVPR 2017), its slips
included: ``somebody'd`` *loses* its apostrophe.

Evaluators differ in rules 2 and 3: see :data:`EVALUATOR` and :data:`LMMS_EVAL`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_MAX_PERIODS = 32
_NOTHING_TO_DO = re.compile(r"[a-z]+( [a-z]+)*", re.ASCII)

_NUMBERS: Final[dict[str, str]] = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}

_ARTICLES: Final = frozenset(("a", "an", "the"))

# Those that only get an apostrophe back, and are found without it.
_CONTRACTED: Final = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's
    how'd how'll how's isn't it'd it'll ma'am might've mightn't must've mustn't needn't not've
    o'clock oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll
    someone's something'd something'll that's there'd there're there's they'd they'll they're
    they've 'twas wasn't we've weren't what'll what're what's what've when's where'd where's
    where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd
    you'll you're you've
"""

# Those with two apostrophes, which are found with either one missing.
_TWICE_CONTRACTED: Final = """
    couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've
    someone'd've something'd've there'd've they'd've we'd've who'd've wouldn't've you'd've
"""

_IRREGULAR: Final[dict[str, str]] = {
    "ow's'at": "'ow's'at",
    "'ows'at": "'ow's'at",
    "'ow'sat": "'ow's'at",
    "somebody'd": "somebodyd",
    "yall'll": "y'all'll",
    "y'allll": "y'all'll",
    "yall'd've": "y'all'd've",
    "y'alld've": "y'all'd've",
    "y'all'dve": "y'all'd've",
}


def _contractions() -> dict[str, str]:
    found = {word.replace("'", ""): word for word in _CONTRACTED.split()}
    for word in _TWICE_CONTRACTED.split():
        first, second = word.index("'"), word.rindex("'")
        found[word[:first] + word[first + 1 :]] = word
        found[word[:second] + word[second + 1 :]] = word
    return found | _IRREGULAR


CONTRACTIONS: Final[dict[str, str]] = _contractions()


@dataclass(frozen=True, slots=True)
class PunctuationRule:
    """In what evaluators differ.

    Attributes:
        digits: where it matches, all punctuation is deleted.
        period: the periods that are deleted.
    """

    digits: re.Pattern[str]
    period: re.Pattern[str]


#: VLMEvalKit: one comma between digits; periods with no digit on either side.
EVALUATOR: Final = PunctuationRule(re.compile(r"\d,\d"), re.compile(r"(?<!\d)\.(?!\d)"))

#: lmms-eval: one or more commas between digits; periods with no digit behind them, so
#: that ``2.`` is ``2``.  (The script of the VQA Challenge deletes the same periods.)
LMMS_EVAL: Final = PunctuationRule(re.compile(r"\d,+\d"), re.compile(r"\.(?!\d)"))


# Answers repeat: within a question, and from question to question.
@lru_cache(maxsize=2**16)
def normalised_answer(text: str, rule: PunctuationRule = EVALUATOR) -> str:
    """Return *text* by the rules of this module."""
    if _NOTHING_TO_DO.fullmatch(text) is None:
        text = text.replace("\n", " ").replace("\t", " ").strip()
        text = without_punctuation(text, rule).lower()
    words = [_NUMBERS.get(word, word) for word in text.split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def without_punctuation(text: str, rule: PunctuationRule = EVALUATOR) -> str:
    """Apply rules 2 and 3 to a text."""
    delete_all = rule.digits.search(text) is not None
    replacements = {
        ord(character): "" if delete_all or _touches_blank(character, text) else " "
        for character in _PUNCTUATION
        if character in text
    }
    if replacements:
        text = text.translate(replacements)
    return rule.period.sub("", text, count=_MAX_PERIODS) if "." in text else text


def _touches_blank(character: str, text: str) -> bool:
    return f"{character} " in text or f" {character}" in text


def vqa_credit(prediction: str, answers: list[str], rule: PunctuationRule = EVALUATOR) -> float:
    """Return the VQA accuracy of one prediction, 0 to 1.

    For each of the answers in turn, the others are looked at: three that equal the
    prediction are worth 1, fewer a third each.  The credit is the mean.

    Args:
        prediction: normalised.
        answers: as given by ten people; not normalised, not empty.
        rule: of the answers.
    """
    matches = sum(prediction == normalised_answer(answer, rule) for answer in answers)
    if not matches:
        return 0.0
    others = len(answers) - matches
    return (matches * min(1, (matches - 1) / 3) + others * min(1, matches / 3)) / len(answers)
