"""The bundled checkpoint: it sees through nano-clip, and answers as transformers' generate."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from lossylens.registry.plugins import load_registry
from lossylens.vlm import Question, QuestionKind, default_prompt
from lossylens_nano_clip import WEIGHTS as CLIP_WEIGHTS
from lossylens_task_scenes.questions.full_set import ask
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import make_scene
from lossylens_toolkit.transformers_vlm.tower_tests import TowerTests
from lossylens_toolkit.transformers_vlm.vlm_testing import about
from lossylens_vlm_nano.prompt import prompt_prefix, prompt_suffix
from lossylens_vlm_nano.training.data import HELD_OUT_SEED
from lossylens_vlm_nano.training.evaluate import evaluate
from lossylens_vlm_nano_llava.plugin import NanoLlavaOptions
from lossylens_vlm_nano_llava.vlm import ANSWER_LIMIT, BUNDLED, NanoLlavaVlm
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlavaForConditionalGeneration
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil


@pytest.fixture(scope="module")
def nano_llava() -> NanoLlavaVlm:
    return NanoLlavaVlm(NanoLlavaOptions(device="cpu"))


def test_weights_are_half_precision_and_fit_the_wheel() -> None:
    data = (BUNDLED / "model.safetensors").read_bytes()
    assert len(data) <= 10_000_000
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F16"}


def test_vision_encoder_is_that_of_nano_clip() -> None:
    """So an adaptor that was trained against nano-clip meets the same hidden states."""
    own = load_file(BUNDLED / "model.safetensors")
    clip = load_file(CLIP_WEIGHTS / "model.safetensors")
    marker = "encoder.layers.0.self_attn.q_proj.weight"
    [name] = [each for each in own if each.endswith(marker) and "vision_tower" in each]
    prefix = name.removesuffix(marker)
    seen = {each: value for each, value in clip.items() if each.startswith("vision_model.")}
    assert len(seen) > 90
    for each, value in seen.items():
        assert torch.equal(own[prefix + each.removeprefix("vision_model.")], value)


def test_vision_access(nano_llava: NanoLlavaVlm) -> None:
    tests = TowerTests()
    tests.test_conditions_of_zeros_change_no_bit(nano_llava.vision)
    tests.test_conditions_keep_to_their_images(nano_llava.vision)
    tests.test_a_clone_is_ones_own(nano_llava.vision)


def test_answers_equal_those_of_generate(nano_llava: NanoLlavaVlm) -> None:
    model = LlavaForConditionalGeneration.from_pretrained(BUNDLED, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED)
    processor = CLIPImageProcessorPil.from_pretrained(BUNDLED)
    scenes = [make_scene(HELD_OUT_SEED, number) for number in range(2)]
    items = [
        about(render(scene), *(each.structured() for each in ask(scene)[::4])) for scene in scenes
    ]
    given = nano_llava.answer(items)
    texts = set()
    for item, answers in zip(items, given, strict=True):
        pixels = processor(images=[item.images[0]], return_tensors="pt")["pixel_values"]
        for question, answer in zip(item.questions, answers, strict=True):
            ids = tokenizer.encode(
                prompt_prefix(144) + prompt_suffix(default_prompt(question)),
                add_special_tokens=False,
                return_tensors="pt",
            )
            limit = question.max_new_tokens or ANSWER_LIMIT
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=pixels,
                max_new_tokens=limit,
                do_sample=False,
            )
            assert answer.text == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
            texts.add(answer.text)
    assert len(texts) > 3


def test_several_pictures_are_seen_in_their_order(nano_llava: NanoLlavaVlm) -> None:
    scenes = [render(make_scene(HELD_OUT_SEED, number)) for number in range(2)]
    question = Question(QuestionKind.OPEN, "<image 1><image 2>What do you see?", max_new_tokens=30)
    [[one]] = nano_llava.answer([about(scenes, question)])
    [[other]] = nano_llava.answer([about(scenes[::-1], question)])
    assert one.text
    assert other.text
    assert one.text != other.text


@pytest.fixture(scope="module")
def clean(nano_llava: NanoLlavaVlm) -> dict[str, float]:
    """Share of exact answers per topic on held-out scenes as they are."""
    return evaluate(nano_llava, None, 60, HELD_OUT_SEED)


@pytest.mark.parametrize(("topic", "least"), [("all", 0.62), ("existence", 0.81), ("color", 0.72)])
def test_it_sees(clean: dict[str, float], topic: str, least: float) -> None:
    """Bounds leave three standard errors to what 250 scenes gave."""
    assert clean[topic] >= least


def test_strong_compression_hurts(nano_llava: NanoLlavaVlm, clean: dict[str, float]) -> None:
    codec = load_registry().build_codec("jpeg", "q1")
    assert evaluate(nano_llava, codec, 60, HELD_OUT_SEED)["all"] < clean["all"] - 0.05
