"""What LLaVA-1.5 and LLaVA-OneVision have of their own."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lossylens.errors import ConfigError, RequirementError
from lossylens.vlm import Question, QuestionKind
from lossylens_toolkit.transformers_vlm.families.llava import layers_read
from lossylens_toolkit.transformers_vlm.families.llava_onevision import (
    LlavaOnevisionPreprocessor,
    LlavaOnevisionTower,
    MosaicLayout,
)
from lossylens_toolkit.transformers_vlm.vision_inputs import WHOLE, Layout
from lossylens_toolkit.transformers_vlm.vlm_testing import about, blocks, llava_inputs
from lossylens_toolkit.transformers_vlm.wording import llava_wording
from transformers import LlavaOnevisionConfig
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

SHORT = "Answer the question using a single word or phrase."


@pytest.mark.parametrize("size", [(80, 60), (37, 150), (301, 99), (9, 1), (64, 64)])
def test_images_are_padded_and_not_cropped(open_vlm, size) -> None:
    """As the authors do, to the last bit; the checkpoint's own processor would crop."""
    vlm = open_vlm("llava")
    image = blocks(*size, 1)
    [picture] = vlm.vision.prepare([image])
    model = SimpleNamespace(config=vlm.pretrained().config)
    expected = llava_inputs(model, None, [image])["pixel_values"]
    assert torch.equal(picture.pixels, expected)
    cropped = vlm.family.preprocess.processor(images=[image], return_tensors="pt")["pixel_values"]
    assert torch.equal(picture.pixels, cropped) == (size[0] == size[1])


def test_the_class_token_goes_along_and_is_left_out(open_vlm) -> None:
    tower = open_vlm("llava").vision
    pictures = tower.prepare([blocks(80, 60, 1)])
    assert (tower.layers, tower.extra) == (4, 1), "of five layers the last is not read"
    [states] = tower.hidden_states(pictures, [4])[4]
    [encoded] = tower.encode(pictures)
    assert (states.shape[1], len(encoded.features)) == (17, 16)
    [rows] = tower.attention(pictures, [0])[0]
    assert rows[:, :, 0, 1:].std() > 0, "the class token attends to some patches more"
    # It reaches the patches through the layers in between.
    moved = states.clone()
    moved[:, 0] += 1
    layouts = [each.layout for each in pictures]
    assert torch.equal(tower.enter(4, [moved], layouts)[0].features, encoded.features)
    first = tower.hidden_states(pictures, [0])[0][0].clone()
    first[:, 0] += 5 * torch.randn(tower.width, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(tower.enter(0, [first], layouts)[0].features, encoded.features)


@pytest.mark.parametrize(
    ("layer", "read"), [(-2, 23), (-1, 24), (-24, 1), (3, 3), (-25, 0), (25, 0), ([-2, -5], 0)]
)
def test_layers_that_are_read(layer, read) -> None:
    config = SimpleNamespace(
        vision_feature_layer=layer, vision_config=SimpleNamespace(num_hidden_layers=24)
    )
    if read:
        assert layers_read(config) == read
    else:
        with pytest.raises(RequirementError, match="must be one of 24 layers"):
            layers_read(config)


def test_the_authors_own_protocol_is_an_option() -> None:
    asked = Question(QuestionKind.YES_NO, "Is it?", task="pope")
    assert llava_wording(asked) == "Is it?"
    assert llava_wording(asked, short_answers=True) == f"Is it?\n{SHORT}"
    for other in (QuestionKind.OPEN, QuestionKind.CAPTION, QuestionKind.BOX):
        assert llava_wording(Question(other, "Well?"), short_answers=True) == "Well?"
    twice = Question(QuestionKind.SHORT_ANSWER, "Well?")
    assert llava_wording(twice, short_answers=True) == f"Well?\n{SHORT}"


def test_short_answers_reach_the_prompt(open_vlm) -> None:
    asked = Question(QuestionKind.YES_NO, "Is it?", max_new_tokens=1)
    plain, short = (
        open_vlm("llava", short_answers=each).answer([about(blocks(64, 64, 1), asked)])[0][0]
        for each in (False, True)
    )
    added = short.usage["input_tokens"] - plain.usage["input_tokens"]
    assert added == len(SHORT) + 1


# LLaVA-OneVision

CONFIG = LlavaOnevisionConfig()


def published() -> LlavaOnevisionPreprocessor:
    """Of the published checkpoints' sizes."""
    return LlavaOnevisionPreprocessor(
        LlavaOnevisionImageProcessorPil(), 384, 14, CONFIG.image_grid_pinpoints
    )


@settings(max_examples=40, deadline=None)
@given(width=st.integers(1, 3000), height=st.integers(1, 3000))
@example(2304, 2304)
@example(1, 3000)
@example(3000, 1)
@example(640, 480)
def test_tiles_of_any_size_are_joined_as_transformers_does(width, height) -> None:
    layout = published().layout((width, height), None)
    tokens = torch.randn(layout.tiles, 27 * 27, 2, generator=torch.Generator().manual_seed(1))
    newline = torch.tensor([7.0, -7.0])
    tower = object.__new__(LlavaOnevisionTower)
    tower._most = 9
    tower.projectors = {"newline": SimpleNamespace(vector=newline)}
    model = SimpleNamespace(config=CONFIG)
    [expected], _ = LlavaOnevisionModel.pack_image_features(
        model, [tokens], [(height, width)], newline
    )
    assert torch.equal(tower._packed(tokens.flatten(0, 1), layout), expected)
    assert tower.tokens(layout) == len(expected)
    assert not tower.refusal(layout)


@pytest.mark.parametrize("size", [(80, 60), (37, 150), (301, 99), (48, 48), (500, 20)])
def test_tiles_show_their_rectangles(open_vlm, size) -> None:
    """To the pixel: what of a white image is padding, is black."""
    vlm = open_vlm("llava_onevision")
    [picture] = vlm.vision.prepare([blocks(*size, 1).point(lambda _: 255)])
    assert picture.layout.rectangles[0] == WHOLE
    white = picture.pixels[0].amin()
    for pixels, (left, top, right, bottom) in zip(
        picture.pixels, picture.layout.rectangles, strict=True
    ):
        x = left + (torch.arange(48) + 0.5) / 48 * (right - left)
        y = top + (torch.arange(48) + 0.5) / 48 * (bottom - top)
        inside = ((y > 0) & (y < 1))[:, None] & ((x > 0) & (x < 1))
        assert torch.equal(pixels[0] > white - 1, inside)


def test_how_many_tiles_is_an_option(open_vlm) -> None:
    image = blocks(200, 150, 1)
    layouts = {
        most: open_vlm("llava_onevision", max_tiles=most).vision.layout(image.size)
        for most in (None, 4, 2, 1, 0)
    }
    assert {most: each.tiles for most, each in layouts.items()} == {None: 5, 4: 5, 2: 3, 1: 2, 0: 1}
    assert layouts[0].rectangles == ((0, -1 / 6, 1, 7 / 6),), "padded"
    asked = Question(QuestionKind.OPEN, "Is it?", max_new_tokens=1)
    whole, tiled = (
        open_vlm("llava_onevision", max_tiles=most).answer([about(image, asked)])[0][0]
        for most in (0, None)
    )
    # Nine patches and a newline; nine, and four tiles of which 18 patches may be left.
    assert tiled.usage["input_tokens"] > whole.usage["input_tokens"] + 8


def test_tiles_that_are_not_said_how_to_lie_do_not_enter(open_vlm) -> None:
    tower = open_vlm("llava_onevision").vision
    for layout in (
        Layout(3, 3, 3, rectangles=(WHOLE,) * 3),
        MosaicLayout(3, 3, 3, rectangles=(WHOLE,) * 3, tile_rows=2, tile_columns=2),
    ):
        with pytest.raises(ConfigError, match="does not say how its 3 tiles lie"):
            tower.enter(1, [torch.zeros(3, 9, tower.width)], [layout])


def test_checkpoints_that_are_read_in_another_way(open_vlm, folders, tmp_path) -> None:
    changes = {
        "llava": {"vision_feature_select_strategy": "full"},
        "llava_onevision": {"vision_aspect_ratio": "anyres"},
    }
    for name, change in changes.items():
        folder = tmp_path / name
        shutil.copytree(folders[name], folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(RequirementError, match="must read"):
            _ = open_vlm(name, checkpoint=str(folder)).family
