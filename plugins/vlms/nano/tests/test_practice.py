"""Part four of the training: the language model alone, from weights that are there."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from lossylens_task_scenes.questions.placing import cell_of
from lossylens_task_scenes.scene import make_scene
from lossylens_vlm_nano.architecture import ROTARY_SECTIONS
from lossylens_vlm_nano.training.loop import Settings
from lossylens_vlm_nano.training.practice import (
    PLACE_WORDS,
    PracticeTraining,
    named_places,
)
from lossylens_vlm_nano.training.train import write_weights
from lossylens_vlm_nano.vlm import BUNDLED
from safetensors.torch import load_file
from torch import Tensor


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, steps=2, batch=2, warmup=1, threads=1, compile=False)


def practice(settings: Settings) -> PracticeTraining:
    training = PracticeTraining(settings, BUNDLED)
    training.held_out = training.held_out[:1]
    return training


def test_the_encoder_stays_the_same_to_the_bit(settings: Settings) -> None:
    training = practice(settings)
    assert training.run()
    write_weights(training, settings.out / "weights")
    before = load_file(BUNDLED / "model.safetensors")
    after = load_file(settings.out / "weights" / "model.safetensors")
    assert before.keys() == after.keys()
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert {name for name in before if "visual." in name} <= same
    assert not any(name.endswith("q_proj.weight") for name in same)


def test_a_training_that_is_stopped_goes_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = practice(settings)
    losses = training.losses

    def stopped(batch):
        # As one who stops a group of processes does.
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        return losses(batch)

    monkeypatch.setattr(training, "losses", stopped)
    assert not training.run()
    again = practice(settings)
    assert again.steps == 1
    assert again.run()
    assert again.steps == 2


def test_places_are_named_as_questions_name_them() -> None:
    """A thing in the middle of a cell is answered with the cell's words."""
    scene = make_scene(1, 0)
    side = scene.width / 8
    for cell, told in enumerate(named_places().bool().tolist()):
        row, column = divmod(cell, 8)
        answer = cell_of(scene, (column + 0.5) * side, (row + 0.5) * side, margin=0)
        assert answer is not None
        words = [word for word, said in zip(PLACE_WORDS, told, strict=True) if said]
        assert " ".join(words) == answer


def test_the_place_loss_asks_for_rows_and_columns(settings: Settings) -> None:
    """Tokens that say their places have little loss, and what they say of others much."""
    training = practice(settings)
    nano, batch = training.nano, training.held_out[0]
    cell = torch.arange(64)
    told = torch.zeros(64, nano.places[0].in_features)
    told[cell, cell // 8] = 100
    told[cell, 8 + cell % 8] = 100
    said = told

    class Layers:
        def layers(
            self, embeddings: Tensor, positions: Tensor, mask: Tensor
        ) -> tuple[Tensor, list[Tensor]]:
            states = embeddings.clone()
            pictured = batch.tokens == nano.model.config.image_token_id
            states[pictured] = said.repeat(len(states), 1)
            return embeddings, [states] * len(nano.places)

    nano._layers = (Layers(),)
    with torch.no_grad():
        for head in nano.places:
            head.bias.zero_()
            head.weight.zero_()
            head.weight[:, :16] = torch.eye(16)
        directions = nano._directions()
        # What names places is laid into dimensions that the heads of numbers do not read.
        directions[:, :16] = 0
        nano._directions = lambda: directions
        told += 300 * (2 * named_places() - 1) @ torch.linalg.pinv(directions).T
        nano.sharpness.fill_(10)
        nano.rarity.zero_()
        features = nano.features(batch.images)
        assert nano.losses(batch, features)[1] < 0.1
        said = told.roll(9, 0)
        assert nano.losses(batch, features)[1] > 10


def test_rotary_sections_are_all_frequencies(random_model) -> None:
    rope = random_model.config.text_config.rope_parameters
    frequencies = random_model.model.language_model.rotary_emb.inv_freq
    assert sum(ROTARY_SECTIONS) == len(frequencies)
    assert len(ROTARY_SECTIONS) % 3 == 0
    assert list(rope["mrope_section"]) == list(ROTARY_SECTIONS)
    # Over the eight cells of a row and of a column some frequency turns by half a radian.
    turned = [axis % 3 for axis, count in enumerate(ROTARY_SECTIONS) for _ in range(count)]
    for axis in (1, 2):
        assert frequencies[turned.index(axis)] * 7 > 0.5
