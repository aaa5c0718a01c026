"""The transform-neck on a tiny LLaVA behind ELIC's nano checkpoints."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lossylens.adaptor import Needs, Training, TrainingPicture, TrainingPoint
from lossylens.codec import CodecPoint, Square
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
    NeckOptions,
    NeckTrainingOptions,
)
from lossylens_adaptor_transform_neck.training import NeckTrainer
from lossylens_toolkit.clip.clip_testing import save_clip
from lossylens_toolkit.neural_codec.checkpoints import file_hash, read_checkpoint
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


def test_it_answers_from_latents_alone(trained: Path, vlm) -> None:
    where = point()
    [encoded] = adaptor(trained).encoder(vlm.vision)([None], [condition(where)])
    [shuffled] = adaptor(trained, latents="shuffled").encoder(vlm.vision)(
        [None], [condition(where)]
    )
    assert encoded.features.shape == shuffled.features.shape
    assert not torch.allclose(encoded.features, shuffled.features)
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
