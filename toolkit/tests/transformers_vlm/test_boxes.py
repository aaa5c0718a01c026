"""Boxes: asked for as each family's authors do, and given as fractions of the image."""

from __future__ import annotations

import pytest
from lossylens.vlm import Question, QuestionKind, parse_box
from lossylens_toolkit.transformers_vlm.vlm_testing import about, blocks
from lossylens_toolkit.transformers_vlm.wording import internvl_wording, llava_wording, qwen_wording
from lossylens_toolkit.written_boxes import four_numbers

EXPRESSION = "Please provide the bounding box of what this describes: <ref>the left cup</ref>"
ASKED = Question(QuestionKind.BOX, EXPRESSION, task="refcoco", max_new_tokens=2)

#: From the left edge to the middle, from a quarter down to the lower edge.
BOX = (0.0, 0.25, 0.5, 1.0)


def written(kind: str, vlm, size: tuple[int, int]) -> str | None:
    """What the family writes for BOX in an image of *size*."""
    width, height = size
    if kind == "qwen2_5_vl":
        layout = vlm.family.preprocess.layout(size, vlm.family.detail(ASKED, 1))
        across, down = layout.columns * 14, layout.rows * 14
        box = f"[0, {down / 4:g}, {across / 2:g}, {down}]"
        return f'```json\n[\n\t{{"bbox_2d": {box}, "label": "cup"}}\n]\n```'
    if kind == "internvl":
        return "cup[[0, 250, 500, 1000]]"
    if kind == "llava":
        # Of the padded square: a wide image has bars above and below.
        side = max(size)
        x, y = (side - width) // 2, (side - height) // 2
        box = (x, y + height / 4, x + width / 2, y + height)
        return f"[{', '.join(f'{each / side:.6f}' for each in box)}]"
    return None


@pytest.mark.parametrize("size", [(200, 150), (90, 200), (64, 64)])
def test_a_box_becomes_fractions_of_the_image(kind, vlm, size, monkeypatch) -> None:
    text = written(kind, vlm, size)
    tokenizer = type(vlm.family.tokenizer)
    shown = text or "[0, 250, 500, 1000]"
    monkeypatch.setattr(tokenizer, "decode", lambda *given, **settings: shown)
    open_question = Question(QuestionKind.OPEN, "What is it?", max_new_tokens=2)
    [[placed, other]] = vlm.answer([about(blocks(*size, 1), ASKED, open_question)])
    assert other.text == shown
    if text is None:
        # A family that was not trained to write boxes: what it wrote stays as it is.
        assert placed.text == shown
    else:
        assert parse_box(placed.text) == pytest.approx(BOX, abs=1e-4)


def test_what_is_no_box_stays_as_it_is(kind, vlm, monkeypatch) -> None:
    monkeypatch.setattr(type(vlm.family.tokenizer), "decode", lambda *given, **settings: "No cup.")
    [[answer]] = vlm.answer([about(blocks(64, 64, 1), ASKED)])
    assert answer.text == "No cup."


def test_a_box_beyond_the_image_is_cut(open_vlm) -> None:
    family = open_vlm("llava").family
    # The upper bar of a wide image, and what is right of it.
    assert family.box("[0.5, 0.0, 1.5, 0.5]", (200, 100), None) == (0.5, 0.0, 1.0, 0.5)


def test_internvls_fractions_are_told_from_thousandths(open_vlm) -> None:
    family = open_vlm("internvl").family
    assert family.box("[0.1, 0.2, 0.5, 1.0]", (200, 100), None) == (0.1, 0.2, 0.5, 1.0)
    assert family.box("[1, 1, 1, 1]", (200, 100), None) == (0.001,) * 4


def test_the_reference_evaluator_asks_all_alike_and_the_authors_do_not() -> None:
    assert qwen_wording(ASKED) == llava_wording(ASKED) == EXPRESSION
    assert internvl_wording(ASKED) == f"\n{EXPRESSION}"
    own = "Locate the left cup, output its bbox coordinates using JSON format."
    assert qwen_wording(ASKED, own_boxes=True) == own
    assert llava_wording(ASKED, own_boxes=True) == (
        "Please provide the bounding box coordinate of the region this sentence describes: "
        "the left cup"
    )
    plain = Question(QuestionKind.BOX, "the left cup")
    assert qwen_wording(plain, own_boxes=True) == own
    other = Question(QuestionKind.OPEN, EXPRESSION)
    assert qwen_wording(other, own_boxes=True) == llava_wording(other, own_boxes=True) == EXPRESSION


def test_the_option_reaches_the_prompt(open_vlm) -> None:
    asked = [about(blocks(64, 64, 1), ASKED)]
    for name in ("qwen2_5_vl", "llava"):
        evaluators, own = (
            open_vlm(name, own_box_wording=each).answer(asked)[0][0].usage["input_tokens"]
            for each in (False, True)
        )
        # Letters are tokens.
        words = {"qwen2_5_vl": qwen_wording, "llava": llava_wording}[name](ASKED, own_boxes=True)
        assert evaluators - own == len(EXPRESSION) - len(words)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("[1, 2, 3, 4]", (1, 2, 3, 4)),
        ("3 cups: [ 0.1 .25\t+5e-1, -4 ]", (0.1, 0.25, 0.5, -4)),
        ("[1, 2, 3], [4, 5, 6, 7, 8], [9, 10, 11, 12]", (9, 10, 11, 12)),
        ("2 cups at 10,20 to 30 and 40", (2, 10, 20, 30)),
        ("[1, 2, 3", None),
        ("", None),
    ],
)
def test_four_numbers(text, numbers) -> None:
    assert four_numbers(text) == numbers


@pytest.mark.parametrize("text", ["1" * 32000, "[ " * 16000, "[1" + " " * 32000, "[1, 2, " * 5000])
def test_long_texts_take_no_time(text) -> None:
    # Not a measurement: a pattern that backtracks would take hours.
    four_numbers(text)
