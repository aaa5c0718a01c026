"""The bundled checkpoint: small, found by its short name, and it sees."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from lossylens_nano_clip import WEIGHTS
from lossylens_nano_clip.architecture import PATCH, POSITIONS, SIDE
from lossylens_nano_clip.training.data import (
    CLASSES,
    CaptionedScenes,
    clip_picture,
    largest_class,
    patch_targets,
    training_texts,
)
from lossylens_nano_clip.training.evaluate import ClipAccuracy, measure
from lossylens_nano_clip.training.tokenizer import train_text_tokenizer
from lossylens_nano_clip.training.train import ClipSettings, ClipTraining
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import make_scene
from lossylens_toolkit.clip.clip_checkpoint import missing
from lossylens_toolkit.clip.model import Clip, load_clip
from lossylens_toolkit.transformers_vlm.tower_tests import TowerTests


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip("nano-clip")


def test_weights_are_half_precision_and_fit_the_wheel():
    data = (WEIGHTS / "model.safetensors").read_bytes()
    assert len(data) <= 9_000_000
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F16"}


def test_short_name_is_no_download():
    assert missing("nano-clip") == ()
    assert missing("nano-clop") != ()


@pytest.fixture(scope="module")
def accuracy(clip: Clip) -> ClipAccuracy:
    """Of 150 scenes that were not trained on."""
    return measure(clip, 150)


def test_it_finds_the_largest_object(accuracy: ClipAccuracy):
    """Among 64 classes; the bound leaves three standard errors to what 500 scenes gave."""
    assert accuracy.zero_shot >= 0.58


def test_class_attention_is_not_flat(accuracy: ClipAccuracy):
    assert min(accuracy.entropy) < 0.9


def test_vision_access_with_trained_weights(clip: Clip):
    tests = TowerTests()
    tests.test_conditions_of_zeros_change_no_bit(clip.tower)
    tests.test_conditions_keep_to_their_images(clip.tower)
    tests.test_a_clone_is_ones_own(clip.tower)


def test_training_pictures_are_what_the_processor_makes(clip: Clip):
    scene = make_scene(1, 0)
    [prepared] = clip.prepare([render(scene)])
    processor = clip.tower.preprocess.processor
    mean, std = (
        torch.tensor(each).view(3, 1, 1) for each in (processor.image_mean, processor.image_std)
    )
    expected = (clip_picture(scene).float() / 255 - mean) / std
    torch.testing.assert_close(prepared.pixels[0], expected, atol=1e-5, rtol=0)


def test_targets_are_where_the_objects_are():
    scene = make_scene(1, 4)
    across = SIDE // PATCH
    target = patch_targets(scene).view(across, across, -1)
    thing = max(scene.objects, key=lambda each: each.diameter)
    cell = scene.width / across
    place = target[int(thing.y // cell), int(thing.x // cell)]
    assert place[largest_class(scene)] == 1
    assert CLASSES[largest_class(scene)] == f"{thing.color} {thing.shape}"


def test_every_other_picture_has_a_caption():
    batch = next(iter(CaptionedScenes(4, 0)))
    assert [bool(text) for text in batch.captions] == [True, False, True, False]
    assert batch.images.shape == (4, 3, SIDE, SIDE)


def test_tokenizer_frames_texts_and_keeps_to_the_positions():
    tokenizer = train_text_tokenizer(training_texts(5), POSITIONS, 400)
    ids = tokenizer("A Red Star").input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert ids == tokenizer("a red star").input_ids


def test_training_goes_on_where_it_stopped(tmp_path, capsys):
    """Two steps, then two more from the state on disk; what it writes is a CLIP."""
    settings = {"out": tmp_path, "batch": 4, "state_every": 2, "autocast": False}
    first = ClipTraining(ClipSettings(steps=2, **settings))
    first.run()
    second = ClipTraining(ClipSettings(steps=4, **settings))
    assert second.steps == 2
    second.run()
    second.write_weights(tmp_path / "weights")
    assert load_clip(str(tmp_path / "weights")).width == 128
