"""Through the engine, the model computes what it is written down to compute."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from lossylens.codec import SOURCE
from lossylens.errors import ConfigError
from lossylens.vlm import Condition, Question, QuestionKind
from lossylens_toolkit.transformers_vlm.engine import Engine, Prompts, Shown, Suffix
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout
from lossylens_toolkit.transformers_vlm.vlm_testing import about, blocks
from lossylens_vlm_qwen_vl_chat.family import Preprocessor
from lossylens_vlm_qwen_vl_chat.plugin import QwenVLChatOptions
from lossylens_vlm_qwen_vl_chat.vlm import QwenVLChatVlm
from PIL import Image

QUESTIONS = (
    "Is there a star?",
    "Is there a very large purple star in the image? Please answer yes or no.",
    "What color is the ring?\nAnswer the question using a single word or phrase.",
    "\n\nthe naïve café 你好 <|im_end|> <img>x</img>",
)
LIMIT = 12
CONDITION = Condition(SOURCE, (112, 112))


@pytest.fixture(scope="module")
def vlm(folder):
    options = QwenVLChatOptions(checkpoint=str(folder), device="cpu", max_new_tokens=LIMIT)
    return QwenVLChatVlm(options)


@pytest.fixture(scope="module")
def family(vlm):
    return vlm.family


@pytest.fixture(scope="module")
def images():
    sizes = ((112, 112), (150, 300), (70, 33))
    return [blocks(width, height, seed) for seed, (width, height) in enumerate(sizes)]


def parts(family, text, images=1):
    """Return the ids before the images, and those that follow the last."""
    prefix, suffix = family.prompt(Question(QuestionKind.OPEN, text), images)
    return tuple(family.texts(prefix)[:-1]), list(*family.texts(suffix))


def prompt_ids(family, text, images=1):
    before, after = parts(family, text, images)
    return family.prefix(before, [Layout(1, 8, 8)] * len(before)).ids + after


def alone(reference, written, family, image, text, limit=LIMIT):
    pixels = family.preprocess(image, None).pixels[0]
    features = reference.see(pixels, written[1], heads=2, pool_heads=2)
    prompt = prompt_ids(family, text)
    pad = family.image_token
    return reference.write_answer(prompt, features, pad, written[1], 4, family.stop, limit)


@pytest.fixture(scope="module")
def reference():
    import importlib.util
    from pathlib import Path

    spec = importlib.util.spec_from_file_location(
        "reference", Path(__file__).parent / "reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_features_are_the_references(family, images, written, reference):
    pictures = family.tower.prepare(images)
    with torch.inference_mode():
        encoded = family.tower.encode(pictures)
        whole = family.tower.module(torch.cat([each.pixels for each in pictures]))
    for picture, each, at_once in zip(pictures, encoded, whole, strict=True):
        expected = reference.see(picture.pixels[0], written[1], heads=2, pool_heads=2)
        assert each.features.shape == (16, 64)
        torch.testing.assert_close(each.features, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(at_once, expected, atol=1e-4, rtol=1e-4)


def test_answers_equal_one_at_a_time(family, images, written, reference):
    asked = [
        Prompts(
            (Shown(family.preprocess(image, None), CONDITION),),
            parts(family, "")[0],
            tuple(Suffix(parts(family, text)[1], LIMIT) for text in QUESTIONS),
        )
        for image in images
    ]
    batched = [each.tokens for of in Engine(family).answer(asked) for each in of]
    single = [
        alone(reference, written, family, image, text) for image in images for text in QUESTIONS
    ]
    assert batched == single
    # Answers must differ, or equality would say little.
    assert len(set(map(tuple, single))) > len(single) // 2


@pytest.mark.parametrize("space", [True, False])
def test_several_images_are_numbered_where_they_stand(folder, images, written, reference, space):
    """Prompts as the official tokenizer's list format makes them; answers one at a time."""
    options = {"checkpoint": str(folder), "device": "cpu", "max_new_tokens": LIMIT}
    vlm = QwenVLChatVlm(QwenVLChatOptions(**options, picture_space=space))
    family = vlm.family
    colon = ": " if space else ":"
    span = f"<img>{'<imgpad>' * 16}</img>\n"
    first, second, third = (f"Picture {number}{colon}{span}" for number in (1, 2, 3))
    cases = [
        # Question, order of the images in its prompt, content of the user's turn.
        ("\n\nthe two?", (0, 1), f"{first}{second}\n\nthe two?"),
        ("in <image 2>\n<image 1> the <image 2>?", (1, 0, 1), f"in {first}\n{second} the {third}?"),
        ("\n\n<image 2>", (1,), f"\n\n{first}"),
    ]
    questions = [Question(QuestionKind.OPEN, text) for text, _, _ in cases]
    items = [about(images[:2], *questions), about([images[2], images[0]], *questions)]
    opening = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    ending = "<|im_end|>\n<|im_start|>assistant\n"
    expected = []
    for item in items:
        pixels = [family.preprocess(image, None).pixels[0] for image in item.images]
        features = [reference.see(each, written[1], heads=2, pool_heads=2) for each in pixels]
        for _, order, content in cases:
            # The turn's role is tokenised apart from its content.
            parts_ = [family.special(part) for part in (opening, content, ending)]
            prompt = [token for part in parts_ for token in part]
            shown = torch.cat([features[place] for place in order])
            pad, stop = family.image_token, family.stop
            tokens = reference.write_answer(prompt, shown, pad, written[1], 4, stop, LIMIT)
            text = family.tokenizer.decode(tokens, skip_special_tokens=True)
            expected.append((text, len(prompt)))
    answers = [answer for group in vlm.answer(items) for answer in group]
    assert [(each.text, each.usage["input_tokens"]) for each in answers] == expected
    assert len({text for text, _ in expected}) > 3
    single = [vlm.answer([about(i.images, q)])[0][0] for i in items for q in questions]
    assert single == answers


def test_answers_end_at_any_stop_token(family, images, written, reference, monkeypatch):
    texts = QUESTIONS[:3]
    plain = [alone(reference, written, family, images[0], text) for text in texts]
    monkeypatch.setattr(family, "stop", family.stop | {plain[0][3], plain[1][1]})
    rows = tuple(Suffix(parts(family, text)[1], LIMIT) for text in texts)
    shown = Shown(family.preprocess(images[0], None), CONDITION)
    asked = Prompts((shown,), parts(family, "")[0], rows)
    [answers] = Engine(family).answer([asked])
    for full, answer in zip(plain, answers, strict=True):
        stops = [at for at, token in enumerate(full) if token in family.stop]
        assert answer.tokens == full[: min(stops, default=len(full))]


def test_stop_tokens_limit_and_context(family):
    token = family.tokenizer.convert_tokens_to_ids
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    assert family.stop == set(map(token, names))
    assert (family.limit, family.context) == (LIMIT, 256)


def test_the_core_contract(vlm, family, images, written, reference):
    short = Question(QuestionKind.OPEN, "Is there a star?")
    long = Question(QuestionKind.OPEN, "star " * 300)
    item = about(images[1], long, short)
    [[failed, answered]] = vlm.answer([item])
    assert failed.text is None
    assert "the model's context is 256" in failed.failure
    tokens = alone(reference, written, family, images[1], "Is there a star?")
    assert answered.text == family.tokenizer.decode(tokens, skip_special_tokens=True)
    assert answered.usage["output_tokens"] == len(tokens)


def test_prompt(vlm, family):
    ids = prompt_ids(family, "Why?")
    assert family.tokenizer.decode(ids) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nPicture 1: <img>" + "<imgpad>" * 16 + "</img>\nWhy?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    # What spells special tokens is text.
    [_, ids] = parts(family, "<|im_end|><imgpad>")
    assert [family.tokenizer.decode([each]) for each in ids if each in family.stop] == [
        "<|im_end|>",
        "<|im_start|>",
    ]
    assert family.image_token not in ids


@pytest.mark.parametrize(
    ("code", "option", "space"),
    [
        (None, None, True),
        ("text += f'Picture {num_images}: '", None, True),
        ("text += f'Picture {num_images}:'", None, False),
        ("text += f'Picture {num_images}:'", True, True),
        (None, False, False),
    ],
)
def test_the_space_before_the_image(fresh, code, option, space):
    if code:
        (fresh / "tokenization_qwen.py").write_text(f"raise SystemExit\n{code}\n")
    vlm = QwenVLChatVlm(QwenVLChatOptions(checkpoint=str(fresh), picture_space=option))
    ids = prompt_ids(vlm.family, "Why?")
    assert ("Picture 1: <img>" in vlm.family.tokenizer.decode(ids)) is space


def test_preprocessing():
    image = Image.new("RGB", (30, 10), (255, 0, 128))
    picture = Preprocessor(448, 14)(image, None)
    assert (picture.pixels.shape, picture.layout) == ((1, 3, 448, 448), Layout(1, 32, 32))
    expected = [(1 - 0.48145466) / 0.26862954, -0.4578275 / 0.26130258]
    assert picture.pixels[0, :2, 7, 9].tolist() == pytest.approx(expected, abs=1e-5)


# Vision access


@pytest.fixture
def pictures(family, images):
    return family.tower.prepare(images)


def test_entering_at_any_layer_gives_the_same(family, pictures):
    tower = family.tower
    layouts = [each.layout for each in pictures]
    with torch.inference_mode():
        expected = tower.encode(pictures)
        states = tower.hidden_states(pictures, range(tower.layers + 1))
        for layer in range(tower.layers + 1):
            for each, other in zip(
                tower.enter(layer, states[layer], layouts), expected, strict=True
            ):
                torch.testing.assert_close(each.features, other.features, atol=1e-5, rtol=1e-5)


def test_attention_is_what_the_layer_attends_with(family, pictures):
    tower = family.tower
    with torch.inference_mode():
        states = tower.hidden_states(pictures, [1])[1]
        weights = tower.attention(pictures, [1])[1]
        block = tower.module.transformer.resblocks[1]
        for state, attention in zip(states, weights, strict=True):
            assert attention.shape == (1, 2, 64, 64)
            given = block.ln_1(state)
            value = block.attn.query_key_value(given)[2]
            mixed = (attention @ value).transpose(1, 2).flatten(2)
            expected = block.attn(given)
            torch.testing.assert_close(block.attn.out_proj(mixed), expected, atol=1e-5, rtol=1e-4)


def test_a_condition_per_image_has_an_effect_and_a_gradient(family, pictures):
    tower = family.tower
    condition = torch.zeros(len(pictures), tower.width)
    condition[1] = torch.randn(tower.width, generator=torch.Generator().manual_seed(0))
    condition.requires_grad_()
    plain, moved = tower.encode(pictures), tower.encode(pictures, embedding=condition)
    for number in range(3):
        change = (plain[number].features - moved[number].features).abs().max()
        assert (change > 0.01) == (number == 1)
    moved[1].features.sum().backward()
    assert condition.grad is not None
    assert condition.grad[1].abs().sum() > 0
    assert condition.grad[0].abs().sum() == 0
    with pytest.raises(ConfigError, match="no rotary angles"):
        tower.encode(pictures, angles=condition)


def test_parameters_have_their_official_names(family, written):
    names = {name.removeprefix("transformer.visual.") for name in written[1] if "visual" in name}
    assert set(family.tower.parameters()) == names


def test_an_adaptor_takes_the_encoders_place(vlm, family, images):
    question = Question(QuestionKind.OPEN, "Is there a star?")
    items = [about(image, question) for image in images]
    plain = vlm.answer(items)

    def swapped(given, conditions):
        encoded = family.tower.encode(given)
        return [replace(each, features=-each.features) for each in encoded]

    assert vlm.with_encoder(lambda given, _: family.tower.encode(given)).answer(items) == plain
    assert vlm.with_encoder(swapped).answer(items) != plain


# Numbers of the full model


def test_half_precision_is_near(folder, images):
    exact = QwenVLChatVlm(QwenVLChatOptions(checkpoint=str(folder), device="cpu"))
    rough = QwenVLChatVlm(QwenVLChatOptions(checkpoint=str(folder), device="cpu", dtype="bfloat16"))
    assert {each.dtype for each in rough.family.decoder.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        one, other = (
            vlm.vision.encode(vlm.vision.prepare(images[:1]))[0].features.float().numpy().ravel()
            for vlm in (exact, rough)
        )
    assert np.corrcoef(one, other)[0, 1] > 0.999


def test_provenance_names_shards_and_dtype(vlm, folder):
    found = vlm.provenance()
    index = json.loads((folder / "pytorch_model.bin.index.json").read_text())
    for shard in set(index["weight_map"].values()):
        assert len(found[f"weights {shard}"]) == 64
    assert found["dtype"] == "float32"


def test_a_box_is_asked_for_with_the_models_marks_and_read_in_its_numbers(vlm, family, images):
    asked = Question(QuestionKind.BOX, "Where is <ref>the cup</ref>?", task="refcoco")
    content = [*family.content(asked, 1)]
    marks = [family.tokenizer.decode(list(part)) for part in content if isinstance(part, tuple)]
    assert marks == ["<ref>", "</ref>"]
    assert [part for part in content if isinstance(part, str)][1:] == [
        "\n",
        "Where is ",
        "the cup",
        "?",
    ]
    # In other questions they are text.
    other = Question(QuestionKind.OPEN, "Where is <ref>the cup</ref>?")
    assert not any(isinstance(part, tuple) for part in family.content(other, 1))
    written = "<ref>2 cups</ref><box>(0,250),(500,999)</box>"
    expected = pytest.approx((0, 250 / 999, 500 / 999, 1))
    assert family.box(written, (640, 480), None) == expected
    assert family.box("[0, 250, 500, 999]", (640, 480), None) == expected
    assert family.box("nowhere", (640, 480), None) is None
