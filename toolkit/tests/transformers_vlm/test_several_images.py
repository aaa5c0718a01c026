"""Questions about several images: the prompts of the authors, and generate's answers to them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lossylens.codec import CodecPoint
from lossylens.vlm import Condition, ImageQuestions, Question, QuestionKind, interleaved
from lossylens_toolkit.transformers_vlm.engine import Engine, Prompts, Shown, Suffix
from lossylens_toolkit.transformers_vlm.families import internvl
from lossylens_toolkit.transformers_vlm.memory import MemoryBudget
from lossylens_toolkit.transformers_vlm.preprocessing import Preprocessing
from lossylens_toolkit.transformers_vlm.tower import VisionTower
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout, VisualTokens
from lossylens_toolkit.transformers_vlm.vlm_testing import (
    about,
    blocks,
    generate_alone,
    llava_inputs,
)
from PIL.Image import Resampling

LIMIT = 6
IMAGES = [blocks(80, 60, 1), blocks(200, 150, 2), blocks(60, 190, 3)]

#: What is asked, in groups of questions about the same images; a number is a place among
#: IMAGES.  With each question what its user turn is for each architecture, {0} the first of
#: the images it is about.
ASKED = [
    (
        (0, 1),
        [
            (
                Question(QuestionKind.YES_NO, "Are they alike?", task="pope"),
                {
                    "qwen2_5_vl": "{0}{1}Are they alike?",
                    "internvl": "Image-1: {0}\nImage-2: {1}\nAre they alike?",
                    "janus": "{0}{1}\nAre they alike?\n"
                    "Answer the question using a single word or phrase.",
                    "llava": " {0}  {1} Are they alike?",
                    "llava_onevision": "{0}\n{1}\nAre they alike?",
                },
            ),
            (
                Question(QuestionKind.OPEN, "What else?"),
                {
                    "qwen2_5_vl": "{0}{1}What else?",
                    "internvl": "Image-1: {0}\nImage-2: {1}\nWhat else?",
                    "janus": "{0}{1}What else?",
                    "llava": " {0}  {1} What else?",
                    "llava_onevision": "{0}\n{1}\nWhat else?",
                },
            ),
            (
                Question(QuestionKind.OPEN, " <image 2> is, with <image 1> <image 2>, what? "),
                {
                    "qwen2_5_vl": " {1} is, with {0} {1}, what? ",
                    "internvl": "Image-1: {0}\nImage-2: {1}\n <image 2> is, with <image 1> "
                    "<image 2>, what? ",
                    "janus": "{1} is, with {0} {1}, what?",
                    "llava": "  {1}  is, with  {0}   {1} , what? ",
                    "llava_onevision": " {1}\n is, with {0}\n {1}\n, what? ",
                },
            ),
            (
                Question(QuestionKind.SHORT_ANSWER, "\nWhat is in <image 2>?"),
                {
                    "qwen2_5_vl": "\nWhat is in {1}?\n"
                    "Answer the question using a single word or phrase.",
                    "internvl": "Image-1: {0}\nImage-2: {1}\n\nWhat is in <image 2>?\n"
                    "Answer the question using a single word or phrase.",
                    "janus": "What is in {1}?\nAnswer the question using a single word or phrase.",
                    "llava": "\nWhat is in  {1} ?\n"
                    "Answer the question using a single word or phrase.",
                    "llava_onevision": "\nWhat is in {1}\n?\n"
                    "Answer the question using a single word or phrase.",
                },
            ),
        ],
    ),
    (
        (2, 0, 1),
        [
            (
                Question(
                    QuestionKind.MULTIPLE_CHOICE,
                    "Which is like <image 1>?",
                    options={"A": "<image 2>", "B": "<image 3>", "C": "none"},
                ),
                {
                    "qwen2_5_vl": "Question: Which is like {0}?\nOptions:\nA. {1}\nB. {2}\n"
                    "C. none\nPlease select the correct answer from the options above. \n",
                    "internvl": "Image-1: {0}\nImage-2: {1}\nImage-3: {2}\nWhich is like "
                    "<image 1>?\nA. <image 2>\nB. <image 3>\nC. none\n"
                    "Answer with the option's letter from the given choices directly.",
                    "janus": "{0}{1}{2}\nWhich is like <image 1>?\nA. <image 2>\nB. <image 3>\n"
                    "C. none\n\nAnswer with the option's letter from the given choices directly.",
                    "llava": " {0}  {1}  {2} Which is like <image 1>?\nA. <image 2>\n"
                    "B. <image 3>\nC. none\n"
                    "Answer with the option's letter from the given choices directly.",
                    "llava_onevision": "Question: Which is like {0}\n?\nOptions:\nA. {1}\n\n"
                    "B. {2}\n\nC. none\n"
                    "Please select the correct answer from the options above. \n",
                },
            ),
            (
                Question(QuestionKind.CAPTION, "Tell."),
                {
                    "qwen2_5_vl": "{0}{1}{2}Tell.",
                    "internvl": "Image-1: {0}\nImage-2: {1}\nImage-3: {2}\nTell.",
                    "janus": "{0}{1}{2}Tell.",
                    "llava": " {0}  {1}  {2} Tell.",
                    "llava_onevision": "{0}\n{1}\n{2}\nTell.",
                },
            ),
        ],
    ),
    (
        (1, 0, 1),
        [
            (
                Question(QuestionKind.OPEN, "Which is the other?"),
                {
                    "qwen2_5_vl": "{0}{1}{2}Which is the other?",
                    "internvl": "Image-1: {0}\nImage-2: {1}\nImage-3: {2}\nWhich is the other?",
                    "janus": "{0}{1}{2}Which is the other?",
                    "llava": " {0}  {1}  {2} Which is the other?",
                    "llava_onevision": "{0}\n{1}\n{2}\nWhich is the other?",
                },
            )
        ],
    ),
    (
        (0,),
        [
            (
                Question(QuestionKind.OPEN, "What does <image 1> show?"),
                {
                    "qwen2_5_vl": "What does {0} show?",
                    "internvl": "{0}\nWhat does <image 1> show?",
                    "janus": "What does {0} show?",
                    "llava": "What does  {0}  show?",
                    "llava_onevision": "What does {0}\n show?",
                },
            )
        ],
    ),
]
TURNS = {
    "qwen2_5_vl": "<|im_start|>system\nHelp.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    "<|im_start|>assistant\n",
    "internvl": "<|im_start|>system\n帮助。<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    "<|im_start|>assistant\n",
    "janus": "<｜begin▁of▁sentence｜>User: {}\n\nAssistant:",
    "llava": "<s>A chat between a curious human and an artificial intelligence assistant. The "
    "assistant gives helpful, detailed, and polite answers to the human's questions. "
    "USER: {} ASSISTANT: ",
    "llava_onevision": "<|im_start|>user \n{}<|im_end|><|im_start|>assistant\n",
}
IMAGE = {
    "qwen2_5_vl": ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>"),
    "internvl": ("<img>", "<IMG_CONTEXT>", "</img>"),
    "janus": ("<begin_of_image>", "<image_placeholder>", "<end_of_image>"),
    "llava": ("", "<image>", ""),
    "llava_onevision": ("", "<image>", ""),
}


def batch() -> list[ImageQuestions]:
    return [
        about(
            [IMAGES[place] for place in places],
            *(replace(question, max_new_tokens=LIMIT) for question, _ in questions),
        )
        for places, questions in ASKED
    ]


def seen(kind: str, model, processor, images, tiles: int):
    """What transformers' processor makes of images, and the visual tokens of each."""
    if kind == "qwen2_5_vl":
        inputs = processor(images=images, return_tensors="pt")
        return dict(inputs), (inputs["image_grid_thw"].prod(1) // 4).tolist()
    if kind == "janus":
        inputs = processor(images=images, return_tensors="pt")
        return dict(inputs), [16] * len(images)
    if kind.startswith("llava"):
        inputs = llava_inputs(model, processor, images)
        features = model.get_image_features(**inputs).pooler_output
        return inputs, [len(each) for each in features]
    cut = [
        processor(
            images=[image],
            return_tensors="pt",
            crop_to_patches=True,
            min_patches=1,
            max_patches=tiles,
        )["pixel_values"]
        for image in images
    ]
    return {"pixel_values": torch.cat(cut)}, [4 * len(each) for each in cut]


def alone(kind: str, folder, vlm, tiles: int = 3) -> list[list[tuple[str, int]]]:
    """Ask transformers, one question at a time: answers, and lengths of prompts."""
    model = vlm.model_class.from_pretrained(folder)
    tokenizer, processor = vlm.family.tokenizer, vlm.family.preprocess.processor
    start, pad, end = IMAGE[kind]
    found = []
    for places, questions in ASKED:
        answers = []
        for _, turns in questions:
            # A template names the images in the order in which they are shown.
            shown = [int(part[0]) for part in turns[kind].split("{")[1:]]
            images = [IMAGES[places[number]] for number in shown]
            inputs, visual = seen(
                kind, model, processor, images, max(1, min(3, tiles // len(places)))
            )
            spans = [f"{start}{pad * count}{end}" for count in visual]
            content = "".join(
                spans.pop(0) + part[2:] if number else part
                for number, part in enumerate(turns[kind].split("{"))
            )
            # The whole prompt at once, as the authors' code does.
            ids = tokenizer.encode(TURNS[kind].format(content), add_special_tokens=False)
            tokens = generate_alone(model, ids, LIMIT, **inputs)
            answers.append((tokenizer.decode(tokens, skip_special_tokens=True), len(ids)))
        found.append(answers)
    return found


def told(answers) -> list[list[tuple[str | None, float]]]:
    return [[(each.text, each.usage["input_tokens"]) for each in group] for group in answers]


def test_same_answers_as_generate(kind, vlm, folders) -> None:
    """Interleaved or first, repeated, of different sizes, in options; all in one batch."""
    expected = alone(kind, folders[kind], vlm, tiles=64)
    assert told(vlm.answer(batch())) == expected
    # Answers must differ, or equality would say little.
    assert len({text for group in expected for text, _ in group}) > 5


def test_batch_does_not_matter(vlm) -> None:
    together = vlm.answer(batch())
    assert together == [vlm.answer([item])[0] for item in batch()]
    single = [
        [vlm.answer([replace(item, questions=(question,))])[0][0] for question in item.questions]
        for item in batch()
    ]
    assert together == single
    vlm._model().budget = MemoryBudget(vlm.family, bytes_at_once=1)
    assert vlm.answer(batch()) == together


#: Prompts of the reference evaluator for made-up rows in the form of MMMU.
MMMU = json.loads((Path(__file__).parent / "mmmu_prompts.json").read_text(encoding="utf-8"))
EVALUATOR = {
    "qwen2_5_vl": "generic",
    "internvl": "internvl3",
    "janus": "janus_pro",
    "llava": "llava",
    "llava_onevision": "generic",
}
AROUND = {"llava": " <image> ", "llava_onevision": "<image>\n"}


@pytest.mark.parametrize("row", MMMU, ids=lambda row: row["question"][:20])
def test_contents_are_the_evaluators(kind, vlm, row) -> None:
    question = Question(
        QuestionKind.MULTIPLE_CHOICE, row["question"], task="mmmu", options=row["options"]
    )
    content = list(vlm.family.content(question, row["images"]))
    order = [part for part in content if isinstance(part, int)]
    found = "".join("<image>" if isinstance(part, int) else part for part in content)
    expected = row["prompts"][EVALUATOR[kind]]
    # What its code puts around each image, after these prompts were made.
    found = found.replace(AROUND.get(kind, "<image>"), "<image>")
    # That of Janus-Pro strips a turn later.
    assert found == (expected.rstrip() if kind == "janus" else expected)
    shown = row["order"] if EVALUATOR[kind] == "generic" else range(1, row["images"] + 1)
    assert order == [number - 1 for number in shown]


def test_order_matters(vlm) -> None:
    """Or equality would say little."""
    asked = Question(QuestionKind.OPEN, "Well?", max_new_tokens=LIMIT)
    orders = ([0, 1], [1, 0], [0, 0], [0])
    answers = vlm.answer([about([IMAGES[place] for place in order], asked) for order in orders])
    assert len({group[0].text for group in answers}) > 2


def test_tiles_are_shared_by_the_images(open_vlm, folders, monkeypatch) -> None:
    """As the reference evaluator does: 64 tiles for all images, one for each at least."""
    family = open_vlm("internvl", max_tiles=None).family
    question, chart = Question(QuestionKind.OPEN, "?"), Question(QuestionKind.OPEN, "?", "ocrbench")
    details = [family.detail(question, images) for images in (1, 2, 10, 11, 32, 33, 64, 65)]
    assert details == [6, 6, 6, 5, 2, 1, 1, 1]
    assert [family.detail(chart, images) for images in (1, 2, 3, 64)] == [24, 24, 21, 1]
    documents = Question(QuestionKind.SHORT_ANSWER, "?", "docvqa")
    assert [family.detail(documents, images) for images in (1, 4)] == [18, 16]
    vlm = open_vlm("internvl")
    many = told(vlm.answer(batch()))
    monkeypatch.setattr(internvl, "TILES_TOGETHER", 4)
    few = told(vlm.answer(batch()))
    assert few == alone("internvl", folders["internvl"], vlm, tiles=4)
    assert few[-1] == many[-1]
    assert all(one < other for (_, one), (_, other) in zip(few[1], many[1], strict=True))


def test_the_first_image_of_mmmu_is_enlarged(open_vlm) -> None:
    """As the reference evaluator does, two times; how many tiles it has may follow from that."""
    family = open_vlm("internvl", max_tiles=None).family
    question = Question(QuestionKind.MULTIPLE_CHOICE, "?", "mmmu")
    assert family.details(question, 1) == (internvl.Doubled(12),)
    first, *others = family.details(question, 7)
    assert [first, *others] == [internvl.Doubled(9), *[9] * 6]
    assert family.details(replace(question, task="mmbench"), 2) == (6, 6)
    image = IMAGES[0]
    large = image.resize((2 * image.width, 2 * image.height), Resampling.BILINEAR)
    found, expected = family.preprocess(image, first), family.preprocess(large, 9)
    assert torch.equal(found.pixels, expected.pixels)
    assert found.layout == family.preprocess.layout(image.size, first) == expected.layout
    assert not torch.equal(found.pixels, family.preprocess(image, 9).pixels)


def test_each_image_is_encoded_once(kind, vlm) -> None:
    """For all questions and all places, with its own condition."""
    encoded: list[tuple[int, ...]] = []
    sizes = [image.size for image in IMAGES]
    passes = []

    def encode(pictures, conditions):
        encoded.append(tuple(sizes.index(each.size) for each in conditions))
        layouts = [vlm.vision.preprocess(IMAGES[n], vlm.vision.detail).layout for n in encoded[-1]]
        assert [each.layout.rows for each in pictures] == [each.rows for each in layouts]
        return vlm.vision.encode(pictures)

    decoder = vlm.family.decoder
    hook = decoder.register_forward_pre_hook(
        lambda *given: passes.append(given[2]["inputs_embeds"].shape[0]), with_kwargs=True
    )
    try:
        plain = vlm.with_encoder(encode).answer(batch()[2:3])
        assert encoded == [(1, 0)], "an image that comes twice"
        assert plain == vlm.answer(batch()[2:3])
        encoded.clear()
        passes.clear()
        shared = replace(batch()[0], questions=batch()[0].questions[:2])
        vlm.with_encoder(encode).answer([shared])
        assert encoded == [(0, 1)]
        assert passes[0] == 1, "one prefill for questions about the same images"
        encoded.clear()
        vlm.with_encoder(encode).answer(batch())
        # Alone in tiles, and among others whole.
        assert [*encoded[0]].count(0) == (2 if kind == "llava_onevision" else 1)
        assert sorted({place for each in encoded for place in each}) == [0, 1, 2]
    finally:
        hook.remove()


def test_conditions_belong_to_their_images(vlm) -> None:
    """Two images behind different codecs: what was done to one is not done to the other."""
    asked = (Question(QuestionKind.OPEN, "Well?", max_new_tokens=LIMIT),)
    image = IMAGES[0]
    clean, spoiled = (Condition(CodecPoint(name, "q1"), image.size) for name in ("png", "jpeg"))

    def encode(pictures, conditions):
        return [
            replace(each, features=each.features * (-1 if condition is spoiled else 1))
            for each, condition in zip(vlm.vision.encode(pictures), conditions, strict=True)
        ]

    adapted = vlm.with_encoder(encode)
    pairs = [(clean, clean), (spoiled, clean), (clean, spoiled), (spoiled, spoiled)]
    items = [ImageQuestions((image, image), asked, pair) for pair in pairs]
    answers = adapted.answer(items)
    assert answers == [adapted.answer([item])[0] for item in items]
    assert answers[0] == vlm.answer(items[:1])[0]
    assert len({group[0].text for group in answers}) > 2


def test_images_that_were_not_decoded(vlm) -> None:
    """An encoder that takes no pixels: nothing is preprocessed, and its layout is what counts."""
    layout = Layout(1, 4, 4, vlm.vision.extra)
    width = vlm.family.embedding.weight.shape[1]
    visual = vlm.family.visual_tokens(layout)
    table = torch.randn(2, visual, width, generator=torch.Generator().manual_seed(1))
    seen = []

    def encode(pictures, conditions):
        seen.append(pictures)
        numbers = [each.bitstream[0] for each in conditions]
        return [VisualTokens(table[number], layout) for number in numbers]

    point = CodecPoint("elic", "q1")
    first, second = (Condition(point, (300, 200), bytes([number])) for number in range(2))
    asked = (Question(QuestionKind.OPEN, "Well?", max_new_tokens=LIMIT),)
    orders = [(first,), (first, second), (second, first), (first, first)]
    items = [ImageQuestions((None,) * len(each), asked, each) for each in orders]
    adapted = vlm.with_encoder(encode)
    for item in items:
        adapted.expect(item)
    answers = adapted.answer(items)
    assert {picture for pictures in seen for picture in pictures} == {None}
    assert sum(map(len, seen)) == 2, "each is encoded once"
    assert answers == [adapted.answer([item])[0] for item in items]
    assert len({group[0].text for group in answers}) > 2
    tokens = [group[0].usage["input_tokens"] for group in answers]
    assert tokens[1] == tokens[2] == tokens[3] >= tokens[0] + visual
    with pytest.raises(ValueError, match="not decoded, and no adaptor does without"):
        vlm.answer(items)


def test_what_cannot_be_asked_fails_alone(open_vlm) -> None:
    vlm = open_vlm("qwen2_5_vl", preprocess_workers=0)
    thin = blocks(2000, 2, 1)
    words = ("<image 1>?", "<image 2>?", "<image 3>?", "Both?")
    asked = [Question(QuestionKind.OPEN, text, max_new_tokens=3) for text in words]
    [[first, second, third, fourth], [fine]] = vlm.answer(
        [about([IMAGES[0], thin], *asked), about(IMAGES[:2], asked[1])]
    )
    assert first.text is not None
    assert "an image cannot be preprocessed: absolute aspect ratio" in second.failure
    assert third.failure == "the question speaks of <image 3>, but there are 2 images"
    assert fourth.failure == second.failure
    assert fine.text is not None


def test_more_images_than_the_context_holds(open_vlm) -> None:
    vlm = open_vlm("qwen2_5_vl")
    asked = Question(QuestionKind.OPEN, "Well?", max_new_tokens=3)
    [[failed], [answered]] = vlm.answer([about([IMAGES[1]] * 14, asked), about(IMAGES[:2], asked)])
    assert "up to the last image; the model's context is 512" in failed.failure
    assert answered.text is not None


def test_announced_images_are_preprocessed_once(vlm) -> None:
    submitted = []

    class Recording(Preprocessing):
        works_ahead = True

        def submit(self, image, detail):
            submitted.append(IMAGES.index(image))
            return super().submit(image, detail)

    expected = vlm.answer(batch())
    vlm._model().preprocessing = Recording(vlm.family.preprocess, 0)
    items = batch()
    for item in items:
        vlm.expect(item)
    announced = list(submitted)
    assert set(announced) == {0, 1, 2}
    assert vlm.answer(items) == expected
    assert submitted == announced


@pytest.fixture
def one_question(open_vlm):
    """A family, and one question about four images."""
    family = open_vlm("janus").family
    before, after = family.prompt(Question(QuestionKind.OPEN, "Is it?"), 4)
    pictures = [family.preprocess(blocks(64, 64, seed), None) for seed in range(4)]
    shown = tuple(Shown(each, about(blocks(64, 64, 0)).conditions[0]) for each in pictures)
    row = Suffix(list(*family.texts(after)), 5)
    return family, Prompts(shown, tuple(family.texts(before)[:-1]), (row,))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_images_of_one_question_are_encoded_in_portions(one_question, device, monkeypatch) -> None:
    """Also where the memory does not suffice for those of a single question together."""
    family, asked = one_question
    monkeypatch.setattr(VisionTower, "device", torch.device(device))
    expected = list(Engine(family).answer([asked]))
    sizes = []

    def limited(pictures, conditions):
        sizes.append(len(pictures))
        if len(pictures) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return family.tower.encode(pictures)

    assert list(Engine(family, limited).answer([asked])) == expected
    assert sizes == [4, 2, 1, 1, 1, 1]

    def broken(pictures, conditions):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    [[failed]] = Engine(family, broken).answer([asked])
    assert failed.failure == "the memory does not suffice for this question alone"


def test_the_budget_counts_every_image(one_question) -> None:
    family, asked = one_question
    fewer = replace(asked, shown=asked.shown[:2], texts=asked.texts[:2])
    budget = MemoryBudget(family)
    assert budget.need([fewer]) < budget.need([asked])
    # The same image twice is encoded once, but stands in the prefix twice.
    twice = replace(fewer, shown=asked.shown[:1] * 2)
    assert budget.need([twice]) < budget.need([fewer])
    assert budget.need([replace(twice, shown=twice.shown[:1])]) < budget.need([twice])


def test_an_encoder_that_returns_another_number_of_tokens_is_noticed(vlm) -> None:
    def encode(pictures, conditions):
        return [replace(each, features=each.features[1:]) for each in vlm.vision.encode(pictures)]

    with pytest.raises(ValueError, match="visual tokens for an image whose layout makes"):
        vlm.with_encoder(encode).answer(batch()[:1])


@settings(max_examples=50, deadline=None)
@given(
    parts=st.lists(st.sampled_from(["a", " ", "\n", "<image>", "<image x>", 0, 1, 2]), max_size=8)
)
def test_markers_are_places(parts) -> None:
    text = "".join(f"<image {each + 1}>" if isinstance(each, int) else each for each in parts)
    found = interleaved(text, 3)
    places = [each for each in parts if isinstance(each, int)]
    assert [each for each in found if isinstance(each, int)] == (places or [0, 1, 2])
    joined = "".join(f"<image {e + 1}>" if isinstance(e, int) else e for e in found)
    assert joined.removeprefix("" if places else "<image 1><image 2><image 3>") == text
    assert all(found) or 0 in found or found == [0, 1, 2, ""]


@pytest.mark.parametrize("marker", ["<image 0>", "<image 4>", "<image 9999>"])
def test_a_marker_without_an_image_is_an_error(marker) -> None:
    with pytest.raises(ValueError, match=f"speaks of {marker}, but there are 3 images"):
        interleaved(f"{marker} <image 1>", 3)


def test_texts_between_images_are_tokenised_as_one(vlm) -> None:
    """No token of the whole prompt is lost where its parts meet."""
    family = vlm.family
    parts = ((5, 6), "a", "b", 0, "", 1, 1, "c", (7,), "d", "e", (8,))
    given = [family.texts(("".join(each),))[0] for each in ("ab", "c", "de")]
    assert family.texts(parts) == [(5, 6, *given[0]), (), (), (*given[1], 7, *given[2], 8)]
