"""The bundled checkpoint: small, safe, and it sees."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct

import pytest
from lossylens.errors import RequirementError
from lossylens.registry.plugins import load_registry
from lossylens.vlm import Question, QuestionKind
from lossylens_task_scenes.questions.full_set import ask
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import make_scene
from lossylens_toolkit.transformers_vlm.vlm_testing import about
from lossylens_vlm_nano.plugin import NanoOptions
from lossylens_vlm_nano.training.data import CROWD_SEED, HELD_OUT_SEED, TRAIN_SEED
from lossylens_vlm_nano.training.evaluate import evaluate
from lossylens_vlm_nano.vlm import BUNDLED, Nano


@pytest.fixture(scope="module")
def nano() -> Nano:
    return load_registry().build_vlm("nano")


def test_weights_are_half_precision_and_fit_the_wheel() -> None:
    data = (BUNDLED / "model.safetensors").read_bytes()
    assert len(data) <= 12_000_000
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F16"}


def test_held_out_scenes_are_not_training_scenes() -> None:
    assert len({HELD_OUT_SEED, TRAIN_SEED, CROWD_SEED}) == 3


def test_too_long_a_question_fails_alone(nano: Nano) -> None:
    long = Question(kind=QuestionKind.OPEN, text="star " * 5000)
    short = Question(kind=QuestionKind.YES_NO, text="Is there a star in the image?")
    item = about(render(make_scene(HELD_OUT_SEED, 0)), long, short)
    [[failed, answered]] = nano.answer([item])
    assert failed.text is None
    assert "context" in failed.failure
    assert answered.text is not None


def test_incomplete_checkpoint_is_named(tmp_path) -> None:
    shutil.copytree(BUNDLED, tmp_path / "nano")
    (tmp_path / "nano" / "model.safetensors").unlink()
    with pytest.raises(RequirementError, match=r"nano holds no model\.safetensors"):
        Nano(NanoOptions(checkpoint=str(tmp_path / "nano")))


def test_provenance_names_the_weights_and_how_they_are_computed_with(
    nano: Nano, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path))
    provenance = nano.provenance()
    weights = (BUNDLED / "model.safetensors").read_bytes()
    assert provenance["weights model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert provenance["dtype"] == "float32"
    assert {"torch", "transformers", "image processor", "device"} <= provenance.keys()


def test_an_encoder_of_ones_own_decides_what_is_seen(nano: Nano) -> None:
    """Pictures exchanged behind the preprocessing exchange the answers."""
    scenes = [make_scene(HELD_OUT_SEED, index) for index in range(2)]
    questions = tuple(each.structured() for each in ask(scenes[0]))
    items = [about(render(scene), *questions) for scene in scenes]
    vision = nano.vision
    exchanged = nano.with_encoder(lambda pictures, _: vision.encode(pictures[::-1]))
    plain = nano.answer(items)
    assert plain[0] != plain[1]
    assert exchanged.answer(items) == plain[::-1]


def test_answers_do_not_depend_on_the_batch(nano: Nano) -> None:
    questions = (
        Question(kind=QuestionKind.YES_NO, text="Is there a star in the image?"),
        Question(kind=QuestionKind.SHORT_ANSWER, text="How many stars are in the image?"),
    )
    items = [about(render(make_scene(HELD_OUT_SEED, index)), *questions) for index in range(4)]
    together = nano.answer(items)
    assert together == [nano.answer([item])[0] for item in items]


@pytest.fixture(scope="module")
def clean(nano: Nano) -> dict[str, float]:
    """Share of exact answers per topic on held-out scenes as they are."""
    return evaluate(nano, None, 60, HELD_OUT_SEED)


@pytest.mark.parametrize(
    ("topic", "least"),
    [
        ("existence", 0.88),
        ("color", 0.8),
        ("shape", 0.75),
        ("texture", 0.75),
        ("size", 0.8),
        ("count", 0.5),
        ("word", 0.45),
        ("multiple choice", 0.5),
        # Half of them are for halves, half for one of nine places: a third is guessed.
        ("position", 0.5),
    ],
)
def test_it_sees(clean: dict[str, float], topic: str, least: float) -> None:
    assert clean[topic] >= least


def test_strong_compression_hurts(nano: Nano, clean: dict[str, float]) -> None:
    codec = load_registry().build_codec("jpeg", "q1")
    assert evaluate(nano, codec, 60, HELD_OUT_SEED)["all"] < clean["all"] - 0.05
