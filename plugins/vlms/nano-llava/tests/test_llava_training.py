"""Training of nano-llava: rows are what is asked later, and it goes on where it stopped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lossylens_nano_clip.training.data import clip_picture
from lossylens_task_scenes.scene import make_scene
from lossylens_vlm_nano.training.data import RowBuilder, collate, questions_of
from lossylens_vlm_nano.training.loop import Settings
from lossylens_vlm_nano.training.model import attention_mask
from lossylens_vlm_nano_llava.training import initial
from lossylens_vlm_nano_llava.training.model import TOKENS, TrainedLlava
from lossylens_vlm_nano_llava.training.train import LlavaTraining, llava_prefix
from lossylens_vlm_nano_llava.vlm import BUNDLED, NanoLlavaOptions, NanoLlavaVlm
from transformers import AutoTokenizer, LlavaForConditionalGeneration


def test_a_packed_question_has_the_logits_that_it_has_alone() -> None:
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED)
    model = LlavaForConditionalGeneration.from_pretrained(BUNDLED, dtype=torch.float32).eval()
    trained = TrainedLlava(model, compiled=False)
    scene = make_scene(1, 2)
    questions = questions_of(scene, np.random.default_rng(0))[:3]
    builder = RowBuilder(tokenizer, 600, llava_prefix(tokenizer), clip_picture)
    batch = collate([builder.row(scene, questions)])
    with torch.no_grad():
        features = trained.features(batch.images)
        embeddings = model.get_input_embeddings()(batch.tokens)
        pictured = batch.tokens == model.config.image_token_id
        shown = trained.visual_tokens(features)
        assert shown.shape[1] == TOKENS == int(pictured.sum())
        embeddings = embeddings.masked_scatter(pictured[..., None], shown)
        packed = trained._text[0](embeddings, batch.positions, attention_mask(batch.segments))[0]
        pixels = (batch.images.float() / 255 - trained.mean) / trained.std
        for number in range(1, len(questions) + 1):
            chosen = ((batch.segments[0] == 0) | (batch.segments[0] == number)).nonzero()[:, 0]
            tokens = batch.tokens[:, chosen]
            alone = model.model(input_ids=tokens, pixel_values=pixels).last_hidden_state[0]
            assert (packed[chosen] - alone).abs().max() < 1e-3 * alone.abs().max()


@pytest.fixture
def short_start(monkeypatch) -> None:
    """Fit the projector on a few scenes."""
    monkeypatch.setattr(initial, "_SCENES", 16)
    monkeypatch.setattr(initial, "_PASSES", 2)


def test_training_goes_on_where_it_stopped(tmp_path, short_start) -> None:
    settings = {"out": tmp_path, "batch": 8, "length": 300, "threads": 1, "compile": False}
    first = LlavaTraining(Settings(minutes=0.005, **settings))
    before = {name: value.clone() for name, value in first.nano.state_dict().items()}
    first.run()
    after = first.nano.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed
    assert not any("vision_tower" in name for name in changed)
    second = LlavaTraining(Settings(minutes=0.01, **settings))
    assert second.steps == first.steps > 0
    second.write_weights(tmp_path / "weights")
    options = NanoLlavaOptions(checkpoint=str(tmp_path / "weights"), device="cpu")
    assert NanoLlavaVlm(options).vision.layout((100, 50)).tokens == TOKENS + 1
