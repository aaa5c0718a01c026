"""Vision access, against transformers' own towers, and adaptors written on top of it."""

from __future__ import annotations

import pytest
import torch
from lossylens.codec import CodecPoint
from lossylens.errors import ConfigError
from lossylens.toolkit.transformers_vlm.pictures import Layout, VisualTokens
from lossylens.toolkit.transformers_vlm.testing import blocks
from lossylens.vlm import Condition, ImageQuestions, Question, QuestionKind

IMAGES = [blocks(80, 60, 1), blocks(200, 150, 2), blocks(60, 190, 3), blocks(80, 60, 4)]


@pytest.fixture
def tower(vlm):
    return vlm.vision


def pixel_inputs(kind, pictures):
    inputs = {"pixel_values": torch.cat([picture.pixels for picture in pictures])}
    if kind == "qwen2_5_vl":
        grids = [[1, picture.layout.rows, picture.layout.columns] for picture in pictures]
        inputs["image_grid_thw"] = torch.tensor(grids)
    return inputs


def close(actual, expected, tolerance=2e-5):
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def in_raster(kind, tower, states, pictures):
    """transformers' hidden states (in window order for Qwen2.5-VL) per image, row by row."""
    if kind != "qwen2_5_vl":
        return list(states.split([picture.layout.tiles for picture in pictures]))
    from transformers.vision_utils import get_vision_window_index

    grids = pixel_inputs(kind, pictures)["image_grid_thw"]
    window = tower.module.window_size
    index, _ = get_vision_window_index(grids, 2, window, tower.module.patch_size)
    inverse = torch.argsort(index)
    blocked = states.view(len(index), 4, -1)[inverse].flatten(0, 1)
    found = []
    for picture, part in zip(
        pictures, blocked.split([p.layout.tokens for p in pictures]), strict=True
    ):
        rows, columns = picture.layout.rows, picture.layout.columns
        grid = part.view(rows // 2, columns // 2, 2, 2, -1).transpose(1, 2)
        found.append(grid.reshape(1, rows * columns, -1))
    return found


@torch.inference_mode()
def test_features_and_states_are_transformers_own(kind, vlm, tower) -> None:
    pictures = tower.prepare(IMAGES)
    model = vlm.pretrained()
    inputs = pixel_inputs(kind, pictures)
    out = model.model.get_image_features(**inputs, output_hidden_states=True)
    features = torch.cat([feature.flatten(0, -2) for feature in out.pooler_output])
    close(torch.cat([each.features for each in tower.encode(pictures)]), features)
    states = tower.hidden_states(pictures, range(tower.layers + 1))
    for layer, expected in enumerate(out.hidden_states):
        for mine, theirs in zip(
            states[layer], in_raster(kind, tower, expected, pictures), strict=True
        ):
            close(mine, theirs)


@torch.inference_mode()
def test_attention_is_transformers_own(kind, vlm, tower) -> None:
    """Recorded by an attention function that transformers is told to use."""
    from transformers import AttentionInterface

    recorded = []

    def recording(module, query, key, value, attention_mask=None, scaling=None, **kwargs):
        weights = (query @ key.transpose(-1, -2) * scaling).softmax(-1)
        recorded.append(weights)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    AttentionInterface.register("recording", recording)
    picture = tower.prepare([blocks(170, 190, 2)])
    model = vlm.pretrained()
    model.set_attn_implementation({"vision_config": "recording"})
    model.model.get_image_features(**pixel_inputs(kind, picture))
    maps = tower.attention(picture, range(tower.layers))
    windows = (len(recorded) - 2) // 2
    for layer in range(tower.layers):
        [mine] = maps[layer]
        close(mine.sum(-1), torch.ones(mine.shape[:-1]))
        if kind != "qwen2_5_vl":
            close(mine, recorded[layer])
            continue
        # A layer with windows makes one call each; their order does not matter here.
        calls = 1 if layer in tower.full else windows
        parts, recorded = recorded[:calls], recorded[calls:]
        close(mine.flatten().sort().values[-100:], _largest(parts, 100))
        assert (mine > 0).sum() == sum(part.numel() for part in parts)


def _largest(parts, count):
    return torch.cat([part.flatten() for part in parts]).sort().values[-count:]


@torch.inference_mode()
def test_entering_at_any_layer_gives_the_same(tower) -> None:
    pictures = tower.prepare(IMAGES)
    layouts = [picture.layout for picture in pictures]
    expected = tower.encode(pictures)
    states = tower.hidden_states(pictures, range(tower.layers + 1))
    for layer in range(tower.layers + 1):
        entered = tower.enter(layer, states[layer], layouts)
        for mine, theirs in zip(entered, expected, strict=True):
            close(mine.features, theirs.features)


def test_entering_wrongly_is_refused(tower) -> None:
    layout = Layout(1, 4, 4)
    with pytest.raises(ConfigError, match="no layer 9; it has 4"):
        tower.enter(9, [torch.zeros(1, 16, tower.width)], [layout])
    with pytest.raises(ConfigError, match=r"\(1, 15, \d+\), not \(1, 16, \d+\)"):
        tower.enter(1, [torch.zeros(1, 15, tower.width)], [layout])


def test_condition_at_the_embedding_has_an_effect_per_image(tower) -> None:
    pictures = tower.prepare(IMAGES)
    condition = torch.zeros(len(pictures), tower.width, requires_grad=True)
    # Not the same number for all channels, which layer norms take out.
    second = torch.zeros_like(condition)
    second[1] = torch.randn(tower.width, generator=torch.Generator().manual_seed(0))
    added = condition + second
    plain, conditioned = tower.encode(pictures), tower.encode(pictures, embedding=added)
    for number, (before, after) in enumerate(zip(plain, conditioned, strict=True)):
        change = (before.features - after.features).abs().max() / before.features.abs().max()
        assert change > 0.01 if number == 1 else change < 1e-5
    sum(each.features.square().sum() for each in conditioned).backward()
    assert condition.grad.abs().amax(1).min() > 0


def test_condition_at_rotary_angles_cancels(open_vlm) -> None:
    """As the paper adds it: the same vector for every token of an image."""
    tower = open_vlm("qwen2_5_vl").vision
    pictures = tower.prepare(IMAGES)
    generator = torch.Generator().manual_seed(0)
    angles = torch.randn(len(pictures), tower.angles, generator=generator, requires_grad=True)
    plain, conditioned = tower.encode(pictures), tower.encode(pictures, angles=angles)
    for before, after in zip(plain, conditioned, strict=True):
        assert not torch.equal(before.features, after.features), "the condition got there"
        close(after.features, before.features)
    sum(each.features.square().sum() for each in conditioned).backward()
    weight = next(iter(tower.parameters().values()))
    weight.requires_grad_(True)
    sum(each.features.square().sum() for each in tower.encode(pictures)).backward()
    assert angles.grad.abs().max() < 1e-4 * weight.grad.abs().max()


@pytest.mark.parametrize("name", ["internvl", "janus"])
def test_learned_positions_have_no_angles(open_vlm, name) -> None:
    tower = open_vlm(name).vision
    assert tower.angles == 0
    with pytest.raises(ConfigError, match="learned positions"):
        tower.encode(tower.prepare(IMAGES[:1]), angles=torch.zeros(1, 4))


def test_parameters_reach_the_features(tower) -> None:
    parameters = tower.parameters()
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    encoded = tower.encode(tower.prepare(IMAGES[:2]))
    sum(each.features.square().sum() for each in encoded).backward()
    idle = [name for name, each in parameters.items() if each.grad is None]
    assert not idle or all("mask_token" in name for name in idle)


# Adaptors, as the next milestone needs them, in a few lines each.

QUESTIONS = tuple(
    Question(QuestionKind.OPEN, text, max_new_tokens=4) for text in ("Is it?", "What now?")
)


def ask(vlm, codec="jpeg", level="q5", bitstream=None):
    point = CodecPoint(codec, level)
    return vlm.answer(
        [
            ImageQuestions((image,), QUESTIONS, (Condition(point, image.size, bitstream),))
            for image in IMAGES[:2]
        ]
    )


def test_conditional_vision_encoder(vlm) -> None:
    """A learned vector per codec and level; zero in the beginning, as training starts."""
    levels = {("jpeg", "q1"): 0, ("jpeg", "q5"): 1}
    tower_width = vlm.vision.width
    table = torch.nn.Embedding(2, tower_width)
    torch.nn.init.zeros_(table.weight)

    def encode(pictures, conditions):
        chosen = torch.tensor([levels[each.point.codec, each.point.level] for each in conditions])
        return vlm.vision.encode(pictures, embedding=table(chosen))

    adapted = vlm.with_encoder(encode)
    assert ask(adapted) == ask(vlm)
    with torch.no_grad():
        table.weight[1] = 30 * torch.randn(tower_width, generator=torch.Generator().manual_seed(0))
    assert ask(adapted, level="q1") == ask(vlm)
    assert ask(adapted, level="q5") != ask(vlm)


def test_neck_of_latents_at_the_third_layer(vlm) -> None:
    """Latents from the bitstream, on a grid of their own, in the place of pixels."""
    tower = vlm.vision
    extra = tower.prepare(IMAGES[:1])[0].layout.extra
    layout = Layout(1, 4, 4, extra)
    neck = torch.nn.Linear(8, layout.tokens * tower.width)

    def encode(pictures, conditions):
        latents = torch.tensor([list(each.bitstream[:8]) for each in conditions]).float()
        states = neck(latents).view(len(pictures), 1, layout.tokens, tower.width)
        return tower.enter(2, list(states), [layout] * len(pictures))

    adapted = vlm.with_encoder(encode)
    point = CodecPoint("elic", "q1")
    bitstreams = [bytes(range(8)), bytes(range(200, 40, -20))]
    conditions = [Condition(point, (8, 8), bitstream) for bitstream in bitstreams]
    first, second = encode([None, None], conditions)
    assert (first.features - second.features).abs().max() > 0.1 * first.features.abs().max()
    answers = ask(adapted, bitstream=bitstreams[0])
    assert answers[0] == answers[1], "the images are not looked at"
    visual = vlm.family.visual_tokens(layout)
    other = vlm.family.visual_tokens(tower.prepare(IMAGES[:1])[0].layout)
    saved = ask(vlm)[0][0].usage["input_tokens"] - answers[0][0].usage["input_tokens"]
    assert saved == other - visual, "the prompt has as many visual tokens as the neck's grid"


def test_attention_guides_bit_allocation(vlm) -> None:
    """Attention received in the first layers says which blocks deserve bits."""
    tower = vlm.vision
    pictures = tower.prepare(IMAGES[:2])
    maps = tower.attention(pictures, (0, 1, 2))
    for number, picture in enumerate(pictures):
        received = torch.stack([maps[layer][number] for layer in maps]).mean((0, 2)).sum(-2)
        importance = received[:, picture.layout.extra :]
        tiles, rows, columns = picture.layout.tiles, picture.layout.rows, picture.layout.columns
        assert importance.view(tiles, rows, columns).std() > 0


def test_features_from_elsewhere(vlm) -> None:
    """An encoder may return any features; the layout says how many tokens there are."""
    tower = vlm.vision

    def encode(pictures, conditions):
        plain = tower.encode(pictures)
        return [VisualTokens(torch.zeros_like(each.features), each.layout) for each in plain]

    first, second = ask(vlm.with_encoder(encode))
    assert [answer.text for answer in ask(vlm)[0]] != [answer.text for answer in first]
    assert second
