"""The necks of the package, for nano-llava behind ELIC's nano checkpoints, on held-out scenes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from lossylens.codec import SOURCE, Codec, CodecPoint, Square
from lossylens.images.pixels import squared
from lossylens.registry.plugins import load_registry
from lossylens.vlm import Condition, VisionEncoder, Vlm, VlmIdentity
from lossylens_adaptor_transform_neck.adaptor import NeckAdaptor
from lossylens_adaptor_transform_neck.options import NeckOptions, missing
from PIL import Image

LEVELS = ("lambda0.004", "lambda0.008", "lambda0.016", "lambda0.032")
SQUARE = Square(192)
SCENES = 10
SIZE = (192, 192)


@dataclass(frozen=True)
class Coded:
    """Scenes behind a level."""

    codec: Codec
    point: CodecPoint
    decoded: Sequence[Image.Image]
    conditions: Sequence[Condition]


def coded(level: str, originals: Sequence[Image.Image]) -> Coded:
    registry = load_registry()
    found = registry.find("codec", "elic")
    options = registry.options(found, {"variant": "nano", "dtype": "float32"}, "")
    codec = registry.build_codec("elic", found.spec.level(level), options)
    known = dict(codec.provenance())
    point = CodecPoint("elic", level, "elic", level, {}, known, codec.space, SQUARE)
    bitstreams = [codec.encode(squared(each, SQUARE)) for each in originals]
    return Coded(
        codec,
        point,
        [codec.decode(each) for each in bitstreams],
        [Condition(point, SIZE, None, codec.latents(each)) for each in bitstreams],
    )


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    registry = load_registry()
    given = {"images": SCENES, "seed": 11, "size": 192, "topics": ["existence"]}
    task = registry.build_task("scenes", given)
    read = {each.images[0].key: each.images[0].read for each in task.samples()}
    return [Image.open(io.BytesIO(each())).convert("RGB") for each in read.values()]


@pytest.fixture(scope="module")
def vlm() -> Vlm:
    return load_registry().build_vlm("nano-llava", {"device": "cpu"})


@pytest.fixture(scope="module")
def identity(vlm: Vlm) -> VlmIdentity:
    return VlmIdentity("nano-llava", "nano-llava", dict(vlm.provenance()))


def features(encoded: Sequence[Any]) -> torch.Tensor:
    return torch.stack([each.features for each in encoded])


@torch.no_grad()
def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the squared error of what enters the language model, over its variance."""
    return float((found - wanted).square().mean() / (wanted - wanted.mean((0, 1))).square().mean())


@pytest.mark.parametrize("level", LEVELS)
def test_they_come_nearer_to_the_original_than_the_decoded_picture(
    level: str, originals, vlm: Vlm, identity: VlmIdentity
) -> None:
    behind, vision = coded(level, originals), vlm.vision
    wanted = features(vision.encode(vision.prepare(originals)))
    decoded = features(vision.encode(vision.prepare(behind.decoded)))

    def made(latents: str) -> float:
        adaptor = NeckAdaptor(NeckOptions(latents=latents))  # type: ignore[arg-type]
        assert adaptor.fits(identity, behind.point) == ""
        encode: VisionEncoder = adaptor.encoder(vision)
        return apart(features(encode([None] * SCENES, behind.conditions)), wanted)

    neck = made("true")
    assert neck < apart(decoded, wanted)
    # It reads what lies where.  Levels of these small codecs are alike, so another's loses less.
    assert made("shuffled") > 1.5 * neck
    assert made("wrong") > neck


def test_what_else_there_is_is_refused_by_name(originals, vlm: Vlm, identity: VlmIdentity) -> None:
    assert missing(NeckOptions()) == ()
    adaptor = NeckAdaptor(NeckOptions())
    assert len(adaptor.files) == len(LEVELS)
    assert {each.level for each in adaptor.files} == set(LEVELS)
    own = coded(LEVELS[0], originals[:1]).point
    assert adaptor.fits(identity, own) == ""
    assert "another model than llava-1.5-7b's" in adaptor.fits(
        VlmIdentity("llava-1.5-7b", "llava-1.5-7b", {"weights": "others"}), own
    )
    unknown = replace(own, level="lambda0.15")
    assert "no transform-neck for elic lambda0.15" in adaptor.fits(identity, unknown)
    assert adaptor.fits(identity, SOURCE)


def test_each_is_refused_at_another_level(originals, vlm: Vlm, identity: VlmIdentity) -> None:
    for file in NeckAdaptor(NeckOptions()).files:
        alone = NeckAdaptor(NeckOptions([file.path]))
        other = next(each for each in LEVELS if each != file.level)
        reason = alone.fits(identity, coded(other, originals[:1]).point)
        assert reason == (f"no transform-neck for elic {other}, there is one for elic {file.level}")
