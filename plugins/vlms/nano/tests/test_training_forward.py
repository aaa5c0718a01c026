"""The batched training forward equals transformers' own."""

from __future__ import annotations

import numpy as np
import torch
from lossylens_task_scenes.scene import make_scene
from lossylens_vlm_nano.architecture import SIDE
from lossylens_vlm_nano.prompt import prompt_prefix
from lossylens_vlm_nano.training.data import RowBuilder, collate, questions_of
from lossylens_vlm_nano.training.forward import TextForward, VisionForward, patchify
from lossylens_vlm_nano.training.model import attention_mask
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

GRID = SIDE // 14


def random_images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)


def test_patches_equal_the_image_processor() -> None:
    image = random_images(1)
    processor = Qwen2VLImageProcessorPil(min_pixels=SIDE**2, max_pixels=SIDE**2)
    picture = Image.fromarray(image[0].permute(1, 2, 0).numpy())
    expected = processor(images=[picture], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(patchify(image)[0], expected, atol=1e-6, rtol=0)


def test_vision_forward_equals_transformers(random_model) -> None:
    patches = patchify(random_images(2))
    grid = torch.tensor([[1, GRID, GRID]] * 2)
    with torch.no_grad():
        expected = random_model.model.visual(patches.flatten(0, 1), grid_thw=grid).pooler_output
        actual = VisionForward(random_model, SIDE)(patches).flatten(0, 1)
    # Large random weights amplify rounding; the scale of the outputs sets the tolerance.
    assert (actual - expected).abs().max() < 1e-4 * expected.abs().max()


def test_row_gives_each_question_the_logits_it_has_alone(random_model, tokenizer) -> None:
    """Packed questions see the picture and themselves, at the positions of a single prompt."""
    scene = make_scene(1, 2)
    builder = RowBuilder(tokenizer, 600)
    questions = questions_of(scene, np.random.default_rng(0))[:4]
    batch = collate([builder.row(scene, questions)])
    model = random_model.model
    with torch.no_grad():
        features = VisionForward(random_model, SIDE)(patchify(batch.images))[0]
        embeddings = random_model.get_input_embeddings()(batch.tokens)
        pictured = batch.tokens == random_model.config.image_token_id
        embeddings = embeddings.masked_scatter(pictured[..., None], features)
        packed = TextForward(random_model)(
            embeddings, batch.positions, attention_mask(batch.segments)
        )[0]
        for number in range(1, len(questions) + 1):
            chosen = ((batch.segments[0] == 0) | (batch.segments[0] == number)).nonzero()[:, 0]
            tokens = batch.tokens[:, chosen]
            alone = random_model.model(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                mm_token_type_ids=(tokens == random_model.config.image_token_id).int(),
                pixel_values=patchify(batch.images)[0],
                image_grid_thw=torch.tensor([[1, GRID, GRID]]),
            ).last_hidden_state[0]
            model.rope_deltas = None
            assert (packed[chosen] - alone).abs().max() < 1e-3 * alone.abs().max()


def test_labels_are_the_answers(tokenizer) -> None:
    scene = make_scene(1, 3)
    builder = RowBuilder(tokenizer, 900)
    questions = questions_of(scene, np.random.default_rng(0))[:5]
    batch = collate([builder.row(scene, questions)])
    for number, question in enumerate(questions, start=1):
        labels = batch.labels[0][(batch.segments[0] == number) & (batch.labels[0] != -100)]
        assert tokenizer.decode(labels) == question.answer + "<|im_end|>"


def test_prefix_is_one_turn_with_the_picture(tokenizer) -> None:
    ids = tokenizer.encode(prompt_prefix(64), add_special_tokens=False)
    assert ids.count(tokenizer.convert_tokens_to_ids("<|image_pad|>")) == 64
