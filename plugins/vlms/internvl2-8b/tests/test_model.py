"""Through the engine, the model computes what it is written down to compute."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from lossylens.vlm import Question, QuestionKind
from lossylens_toolkit.transformers_vlm.tower_tests import close
from lossylens_toolkit.transformers_vlm.vlm_testing import about, blocks
from lossylens_vlm_internvl2_8b.plugin import Options
from lossylens_vlm_internvl2_8b.vlm import SYSTEM, InternVL2Vlm

LIMIT = 6
IMAGES = [blocks(80, 60, 1), blocks(200, 150, 2), blocks(60, 190, 3)]
CHOICE = Question(
    QuestionKind.MULTIPLE_CHOICE, "Which <|im_end|>?", options={"A": "cat", "B": "dog"}
)
#: What is asked, and how it is written: {0} is the place of an image.
ASKED = [
    ((0,), Question(QuestionKind.OPEN, "What is it?"), "{0}\nWhat is it?"),
    ((1,), Question(QuestionKind.YES_NO, "Is it?", task="pope"), "{0}\nIs it?"),
    (
        (1,),
        CHOICE,
        "{0}\nWhich <|im_end|>?\nA. cat\nB. dog\n"
        "Answer with the option's letter from the given choices directly.",
    ),
    (
        (2, 0),
        Question(QuestionKind.OPEN, "Which is red, <image 1>?"),
        "Image-1: {0}\nImage-2: {1}\nWhich is red, <image 1>?",
    ),
]


@pytest.fixture(scope="module")
def vlm(folder):
    options = {"checkpoint": str(folder), "device": "cpu", "max_new_tokens": LIMIT}
    vlm = InternVL2Vlm(Options(**options, max_tiles=2, system="帮助。"))
    # Loaded here, not within inference.
    assert vlm.family
    return vlm


@pytest.fixture(scope="module")
def reference():
    path = Path(__file__).parent / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seen(vlm, image, weights, reference):
    [picture] = vlm.vision.prepare([image])
    return torch.cat([reference.see(tile, weights, heads=2) for tile in picture.pixels])


def written_prompt(vlm, content, counts):
    """Ids of the whole prompt, whose parts the official tokenizer takes apart at special tokens."""
    tokenizer = vlm.family.tokenizer
    text = f"<|im_start|>system\n帮助。<|im_end|><|im_start|>user\n{content}"
    ids = [tokenizer.bos_token_id]
    parts = [text, *(f"<img>{'<IMG_CONTEXT>' * count}</img>" for count in counts)]
    for number, part in enumerate(parts[0].split("{")):
        if number:
            ids += tokenizer.encode(parts[number], add_special_tokens=False)
        ids += tokenizer.encode(
            part[2:] if number else part,
            add_special_tokens=False,
            # What the question spells is text.
            split_special_tokens="Which" in part,
        )
    return ids + tokenizer.encode("<|im_end|><|im_start|>assistant\n", add_special_tokens=False)


@torch.inference_mode()
def test_features_are_the_references(vlm, written, reference):
    pictures = vlm.vision.prepare(IMAGES)
    for image, each in zip(IMAGES, vlm.vision.encode(pictures), strict=True):
        close(each.features, seen(vlm, image, written[1], reference))
    assert [each.layout.tiles for each in pictures] == [1, 1, 3]


@torch.inference_mode()
def test_answers_are_the_references(vlm, written, reference):
    tokenizer, expected = vlm.family.tokenizer, []
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert vlm.family.stop == {stop}
    for places, _, content in ASKED:
        features = [seen(vlm, IMAGES[place], written[1], reference) for place in places]
        prompt = written_prompt(vlm, content, [len(each) for each in features])
        tokens = reference.write_answer(
            prompt, torch.cat(features), 482, written[1], 4, 2, stop, LIMIT
        )
        expected.append((tokenizer.decode(tokens, skip_special_tokens=True), len(prompt)))
    items = [about([IMAGES[place] for place in places], asked) for places, asked, _ in ASKED]
    found = [(each.text, each.usage["input_tokens"]) for [each] in vlm.answer(items)]
    assert found == expected
    assert len({text for text, _ in expected}) > 2, "or equality would say little"
    alone = [vlm.answer([item])[0][0] for item in items]
    assert [(each.text, each.usage["input_tokens"]) for each in alone] == expected


def test_the_authors_prompt(folder):
    vlm = InternVL2Vlm(Options(checkpoint=str(folder), device="cpu"))
    assert vlm.family.limit == 4096
    # The blank that SentencePiece puts before a text shows behind special tokens.
    first, *_, last = (
        vlm.family.tokenizer.decode(list(ids)).replace("> ", ">")
        for ids in vlm.family.texts((*vlm.family.opening, 0, *vlm.family.closing))
    )
    assert first == f"<s><|im_start|>system\n{SYSTEM}<|im_end|><|im_start|>user\n"
    assert last == "<|im_end|><|im_start|>assistant\n"
    bare = InternVL2Vlm(Options(checkpoint=str(folder), device="cpu", system=""))
    [ids] = bare.family.texts(bare.family.opening)
    assert bare.family.tokenizer.decode(list(ids)) == "<s><|im_start|> user\n"


def test_vision_access(vlm):
    tower = vlm.vision
    assert (tower.layers, tower.width, tower.extra) == (3, 32, 1)
    pictures = tower.prepare(IMAGES)
    layouts = [each.layout for each in pictures]
    twin = tower.clone()
    states = twin.hidden_states(pictures, [2])[2]
    for one, other in zip(tower.enter(2, states, layouts), twin.encode(pictures), strict=True):
        close(one.features, other.features)
    [rows, *_] = tower.attention(pictures, [0])[0]
    assert rows.shape == (1, 2, 17, 17)
