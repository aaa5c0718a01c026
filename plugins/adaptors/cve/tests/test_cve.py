"""The conditional vision encoder on a trained VLM of few parameters."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lossylens.adaptor import Training, TrainingPicture, TrainingPoint
from lossylens.codec import SOURCE, CodecPoint
from lossylens.errors import ConfigError, RequirementError
from lossylens.grid.config import read_yaml
from lossylens.options.resolving import resolve_options
from lossylens.registry.plugins import load_registry
from lossylens.spec import PluginSpec
from lossylens.vlm import Condition, VlmIdentity
from lossylens_adaptor_cve.adaptor import ConditionalVisionEncoder, Student
from lossylens_adaptor_cve.conditions import CLEAN, UNKNOWN, Conditioner, Labels, Vocabulary
from lossylens_adaptor_cve.lora import merge_lora
from lossylens_adaptor_cve.options import (
    BUNDLED,
    CONDITIONS,
    CveOptions,
    CveTrainingOptions,
    LossOptions,
)
from lossylens_adaptor_cve.training import CveTrainer, CveTraining
from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint
from lossylens_toolkit.training.adaptor_options import AdaptorTrainingSections
from lossylens_vlm_nano.plugin import NanoOptions
from lossylens_vlm_nano.vlm import Nano
from PIL import Image

SIZES = ((112, 112), (84, 140), (112, 112))


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (*SIZES[seed % 3], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(SIZES[seed % 3]).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def vlm() -> Nano:
    return Nano(NanoOptions())


@pytest.fixture(scope="module")
def identity(vlm: Nano) -> VlmIdentity:
    return VlmIdentity("nano", "nano", dict(vlm.provenance()))


@pytest.fixture(scope="module")
def points() -> list[TrainingPoint]:
    registry = load_registry()
    return [
        TrainingPoint(
            CodecPoint("jpeg", level, "jpeg", f"key of {level}"),
            partial(registry.build_codec, "jpeg", level),
        )
        for level in ("q1", "q10")
    ]


def training(vlm: Nano, identity: VlmIdentity, points, folder: Path) -> Training:
    pictures = [TrainingPicture(f"noise {n}", partial(png, n)) for n in range(6)]
    return Training(vlm, identity, points, pictures[:4], pictures[4:], 3, folder)


def options(**given: object) -> CveTrainingOptions:
    chosen = {"steps": 2, "batch": 2, "variants": 2, "warmup": 0, "validate_every": 2, **given}
    return CveTrainingOptions(**chosen)


@pytest.fixture(scope="module")
def checkpoint(vlm, identity, points, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    return CveTrainer(options()).train(training(vlm, identity, points, folder)).checkpoint


def conditions(*levels: str, codec: str = "jpeg", size: int = 900) -> list[Condition]:
    return [Condition(CodecPoint(codec, level, codec), (112, 112), bytes(size)) for level in levels]


def test_a_checkpoint_says_what_it_is_and_is_loaded_whole(
    vlm: Nano, identity: VlmIdentity, checkpoint: Path
) -> None:
    about = read_checkpoint(checkpoint).about
    assert (about["method"], about["vlm"], about["condition"]) == ("cve", "nano", "film")
    assert about["vlm_weights"] == identity.weights
    assert [(each["codec"], each["level"]) for each in about["points"]] == [
        ("jpeg", "q1"),
        ("jpeg", "q10"),
    ]
    adaptor = ConditionalVisionEncoder(CveOptions(checkpoint=checkpoint))
    assert adaptor.fits(identity, SOURCE) == ""
    assert adaptor.is_seen(identity, CodecPoint("jpeg", "q1"))
    assert not adaptor.is_seen(identity, CodecPoint("jpeg", "q5"))
    encode = adaptor.encoder(vlm.vision)
    pictures = vlm.vision.prepare([Image.open(io.BytesIO(png(0)))])
    [tuned] = encode(pictures, conditions("q1"))
    [again] = encode(pictures, conditions("q1"))
    assert torch.equal(tuned.features, again.features)
    [plain] = vlm.vision.encode(pictures)
    assert not torch.equal(tuned.features, plain.features)


def test_checkpoints_of_one_file_name_count_apart(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / checkpoint.name
    other.write_bytes(BUNDLED.read_bytes())
    first, second = (
        ConditionalVisionEncoder(CveOptions(checkpoints=given)).provenance()
        for given in ({"a": checkpoint, "b": other}, {"a": other, "b": other})
    )
    assert first["checkpoint for a"] != first["checkpoint for b"] == second["checkpoint for a"]
    assert first["vectors for a"] == "jpeg" != first["vectors for b"]


def test_it_begins_as_the_encoder_that_it_copies(vlm: Nano, points) -> None:
    pictures = vlm.vision.prepare([Image.open(io.BytesIO(png(n))) for n in range(2)])
    plain = vlm.vision.encode(pictures)
    for condition in ("none", "embedding", "film", "query"):
        student = Student(vlm.vision, Vocabulary.of(points), condition, "both")
        found = student(pictures, [(2, 0.3), (1, 0.0)])
        for one, other in zip(found, plain, strict=True):
            assert torch.equal(one.features, other.features), condition


def test_the_published_condition_has_no_effect(vlm: Nano, points) -> None:
    """It cancels in every layer, whatever it is, and so does its gradient."""
    pictures = vlm.vision.prepare([Image.open(io.BytesIO(png(0)))])
    rope, film = (
        Student(vlm.vision, Vocabulary.of(points), condition, "both")
        for condition in ("rope", "film")
    )
    changes, gradients = {}, {}
    for name, student in (("rope", rope), ("film", film)):
        [before] = student(pictures, [(2, 0.3)])
        with torch.no_grad():
            student.conditioner.last.bias.normal_(generator=torch.Generator().manual_seed(1))
            student.conditioner.last.bias.mul_(0.1)
        [after] = student(pictures, [(2, 0.3)])
        scale = before.features.square().mean()
        difference = (after.features - before.features).square().mean()
        changes[name] = (difference / scale).item()
        after.features.square().sum().backward()
        gradients[name] = student.conditioner.last.bias.grad.abs().max().item()
    assert changes["rope"] < 1e-9
    assert changes["film"] > 1e-4
    assert gradients["rope"] < 1e-3 * gradients["film"]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_trains(vlm, identity, points, tmp_path: Path, condition: str) -> None:
    given = options(condition=condition, steps=1, validate_every=1, variants=1)
    found = CveTrainer(given).train(training(vlm, identity, points, tmp_path))
    about = read_checkpoint(found.checkpoint).about
    assert about["condition"] == condition
    assert ("no effect" in about.get("note", "")) == (condition == "rope")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums of several threads are rounded otherwise from one run to the next."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_other_losses_and_resumption(vlm, identity, points, tmp_path: Path) -> None:
    loss = LossOptions(mse=0.5, cosine=1.0, layers=[2], layers_weight=0.5)
    given = options(loss=loss, state_minutes=0.0, validate_every=1)
    whole = CveTrainer(given).train(training(vlm, identity, points, tmp_path / "whole"))
    half = replace(given, steps=1, decay=0.0)
    # Without a fall of the rate, one step is the beginning of two.
    given = replace(given, decay=0.0)
    whole = CveTrainer(given).train(training(vlm, identity, points, tmp_path / "steady"))
    CveTrainer(half).train(training(vlm, identity, points, tmp_path / "parts"))
    parts = CveTrainer(given).train(training(vlm, identity, points, tmp_path / "parts"))
    one, other = read_checkpoint(whole.checkpoint).state, read_checkpoint(parts.checkpoint).state
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_low_rank_changes_are_trained_in_every_map_and_merged(
    vlm, identity, points, tmp_path: Path
) -> None:
    given = options(condition="none", lora=2, variants=1, weights="float16")
    loop = CveTraining(training(vlm, identity, points, tmp_path), given)
    loop.run()
    found = read_checkpoint(loop.export().checkpoint)
    assert found.about["lora"] == {"rank": 2, "alpha": 16.0}
    second = {name: value for name, value in found.state.items() if name.endswith(".b")}
    # Those of a map that the encoder does not call would have no gradient and stay zero.
    assert second
    assert all(value.any() for value in second.values())
    assert all(name.startswith("lora.") for name in found.state)
    assert {value.dtype for value in found.state.values()} == {torch.float16}
    pictures = vlm.vision.prepare([Image.open(io.BytesIO(png(0)))])
    merged = Student.read(vlm.vision, found)
    with torch.no_grad():
        [one], [other] = merged(pictures, [(0, 0.0)]), loop.student.eval()(pictures, [(0, 0.0)])
    [plain] = vlm.vision.encode(pictures)
    change = (other.features - plain.features).abs().max()
    assert change > 1e-4
    assert (one.features - other.features).abs().max() < 0.02 * change


def test_changes_of_another_encoder_are_refused(vlm: Nano) -> None:
    encoder = vlm.vision.clone().trainable
    with pytest.raises(ConfigError, match=r"changes encoder\.nothing, which this encoder has not"):
        merge_lora(encoder, {"encoder.nothing.a": torch.ones(1), "encoder.nothing.b": None}, 1.0)


def test_a_training_that_cannot_fit_is_refused_before_a_step(
    vlm, identity, points, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "lossylens_toolkit.training.training_memory.free_memory", lambda device: 10**7
    )
    with pytest.raises(RequirementError, match=r"does not suffice: 0\.0. GB .*checkpointing"):
        CveTraining(training(vlm, identity, points, tmp_path), options())
    assert not (tmp_path / "states").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"quantization": "bnb-nf4"},
            "quantised weights cannot be trained; set quantization: none",
        ),
        ({"devices": (torch.device("cpu"),) * 2}, "spread over several devices cannot be trained"),
    ],
)
def test_weights_that_cannot_be_trained_are_refused_before_they_are_loaded(
    identity, points, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    vlm = Nano(NanoOptions())
    vlm.placement = replace(vlm.placement, **changes)
    with pytest.raises(ConfigError, match=message):
        CveTraining(training(vlm, identity, points, tmp_path), options())
    assert vlm._loaded is None


def test_checkpointing_takes_less_memory(
    vlm, identity, points, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs = []
    for name, given in (("plain", False), ("less", True)):
        CveTraining(training(vlm, identity, points, tmp_path / name), options(checkpointing=given))
        told = capsys.readouterr().out
        needs.append(float(re.search(r"AdamW, (\S+) GB for what a step keeps", told)[1]))
    assert 0 < needs[1] < needs[0] / 2


def test_the_bundled_checkpoint_serves_nano_alone(vlm: Nano, identity: VlmIdentity) -> None:
    adaptor = ConditionalVisionEncoder(CveOptions())
    assert adaptor.fits(identity, SOURCE) == ""
    assert adaptor.is_seen(identity, CodecPoint("jpeg", "q1"))
    assert not adaptor.is_seen(identity, CodecPoint("webp", "q0"))
    stranger = VlmIdentity("qwen2.5-vl-3b", "qwen", {"weights x": "y"})
    assert "no checkpoint for vlm qwen" in adaptor.fits(stranger, SOURCE)
    assert BUNDLED.stat().st_size <= 8_000_000


def test_the_bundled_checkpoint_brings_features_back(vlm: Nano) -> None:
    """Of JPEG at its lowest quality, on a scene that it was not trained on."""
    registry = load_registry()
    [sample, *_] = registry.build_task("scenes", {"images": 1, "seed": 11}).samples()
    original = Image.open(io.BytesIO(sample.images[0].read())).convert("RGB")
    codec = registry.build_codec("jpeg", "q1")
    bitstream = codec.encode(original)
    shown, wanted = vlm.vision.prepare([codec.decode(bitstream), original])
    condition = Condition(CodecPoint("jpeg", "q1", "jpeg"), original.size, bitstream)
    encode = ConditionalVisionEncoder(CveOptions()).encoder(vlm.vision)
    with torch.no_grad():
        goal, plain = (each.features for each in vlm.vision.encode([wanted, shown]))
        [tuned] = encode([shown], [condition])
    assert (tuned.features - goal).square().mean() < 0.8 * (plain - goal).square().mean()


def test_labels() -> None:
    points = [
        TrainingPoint(CodecPoint(codec, level), lambda: None)
        for codec, level in (("jpeg", "q1"), ("jpeg", "q5"), ("jpeg", "q9"), ("elic", "l1"))
    ]
    vocabulary = Vocabulary.of(points)
    assert vocabulary == Vocabulary.read(vocabulary.described())
    labels = Labels(vocabulary, "rank", {"hm": "jpeg"})
    source = Condition(SOURCE, (8, 8))
    [q1], [q5], [webp], [hm] = (
        conditions("q1"),
        conditions("q5"),
        conditions("q1", codec="webp"),
        conditions("q1", codec="hm"),
    )
    names = vocabulary.codecs
    assert names[labels.numbers(q1)[0]] == "jpeg"
    assert (labels.numbers(q1)[1], labels.numbers(q5)[1]) == (-1.0, 0.0)
    # Never a silent guess: what the training had not is unknown, unless it is said to pass.
    assert (names[labels.numbers(webp)[0]], labels.known_as("hm")) == (UNKNOWN, "jpeg")
    assert names[labels.numbers(source)[0]] == CLEAN
    assert names[labels.numbers(hm)[0]] == "jpeg"
    rate = Labels(vocabulary, "rate", {})
    low, middle, high = (rate.numbers(conditions("q1", size=n)[0])[1] for n in (200, 900, 4000))
    assert low < middle < high
    assert names[replace(labels, label="unknown").numbers(q1)[0]] == UNKNOWN
    wrong = replace(labels, label="wrong").numbers(q1)
    assert names[wrong[0]] not in ("jpeg", UNKNOWN)


def test_what_does_not_fit_is_said(identity: VlmIdentity, checkpoint: Path) -> None:
    other = VlmIdentity("nano", "mine", {"weights x": "y"})
    adaptor = ConditionalVisionEncoder(CveOptions(checkpoint=checkpoint))
    assert "other weights than mine's" in adaptor.fits(other, SOURCE)
    stranger = VlmIdentity("qwen2.5-vl-3b", "qwen", {"weights x": "y"})
    assert "another model than qwen's" in adaptor.fits(stranger, SOURCE)
    several = ConditionalVisionEncoder(CveOptions(checkpoints={"qwen": checkpoint}))
    assert several.fits(identity, SOURCE).startswith("no checkpoint for vlm nano; `lossylens train")
    mine = Nano(NanoOptions()).vision.clone()
    with torch.no_grad():
        next(iter(mine.parameters().values())).add_(0.1)
    with pytest.raises(ConfigError, match=r"adaptor\.safetensors: trained for another vision enc"):
        adaptor.encoder(mine)
    passing = ConditionalVisionEncoder(CveOptions(checkpoint=checkpoint, map={"hm": "elic"}))
    with pytest.raises(ConfigError, match=r"hm is to pass as elic, which .* it knows jpeg"):
        passing.fits(identity, SOURCE)


@pytest.mark.parametrize("name", ["cve-qwen2.5-vl-3b", "cve-internvl3-1b"])
def test_the_examples_are_configurations(name: str) -> None:
    path = Path(__file__).parents[4] / f"examples/{name}.yaml"
    values, _ = read_yaml(path, ())
    sections = PluginSpec(name="training", summary="", factory="", options=AdaptorTrainingSections)
    given = resolve_options(sections, values, "").training
    own = PluginSpec(name="cve", summary="", factory="", options=CveTrainingOptions)
    assert resolve_options(own, given, "training").checkpointing


def test_options_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="condition 'magic' is not one of none, embedding"):
        CveTrainingOptions(condition="magic")
    with pytest.raises(ValueError, match="unlabelled is a share"):
        CveTrainingOptions(unlabelled=2)
    with pytest.raises(ValueError, match="all weights are 0"):
        CveTrainingOptions(loss=LossOptions(mse=0))
    with pytest.raises(ConfigError, match="no rotary angles"):
        Conditioner("query", "both", 3, layers=2, width=8, angles=0)
