"""The transform-neck on a tiny LLaVA behind ELIC's nano checkpoints."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lossylens.adaptor import Needs, Training, TrainingPicture, TrainingPoint
from lossylens.codec import SOURCE, CodecPoint, Square
from lossylens.errors import ConfigError
from lossylens.images.pixels import squared
from lossylens.registry.plugins import load_registry
from lossylens.vlm import Condition, VlmIdentity
from lossylens_adaptor_transform_neck.adaptor import NeckAdaptor
from lossylens_adaptor_transform_neck.hosts import host_side, layout_of
from lossylens_adaptor_transform_neck.neck import NeckShape, TransformNeck
from lossylens_adaptor_transform_neck.neck_file import read_neck
from lossylens_adaptor_transform_neck.options import (
    ClassOptions,
    JointOptions,
    NeckOptions,
    NeckTrainingOptions,
)
from lossylens_adaptor_transform_neck.placing import on_patches
from lossylens_adaptor_transform_neck.training import NeckTrainer
from lossylens_toolkit.clip.clip_testing import save_clip
from lossylens_toolkit.neural_codec.checkpoints import file_hash, read_checkpoint, write_checkpoint
from lossylens_toolkit.testing.small_networks import DCAE, TCM, TIC, TIC_SERIAL
from lossylens_toolkit.training.pairs import CodedPictures, Pairs
from lossylens_toolkit.transformers_vlm.families.internvl import InternVLVlm
from lossylens_toolkit.transformers_vlm.families.janus import JanusVlm
from lossylens_toolkit.transformers_vlm.families.llava import LlavaVlm
from lossylens_toolkit.transformers_vlm.families.qwen2_5_vl import Qwen25Vlm
from lossylens_toolkit.transformers_vlm.vlm_options import (
    InternVLOptions,
    JanusOptions,
    LlavaOptions,
    Qwen25Options,
)
from lossylens_toolkit.transformers_vlm.vlm_testing import SAVE, save_llava
from PIL import Image
from transformers import CLIPModel, LlavaForConditionalGeneration

#: 4x4 latents, and 4x4 patches of 14 pixels.
SQUARE = Square(64)
CLASSES = ("circle", "star")


def png(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((80, 60)).save(buffer, "PNG")
    return buffer.getvalue()


def built(level: str, **options: object):
    registry = load_registry()
    found = registry.find("codec", "elic")
    chosen = registry.options(found, {"dtype": "float32", **options}, "")
    return registry.build_codec("elic", found.spec.level(level), chosen)


def point(level: str = "lambda0.004", square: Square | None = SQUARE, **options: object):
    codec = built(level, **(options or {"variant": "nano"}))
    return CodecPoint(
        "elic",
        level,
        "elic",
        f"key of {level} {options}",
        {"lambda": 1},
        dict(codec.provenance()),
        codec.space,
        square,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """A LLaVA and the CLIP that it sees through."""
    folder = tmp_path_factory.mktemp("models")
    save_clip(folder / "clip", vision={"num_hidden_layers": 5})
    save_llava(folder / "llava")
    clip = CLIPModel.from_pretrained(folder / "clip")
    llava = LlavaForConditionalGeneration.from_pretrained(folder / "llava")
    llava.model.vision_tower.load_state_dict(clip.vision_model.state_dict())
    llava.save_pretrained(folder / "llava")
    return folder / "llava", folder / "clip"


@pytest.fixture(scope="module")
def vlm(folders) -> LlavaVlm:
    return LlavaVlm(LlavaOptions(checkpoint=str(folders[0])))


@pytest.fixture(scope="module")
def identity(vlm) -> VlmIdentity:
    return VlmIdentity("llava-1.5-7b", "mine", dict(vlm.provenance()))


def training(vlm, identity, folder: Path, where: CodecPoint, level: str = "lambda0.004"):
    pictures = [TrainingPicture(f"{n}", partial(png, n), label=CLASSES[n % 2]) for n in range(6)]
    build = partial(built, level, variant="nano")
    points = [TrainingPoint(where, build)]
    return Training(vlm, identity, points, pictures[:4], pictures[4:], 3, folder)


def options(**given: object) -> NeckTrainingOptions:
    chosen = {"steps": 2, "batch": 2, "validate_every": 2, "learning_rate": 1e-3, **given}
    return NeckTrainingOptions(**chosen)


@pytest.fixture(scope="module")
def trained(vlm, identity, folders, tmp_path_factory) -> Path:
    """A neck of phase 1 with all three stages."""
    chosen = options(steps=3, classes=ClassOptions(str(folders[1]), ["a {}"]), validate_every=1)
    folder = tmp_path_factory.mktemp("d1")
    return NeckTrainer(chosen).train(training(vlm, identity, folder, point())).checkpoint


def adaptor(*paths: Path, **given: object) -> NeckAdaptor:
    return NeckAdaptor(NeckOptions(list(paths), **given))


def condition(where: CodecPoint, level: str = "lambda0.004") -> Condition:
    codec = built(level, variant="nano")
    picture = Image.open(io.BytesIO(png(9))).convert("RGB")
    bitstream = codec.encode(squared(picture, SQUARE))
    return Condition(where, picture.size, None, codec.latents(bitstream))


# ------------------------------------------------------------------ the module


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        (NeckShape(320, 1024, 16, 16), 13_191_168),
        (NeckShape(192, 1024, 16, 16), 13_060_096),
        (NeckShape(320, 1024, 24, 24), 13_518_848),
    ],
)
def test_it_has_as_many_parameters_as_published(shape: NeckShape, parameters: int) -> None:
    with torch.device("meta"):
        neck = TransformNeck(shape)
    assert sum(each.numel() for each in neck.parameters()) == parameters


def test_a_latent_becomes_the_token_at_its_place() -> None:
    neck = TransformNeck(NeckShape(8, 32, 3, 4, 1, 1, 4, 64)).eval()
    block = neck.transformer.resblocks[0]
    with torch.no_grad():  # nothing passes between tokens
        block.attn.out_proj.weight.zero_()
        latents = torch.randn(1, 8, 3, 4)
        moved = latents.clone()
        moved[0, :, 1, 2] += 1
        changed = (neck(moved) - neck(latents))[0].abs().sum(-1) > 1e-6
    assert changed.nonzero().flatten().tolist() == [1 + 1 * 4 + 2]


def test_a_file_of_the_authors(tmp_path: Path, vlm, identity) -> None:
    """A pickle with the codec, the neck as ``adapter``, and what training left behind."""
    shape = NeckShape(32, 32, 4, 4, 1, 1, 1, 64)
    neck = TransformNeck(shape)
    path = tmp_path / "d1_1.pth.tar"
    codec = {"g_a.0.weight": torch.zeros(3)}
    rest = {"optimizer": {"state": {}}, "lr_scheduler": {"last_epoch": 3}}
    adapter = {f"module.{name}": value for name, value in neck.state_dict().items()}
    torch.save({"epoch": 59, "state_dict": codec, "adapter": adapter, **rest}, path)
    file = read_neck(path)
    assert (file.shape, file.entry, file.official) == (shape, 2, True)
    given = torch.randn(1, 32, 4, 4)
    assert torch.equal(file.load()(given), neck.eval()(given))
    # It belongs to the codec in the same file.
    own = replace(point(), provenance={"checkpoint": file_hash(path)})
    assert adaptor(path).fits(identity, own) == ""
    assert "other weights of the codec" in adaptor(path).fits(identity, point())
    [encoded] = adaptor(path).encoder(vlm.vision)([None], [condition(own)])
    assert encoded.features.shape[0] == 16


def test_files_that_hold_no_neck(tmp_path: Path) -> None:
    path = tmp_path / "codec.pth.tar"
    torch.save({"state_dict": {"g_a.0.weight": torch.zeros(3)}}, path)
    with pytest.raises(ConfigError, match="holds no state dict called adapter"):
        read_neck(path)
    torch.save({"adapter": {"conv.weight": torch.zeros(3)}}, tmp_path / "other.pth.tar")
    with pytest.raises(ConfigError, match="holds no transform-neck"):
        read_neck(tmp_path / "other.pth.tar")


# ------------------------------------------------------------------ training and use


def test_three_stages(trained: Path, identity) -> None:
    about = read_checkpoint(trained).about
    assert (about["method"], about["phase"], about["entry"]) == ("transform-neck", "d1", 2)
    assert about["vlm_weights"] == identity.weights
    curve = (trained.parent / "curve.jsonl").read_text().splitlines()
    rows = [eval(line) for line in curve]
    losses = [row["training"] for row in rows]
    assert losses[0]["loss"] == pytest.approx(losses[0]["cross_entropy"])
    both = losses[1]["cross_entropy"] + 100 * losses[1]["distillation"]
    assert losses[1]["loss"] == pytest.approx(both, rel=1e-4)
    assert losses[2]["loss"] == pytest.approx(100 * losses[2]["distillation"], rel=1e-4)
    assert set(rows[2]["validation"]) == {"distillation", "accuracy"}


def test_its_control_with_other_pictures(trained: Path, vlm) -> None:
    where = point()
    encode = adaptor(trained, latents="other").encoder(vlm.vision)
    [found] = encode([None], [condition(where)])
    [again] = encode([None], [condition(where)])
    [own] = adaptor(trained).encoder(vlm.vision)([None], [condition(where)])
    assert torch.equal(found.features, again.features)
    assert not torch.allclose(found.features, own.features)
    others = read_neck(trained).others()
    assert others.shape[1:] == condition(where).latents.values.shape
    assert len(others.unique(dim=0)) > 1


def test_it_answers_from_latents_alone(trained: Path, vlm) -> None:
    where = point()
    [encoded] = adaptor(trained).encoder(vlm.vision)([None], [condition(where)])
    [shuffled] = adaptor(trained, latents="shuffled").encoder(vlm.vision)(
        [None], [condition(where)]
    )
    assert encoded.features.shape == shuffled.features.shape
    assert not torch.allclose(encoded.features, shuffled.features)
    # Without latents, any picture is the same.
    given = condition(where)
    other = replace(given, latents=replace(given.latents, values=given.latents.values + 1))
    blind = adaptor(trained, latents="none").encoder(vlm.vision)([None, None], [given, other])
    assert torch.allclose(blind[0].features, blind[1].features, atol=1e-4)
    assert not torch.allclose(encoded.features, blind[0].features)
    # Of 80x60 the square shows a border above and below.
    [(left, top, right, bottom)] = encoded.layout.rectangles
    assert (left, right) == (0, 1)
    assert (top, bottom) == pytest.approx((-1 / 6, 7 / 6))


def test_what_it_was_not_trained_for_is_refused_by_name(trained: Path, vlm, identity) -> None:
    mine, where = adaptor(trained), point()
    assert mine.fits(identity, where) == ""
    other = point("lambda0.008")
    assert mine.fits(identity, other) == (
        "no transform-neck for elic lambda0.008, there is one for elic lambda0.004"
    )
    changed = replace(where, provenance={"checkpoint": "0" * 64})
    assert "was trained on other weights of the codec" in mine.fits(identity, changed)
    assert mine.fits(identity, replace(where, square=None)) == (
        "pictures are coded as they are; it needs square: {side: 64, fit: pad} of the codec"
    )
    cropped = replace(where, square=Square(64, "crop"))
    assert "are cropped to squares of 64x64, and those of its training" in mine.fits(
        identity, cropped
    )
    someone = VlmIdentity("llava-1.5-7b", "other", {"weights a": "b"})
    assert "other weights than other's" in mine.fits(someone, where)
    assert "needs the neck of another level" in adaptor(trained, latents="wrong").fits(
        identity, where
    )


def test_latents_alone_are_not_coded_for_a_training(vlm, identity, tmp_path: Path) -> None:
    where = point()
    given = training(vlm, identity, tmp_path, where)
    coded = CodedPictures(given.pictures, given.points, tmp_path / "cache", Needs.LATENTS)
    pairs = Pairs(coded, 8, seed=1)
    batch = pairs.__getitems__(range(8))
    codec = built("lambda0.004", variant="nano")
    for number, pair in enumerate(batch):
        [variant] = pair.variants
        wanted = codec.latents(codec.encode(squared(pair.original, SQUARE)))
        found = variant.condition.latents
        assert (found.space, found.stride, variant.image) == (wanted.space, wanted.stride, None)
        np.testing.assert_allclose(found.values, wanted.values, rtol=0, atol=1e-4)
        assert pairs[number].number == pair.number
        assert pairs[number].variants[0].condition.latents is found
    assert not any(each.is_file() for each in (tmp_path / "cache").rglob("*"))


def test_classes_are_labels(vlm, identity, folders, tmp_path: Path) -> None:
    chosen = options(classes=ClassOptions(str(folders[1]), ["a {}"]))
    given = training(vlm, identity, tmp_path / "a", point())
    unlabelled = [replace(each, label="") for each in given.pictures]
    with pytest.raises(ConfigError, match=r"named as their class.*scenes"):
        NeckTrainer(chosen).train(replace(given, pictures=unlabelled))
    other = [replace(each, label="heart") for each in given.validation]
    with pytest.raises(ConfigError, match="validation: 4 is of no class of the training"):
        NeckTrainer(chosen).train(replace(given, validation=other, folder=tmp_path / "b"))


def test_a_codec_is_trained_with_its_neck(trained: Path, vlm, identity, tmp_path: Path) -> None:
    before = file_hash(built("lambda0.004", variant="nano").checkpoint)
    for phase in ("d2", "d3"):
        chosen = options(phase=phase, start=trained, learning_rate=1e-2, steps=1)
        folder = tmp_path / phase
        made = NeckTrainer(chosen).train(training(vlm, identity, folder, point()))
        [path] = made.codecs.values()
        official = point(checkpoints=path.parent)
        assert official.provenance["checkpoint"] == file_hash(path) != before
        # In a folder it is found, and its codec is not taken for a neck.
        assert adaptor(folder).fits(identity, official) == ""
        assert "trained on other weights" in adaptor(made.checkpoint).fits(identity, point())
        old = read_checkpoint(built("lambda0.004", variant="nano").checkpoint).state
        new = read_checkpoint(path).state
        kept = {name for name in new if torch.equal(new[name], old[name].float())}
        # What makes pictures of latents is of no use in d3.
        synthesis = {name for name in new if name.startswith("g_s.")}
        assert (synthesis <= kept) == (phase == "d3")
        assert not {name for name in kept if name.startswith("g_a.") and "weight" in name}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clean": 0.1}, "clean must be 0"),
        ({"phase": "d2"}, "phase d2 needs start"),
        ({"hidden": -5}, "hidden must be at least 1"),
        ({"match": "cls"}, "match: cls needs classes.clip"),
        ({"stages": [0.5, 0.2]}, "two ascending shares"),
    ],
)
def test_options_that_contradict_each_other(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(**given)


def test_latents_and_patches_must_lie_one_to_one(vlm, identity, tmp_path: Path) -> None:
    assert host_side(vlm.vision, 4) == 56
    with pytest.raises(ConfigError, match=r"4x4 patches, and there are 8x8 latents.*side: 64"):
        host_side(vlm.vision, 8)
    where = point(square=None)
    with pytest.raises(ConfigError, match="pictures are coded as squares"):
        NeckTrainer(options()).train(training(vlm, identity, tmp_path, where))


@pytest.mark.parametrize(("offset", "first"), [((0, 0), 0), ((32, 16), 2)])
def test_latents_of_padding_are_left_out(offset: tuple[int, int], first: int) -> None:
    columns = torch.arange(16.0).expand(3, 16, 16)
    found = on_patches(columns, 16, offset, 12)
    assert found.shape == (3, 12, 12)
    assert found[0, 0].tolist() == [*range(first, first + 12)]


@pytest.mark.parametrize(
    ("stride", "offset", "rows", "message"),
    [
        (64, (0, 0), 4, "latents of 64x64 pixels, and a neck takes those of 16x16"),
        (16, (8, 8), 4, "between the patches; code at another side"),
        (16, (0, 0), 17, "the latents are 16x16, and the neck takes 17x17"),
    ],
)
def test_latents_that_lie_on_no_patches(stride: int, offset, rows: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        on_patches(torch.zeros(3, 16, 16), stride, offset, rows)


#: Small networks of codecs that pad a square of 64: to 128 in the middle of it (DCAE), to 256 in
#: the middle (TCM), and to 256 and 128 at right and bottom (TIC).
PADDING = {
    "dcae": ("dcae", {}, DCAE),
    "tcm": ("tcm", {}, TCM),
    "tic": ("tic", {}, TIC),
    "tic-serial": ("tic", {"variant": "serial"}, TIC_SERIAL),
}


@pytest.fixture(scope="module")
def padding_codecs(tmp_path_factory) -> dict[str, tuple[CodecPoint, Callable[[], Any]]]:
    """The codecs of ``PADDING`` with random weights, by name: point and what builds them."""
    registry, found = load_registry(), {}
    for name, (codec, chosen, small) in PADDING.items():
        plugin = registry.find("codec", codec)
        level = plugin.spec.levels[0]
        module = importlib.import_module(f"lossylens_codec_{codec}.network")
        torch.manual_seed(0)
        state = module.official_state_dict(module.build(**small))
        folder = tmp_path_factory.mktemp(name)
        about = {"codec": codec, "level": level.name, "config": small}
        write_checkpoint(folder / f"{level.name}.safetensors", state, about)
        given = registry.options(plugin, {"checkpoints": str(folder), **chosen}, "")
        build = partial(registry.build_codec, codec, level, given)
        made = build()
        where = CodecPoint(
            codec, level.name, name, name, {}, dict(made.provenance()), made.space, SQUARE
        )
        found[name] = (where, build)
    return found


@pytest.mark.parametrize("name", PADDING)
def test_behind_codecs_that_pad(padding_codecs, vlm, identity, name: str, tmp_path: Path) -> None:
    where, build = padding_codecs[name]
    given = replace(
        training(vlm, identity, tmp_path / "d1", where), points=[TrainingPoint(where, build)]
    )
    path = NeckTrainer(options(steps=1)).train(given).checkpoint
    assert adaptor(path).fits(identity, where) == ""
    codec = build()
    square = squared(Image.open(io.BytesIO(png(9))).convert("RGB"), SQUARE)
    latents = codec.latents(codec.encode(square))
    assert latents.values.shape[1:] > (4, 4)
    encode = adaptor(path).encoder(vlm.vision)
    [found] = encode([None], [Condition(where, (80, 60), None, latents)])
    # What is outside of the square says nothing.
    left, top = (each // 16 for each in latents.offset)
    other = np.full_like(latents.values, 9)
    inside = (slice(None), slice(top, top + 4), slice(left, left + 4))
    other[inside] = latents.values[inside]
    [same] = encode([None], [Condition(where, (80, 60), None, replace(latents, values=other))])
    assert torch.equal(found.features, same.features)
    joint = options(
        phase="d2", start=path, steps=1, learning_rate=1e-3, joint=JointOptions(multiplier=1.0)
    )
    again = replace(given, folder=tmp_path / "d2")
    if name == "tic-serial":
        with pytest.raises(ConfigError, match="are not the latents that it codes"):
            NeckTrainer(joint).train(again)
    else:
        assert NeckTrainer(joint).train(again).checkpoint.is_file()


def test_context_that_is_not_compressed_is_shown_as_it_is(trained: Path, vlm) -> None:
    [picture] = vlm.vision.prepare([Image.open(io.BytesIO(png(5))).convert("RGB")])
    where = point()
    conditions = [Condition(SOURCE, (80, 60)), condition(where)]
    context, asked = adaptor(trained).encoder(vlm.vision)([picture, None], conditions)
    [plain] = vlm.vision.encode([picture])
    [alone] = adaptor(trained).encoder(vlm.vision)([None], conditions[1:])
    assert torch.equal(context.features, plain.features)
    assert torch.allclose(asked.features, alone.features, atol=1e-4)


def test_two_necks_for_one_codec_are_refused(trained: Path, identity, tmp_path: Path) -> None:
    """Even where one is for another VLM, as what serves is chosen by the codec."""
    held = read_checkpoint(trained)
    strange = {**held.about, "vlm": "other", "vlm_weights": "0" * 64}
    write_checkpoint(tmp_path / "another.safetensors", dict(held.state), strange)
    both = adaptor(tmp_path / "another.safetensors", trained)
    reason = both.fits(identity, point())
    assert "several are for elic lambda0.004" in reason
    assert str(trained) in reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"blocks": 2}, "has 1 blocks, not training.blocks, 2"),
        ({"hidden": 7}, "wide inside, not training.hidden, 7"),
        ({"entry": 1}, "enters at layer 2, not at training.entry, 1"),
    ],
)
def test_a_neck_to_begin_with_that_differs(
    trained: Path, vlm, identity, given: dict, message: str, tmp_path: Path
) -> None:
    chosen = options(start=trained, **given)
    with pytest.raises(ConfigError, match=message):
        NeckTrainer(chosen).train(training(vlm, identity, tmp_path, point()))


def test_a_neck_for_other_latents_is_nothing_to_begin_with(
    trained: Path, vlm, identity, padding_codecs, tmp_path: Path
) -> None:
    where, build = padding_codecs["tic"]
    given = training(vlm, identity, tmp_path, where)
    given = replace(given, points=[TrainingPoint(where, build)])
    with pytest.raises(ConfigError, match="takes latents of 32 channels, not of 12"):
        NeckTrainer(options(start=trained)).train(given)


@pytest.mark.parametrize("given", [{"blocks": 100}, {"hidden": 10**6}])
def test_necks_that_are_too_large(vlm, identity, given: dict, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="training: no such neck"):
        NeckTrainer(options(**given)).train(training(vlm, identity, tmp_path, point()))


@pytest.mark.parametrize(
    ("name", "kind", "chosen", "side", "extra"),
    [
        ("qwen2_5_vl", Qwen25Vlm, Qwen25Options(min_pixels=56 * 56), 56, 0),
        ("internvl", InternVLVlm, InternVLOptions(max_tiles=3), 56, 1),
        ("janus", JanusVlm, JanusOptions(), 64, 0),
    ],
)
def test_hosts_other_than_clip(tmp_path: Path, name, kind, chosen, side: int, extra: int) -> None:
    """4x4 latents lie on the patches of every encoder that sees a square as one tile."""
    SAVE[name](tmp_path)
    host = kind(replace(chosen, checkpoint=str(tmp_path))).vision
    assert host_side(host, 4) == side
    layout = layout_of(host, 4, SQUARE, (80, 60))
    assert (layout.rows, layout.columns, layout.extra) == (4, 4, extra)
    neck = TransformNeck(NeckShape(8, host.width, 4, 4, extra, 1, 1, 16))
    with torch.no_grad():
        [encoded] = host.enter(1, [neck(torch.randn(1, 8, 4, 4))], [layout])
    [original] = host.encode(host.prepare([Image.new("RGB", (side, side))]))
    assert encoded.features.shape == original.features.shape
