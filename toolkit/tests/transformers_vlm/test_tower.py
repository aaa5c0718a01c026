"""Vision access, against transformers' own towers, and adaptors written on top of it."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from dataclasses import astuple

import pytest
import torch
from lossylens.codec import CodecPoint
from lossylens.errors import ConfigError
from lossylens.vlm import Condition, ImageQuestions, Question, QuestionKind
from lossylens_toolkit.transformers_vlm.families.llava_onevision import (
    LlavaOnevisionTower,
    MosaicLayout,
)
from lossylens_toolkit.transformers_vlm.tower_tests import IMAGES, TowerTests, close, loss
from lossylens_toolkit.transformers_vlm.vision_inputs import WHOLE, Layout, VisualTokens
from lossylens_toolkit.transformers_vlm.vlm_testing import blocks


@pytest.fixture
def tower(vlm):
    return vlm.vision


class TestTower(TowerTests):
    """Of every family."""


def pixel_inputs(kind, pictures):
    inputs = {"pixel_values": torch.cat([picture.pixels for picture in pictures])}
    if kind == "qwen2_5_vl":
        grids = [[1, picture.layout.rows, picture.layout.columns] for picture in pictures]
        inputs["image_grid_thw"] = torch.tensor(grids)
    return inputs


def model_inputs(kind, vlm, images):
    """Inputs of transformers' own way, sizes of images included where it needs them."""
    pictures = vlm.vision.prepare(images)
    if kind != "llava_onevision":
        return pixel_inputs(kind, pictures)
    # Not as those of one question: each is cut.
    return dict(vlm.family.preprocess.processor(images=images, return_tensors="pt"))


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
    inputs = model_inputs(kind, vlm, IMAGES)
    out = model.model.get_image_features(**inputs, output_hidden_states=True)
    features = torch.cat([feature.flatten(0, -2) for feature in out.pooler_output])
    close(torch.cat([each.features for each in tower.encode(pictures)]), features)
    states = tower.hidden_states(pictures, range(tower.layers + 1))
    # Layers that the language model does not read do not count.
    for layer, expected in enumerate(out.hidden_states[: tower.layers + 1]):
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
    images = [blocks(170, 190, 2)]
    picture = tower.prepare(images)
    model = vlm.pretrained()
    model.set_attn_implementation({"vision_config": "recording"})
    model.model.get_image_features(**model_inputs(kind, vlm, images))
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
    idle = {name for name, each in parameters.items() if each.grad is None}
    assert idle == parameters.keys() & tower.unused


# Adaptors, as the next milestone needs them, in a few lines each.

QUESTIONS = tuple(
    Question(QuestionKind.OPEN, text, max_new_tokens=4) for text in ("Is it?", "What now?")
)


def condition(level="q5"):
    return Condition(CodecPoint("jpeg", level), (80, 60))


def ask(vlm, level="q5"):
    items = [ImageQuestions((image,), QUESTIONS, (condition(level),)) for image in IMAGES[:2]]
    return vlm.answer(items)


def test_conditional_vision_encoder(vlm) -> None:
    """A learned vector per level; zero in the beginning, as training starts."""
    levels = {"q1": 0, "q5": 1}
    tower_width = vlm.vision.width
    table = torch.nn.Embedding(2, tower_width)
    torch.nn.init.zeros_(table.weight)

    def encode(pictures, conditions):
        chosen = torch.tensor([levels[each.point.level] for each in conditions])
        return vlm.vision.encode(pictures, embedding=table(chosen))

    adapted = vlm.with_encoder(encode)
    assert ask(adapted) == ask(vlm)
    with torch.no_grad():
        table.weight[1] = 30 * torch.randn(tower_width, generator=torch.Generator().manual_seed(0))
    assert ask(adapted, level="q1") == ask(vlm)
    assert ask(adapted, level="q5") != ask(vlm)


def test_neck_of_latents_at_the_third_layer(vlm) -> None:
    """Latents on a grid of their own in the place of pixels."""
    tower = vlm.vision
    layout = Layout(1, 4, 4, tower.extra)
    neck = torch.nn.Linear(8, layout.tokens * tower.width)
    latents = torch.tensor([list(range(8)), list(range(200, 40, -20))]).float()

    def tokens(number):
        states = neck(latents[number]).view(1, layout.tokens, tower.width)
        return tower.enter(2, [states], [layout])[0]

    first, second = tokens(0), tokens(1)
    assert (first.features - second.features).abs().max() > 0.1 * first.features.abs().max()
    answers = ask(vlm.with_encoder(lambda pictures, _: [tokens(0)] * len(pictures)))
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


# Training

PROCESS = """
import logging, pathlib, pickle, sys
import torch
from accelerate import Accelerator
from lossylens_toolkit.transformers_vlm.tower_tests import IMAGES, loss

logging.getLogger("transformers").setLevel(logging.ERROR)
torch.set_num_threads(1)
accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == 2
for number, (kind, options) in enumerate(pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())):
    vision = kind(options).vision.clone()
    model = accelerator.prepare(vision.trainable)
    pictures = vision.prepare([IMAGES[accelerator.process_index]])
    film = torch.zeros(1, vision.layers, 2, 2, vision.width)
    accelerator.backward(loss(model(pictures, film=film, checkpointing=True)))
    grads = {name: each.grad for name, each in vision.parameters().items()}
    torch.save(grads, f"{sys.argv[2]}/{number}-{accelerator.process_index}")
accelerator.end_training()
"""


@pytest.mark.slow
def test_data_parallelism_synchronises(open_vlm, folders, tmp_path) -> None:
    """Two processes with an image each have the mean of both images' gradients."""
    vlms = [open_vlm(name) for name in folders]
    pickled = pickle.dumps([(type(vlm), vlm.options) for vlm in vlms])
    (tmp_path / "vlms").write_bytes(pickled)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "vlms"), str(tmp_path)]
    started = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
    for number, vlm in enumerate(vlms):
        twin = vlm.vision.clone()
        losses = [loss(twin.encode(twin.prepare([image]))) for image in IMAGES[:2]]
        (sum(losses) / 2).backward()
        first, second = (torch.load(tmp_path / f"{number}-{rank}") for rank in range(2))
        # A bias of attention's keys has no gradient but rounding, which differs by process.
        gradients = [each.grad for each in twin.parameters().values() if each.grad is not None]
        rounding = 1e-6 * max(float(each.abs().max()) for each in gradients)
        for name, parameter in twin.parameters().items():
            if not parameter.requires_grad:  # of layers behind the one that is read
                assert first[name] is second[name] is None
                continue
            assert torch.equal(first[name], second[name])
            torch.testing.assert_close(
                first[name],
                parameter.grad,
                rtol=0,
                atol=rounding + 1e-4 * float(parameter.grad.abs().max()),
            )


def test_a_clone_of_half_precision_is_in_single(open_vlm, kind) -> None:
    tower = open_vlm(kind, dtype="bfloat16").vision
    twin = tower.clone()
    for name, parameter in twin.parameters().items():
        assert tower.parameters()[name].dtype == torch.bfloat16
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, tower.parameters()[name].float())
    # A neck in fp32 enters a frozen tower in bf16.
    pictures = tower.prepare(IMAGES[:2])
    layouts = [each.layout for each in pictures]
    states = [each.detach().requires_grad_() for each in twin.hidden_states(pictures, [2])[2]]
    loss(tower.enter(2, states, layouts)).backward()
    assert all(each.grad.abs().max() > 0 for each in states)
    assert all(each.grad is None for each in tower.parameters().values())


# Sizes and grids


@pytest.mark.parametrize("size", [(1000, 1000), (640, 480), (300, 900), (40, 40)])
def test_resolution_of_qwen(open_vlm, size) -> None:
    """As near as multiples of 28 pixels allow, at the image's shape."""
    tower = open_vlm("qwen2_5_vl").vision
    for side in (112, 224, 448):
        [picture] = tower.prepare([blocks(*size, 1)], resolution=side**2)
        rows, columns = picture.layout.rows, picture.layout.columns
        if size[0] == size[1]:
            assert (rows, columns) == (side // 14, side // 14)
        assert rows * columns * 14**2 == pytest.approx(side**2, rel=0.3)
        assert columns / rows == pytest.approx(size[0] / size[1], rel=28 / min(rows, columns) / 5)
        assert picture.pixels.shape == (rows * columns, 1176)


def test_resolution_of_internvl_is_a_number_of_tiles(open_vlm) -> None:
    tower = open_vlm("internvl", max_tiles=3).vision
    image = blocks(400, 200, 1)
    for resolution, tiles in ((None, 2), (1, 1), (56 * 56, 1), (2 * 56 * 56, 2), (8 * 56 * 56, 8)):
        [picture] = tower.prepare([image], resolution=resolution)
        assert picture.layout.tiles == len(picture.pixels) == tiles + (tiles > 1)
    layout = tower.layout((400, 200))
    assert layout.rectangles == ((0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 1, 1))


def test_fixed_sizes_ignore_the_resolution(open_vlm) -> None:
    tower = open_vlm("janus").vision
    [one], [other] = (tower.prepare(IMAGES[:1], resolution=each) for each in (None, 10**6))
    assert torch.equal(one.pixels, other.pixels)
    # 80 x 60 in a square of 64: 8 lines of padding above and below 48.
    assert one.layout.rectangles == ((0, -8 / 48, 1, 56 / 48),)


def test_resolution_must_be_positive(tower) -> None:
    with pytest.raises(ConfigError, match="a resolution of 0 pixels"):
        tower.prepare(IMAGES, resolution=0)


def test_prompts_have_as_many_tokens_as_other_grids(vlm) -> None:
    """What enters on a grid of its own, and what the prompt leaves room for."""
    tower = vlm.vision
    for rows, columns in ((2, 2), (4, 2), (6, 10), (16, 4)):
        for tiles in (1, 3) if tower.tiled else (1,):
            layout = Layout(tiles, rows, columns, tower.extra, (WHOLE,) * tiles)
            if isinstance(tower, LlavaOnevisionTower) and tiles > 1:
                # Two tiles below each other, and padding on the left and right.
                layout = MosaicLayout(*astuple(layout), tile_rows=2, tile_columns=1, cut_columns=1)
            states = torch.ones(tiles, layout.tokens, tower.width)
            [entered] = tower.enter(tower.layers - 1, [states], [layout])
            assert len(entered.features) == vlm.family.visual_tokens(layout)


def test_a_grid_that_is_no_square_is_not_taken_for_one(open_vlm) -> None:
    """2x8 patches are merged as 2x8, not as 4x4."""
    tower = open_vlm("internvl").vision
    wide, square = Layout(1, 2, 8, 1), Layout(1, 4, 4, 1)
    states = torch.randn(1, 17, tower.width, generator=torch.Generator().manual_seed(0))
    one, other = (tower.enter(tower.layers, [states], [each])[0] for each in (wide, square))
    patches = states[:, 1:].view(1, 2, 4, 2, tower.width)
    for number in range(4):
        merged = tower.module.layernorm(patches[:, :, number]).flatten(1)
        close(one.features[number], tower.projectors["projector"](merged)[0])
    assert not torch.allclose(one.features, other.features)


def test_a_layout_has_a_rectangle_for_each_tile() -> None:
    with pytest.raises(ConfigError, match="3 tiles needs a rectangle for each, not 1"):
        Layout(3, 4, 4)
