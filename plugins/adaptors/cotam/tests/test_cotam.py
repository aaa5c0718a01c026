import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lossylens.adaptor import Needs, Training, TrainingPicture, TrainingPoint
from lossylens.codec import SOURCE, CodecPoint, Latents, Square
from lossylens.errors import ConfigError
from lossylens.registry.plugins import load_registry
from lossylens.testing.pictures import picture
from lossylens.vlm import Condition, VlmIdentity
from lossylens_adaptor_cotam.adaptor import AdaptedEncoder, LatentFeatureAdaptor
from lossylens_adaptor_cotam.network import LatentFeatureAdapter, at_patches
from lossylens_adaptor_cotam.options import (
    HOSTS,
    CotamAdaptorOptions,
    CotamTrainingOptions,
    FineTuningOptions,
)
from lossylens_adaptor_cotam.training import CotamTrainer, CotamTraining
from lossylens_toolkit.clip.model import load_clip
from lossylens_toolkit.neural_codec.checkpoints import file_hash, read_checkpoint
from lossylens_toolkit.transformers_vlm.vision_inputs import WHOLE
from lossylens_vlm_nano.plugin import NanoOptions
from lossylens_vlm_nano.vlm import Nano
from PIL.Image import Image

GIVEN = {"variant": "nano", "device": "cpu", "guidance": "none", "dtype": "float32"}


def png(image: Image) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def options(**values) -> CotamTrainingOptions:
    given = {"steps": 2, "batch": 2, "warmup": 0, "learning_rate": 1e-2, "device": "cpu"}
    return CotamTrainingOptions(**{**given, "validate_every": 2, "grid": 4, **values})


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def vlm() -> Nano:
    return Nano(NanoOptions())


@pytest.fixture(scope="module")
def identity(vlm: Nano) -> VlmIdentity:
    return VlmIdentity("nano", "nano", dict(vlm.provenance()))


@pytest.fixture(scope="module")
def points() -> list[TrainingPoint]:
    registry = load_registry()
    found = []
    for level in ("lambda0.0512", "lambda0.0128"):
        build = partial(registry.build_codec, "cotam-elic", level, GIVEN)
        codec = build()
        provenance = dict(codec.provenance())
        point = CodecPoint(
            "cotam-elic", level, "plain", level, {}, provenance=provenance, space=codec.space
        )
        found.append(TrainingPoint(point, build))
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def training(vlm, identity, points, cache, folder: Path) -> Training:
    named = [TrainingPicture(str(n), partial(png, picture(64 + 8 * n, 96))) for n in range(3)]
    return Training(vlm, identity, points, named[:2], named[2:], 0, folder, cache)


@pytest.fixture(scope="module")
def train(vlm, identity, points, cache, tmp_path_factory):
    def trained(**values) -> Path:
        folder = tmp_path_factory.mktemp("training")
        given = training(vlm, identity, points, cache, folder)
        return CotamTrainer(options(**values)).train(given).checkpoint

    return trained


@pytest.fixture(scope="module")
def checkpoint(train) -> Path:
    return train()


def shown(points, image: Image) -> tuple[Image, Condition]:
    codec = points[0].build()
    bitstream = codec.encode(image)
    condition = Condition(points[0].point, image.size, latents=codec.latents(bitstream))
    return codec.decode(bitstream), condition


def test_latents_lie_where_the_tile_looks() -> None:
    columns = torch.arange(8.0).expand(1, 4, 8).contiguous()
    whole = at_patches(columns, 16, (128, 64), [WHOLE], 4, 8)
    assert torch.allclose(whole[0], columns)  # a latent for each patch
    left, right = at_patches(columns, 16, (128, 64), [(0, 0, 0.5, 1), (0.5, 0, 1, 1)], 4, 4)
    assert torch.allclose(torch.cat([left, right], -1), columns)
    # What the codec padded is left out: 100 pixels are seven latents, of which the last is seen.
    cut = at_patches(columns, 16, (100, 64), [WHOLE], 1, 100)[0, 0, 0]
    assert cut[-1] == pytest.approx(99.5 / 16 - 0.5)
    cut = at_patches(columns, 16, (81, 64), [WHOLE], 1, 81)[0, 0, 0]
    assert cut[-1] == pytest.approx(80.5 / 16 - 0.5)  # of the sixth latent one pixel is seen
    # A codec that pads in the middle: the picture begins 28 pixels into what was coded.
    middle = at_patches(columns, 16, (70, 64), [WHOLE], 1, 70, (28, 0))[0, 0, 0]
    assert middle[[0, -1]].tolist() == pytest.approx([28.5 / 16 - 0.5, 97.5 / 16 - 0.5])
    # A square with a border shows nothing of the picture above and below it.
    padded = at_patches(columns + 1, 16, (128, 64), [(0, -0.5, 1, 1.5)], 4, 4)[0, 0]
    assert padded[[0, 3]].abs().max() == 0
    assert padded[[1, 2]].min() > 0


def test_an_adapter_begins_as_none_and_takes_any_grid() -> None:
    for extra in (0, 1):
        adapter = LatentFeatureAdapter(channels=5, width=64, extra=extra, grid=3)
        deltas = adapter(torch.randn(2, 5, 4, 6))
        assert deltas.shape == (2, extra + 24, 64)
        assert deltas.abs().max() == 0
        torch.nn.init.normal_(adapter.last.weight)
        first, second = adapter(torch.randn(2, 5, 4, 6))
        assert (first - second).abs().max() > 1e-3


def test_a_zero_adapter_is_no_adaptor(vlm, points, checkpoint, tmp_path) -> None:
    from lossylens_toolkit.neural_codec.checkpoints import write_checkpoint

    found = read_checkpoint(checkpoint)
    state = {n: v * (0 if n.startswith("adapter.last") else 1) for n, v in found.state.items()}
    write_checkpoint(tmp_path / "zero.safetensors", state, found.about)
    image, condition = shown(points, picture(80, 112))
    pictures = vlm.vision.prepare([image])
    plain = vlm.vision.encode(pictures)[0].features

    def adapted(path: Path, given: Condition) -> torch.Tensor:
        encode = LatentFeatureAdaptor(CotamAdaptorOptions(path)).encoder(vlm.vision)
        return encode(pictures, [given])[0].features

    assert torch.equal(adapted(tmp_path / "zero.safetensors", condition), plain)
    assert not torch.allclose(adapted(checkpoint, condition), plain, atol=1e-4)
    # A picture that no codec has touched is left alone.
    assert torch.equal(adapted(checkpoint, Condition(SOURCE, image.size)), plain)


def test_it_serves_its_codec_and_its_vlm_alone(identity, points, checkpoint) -> None:
    adaptor = LatentFeatureAdaptor(CotamAdaptorOptions(checkpoint))
    point = points[0].point
    assert adaptor.needs == Needs.PIXELS | Needs.LATENTS
    assert adaptor.fits(identity, point) == ""
    assert adaptor.is_seen(identity, point)
    unseen = replace(point, level="lambda0.0256")
    assert adaptor.fits(identity, unseen) == ""
    assert not adaptor.is_seen(identity, unseen)
    other = replace(point, provenance={"checkpoint": "another"})
    assert "another checkpoint of cotam-elic-nano" in adaptor.fits(identity, other)
    elsewhere = replace(point, space="elic-nano/lambda0.016")
    assert "not elic-nano/lambda0.016" in adaptor.fits(identity, elsewhere)
    stranger = VlmIdentity("nano", "mine", {"weights": "others"})
    assert "other weights than mine's" in adaptor.fits(stranger, point)


@pytest.mark.parametrize(
    "values",
    [
        {"reconstruction": False, "layer": 2},  # as Bridge has it
        {"low": 1.0, "high": 0.0},
        {"low": 0.0, "high": 1.0},
    ],
)
def test_variants(vlm, points, train, values) -> None:
    path = train(**values)
    adaptor = LatentFeatureAdaptor(CotamAdaptorOptions(path))
    image, condition = shown(points, picture(80, 112))
    decoded = values.get("reconstruction", True)
    assert adaptor.needs == (Needs.PIXELS | Needs.LATENTS if decoded else Needs.LATENTS)
    pictures = vlm.vision.prepare([image]) if decoded else [None]
    [found] = adaptor.encoder(vlm.vision)(pictures, [condition])
    expected = vlm.vision.encode(vlm.vision.prepare([image]))[0].features
    assert found.features.shape == expected.shape
    assert torch.isfinite(found.features).all()


@pytest.mark.parametrize(("latents", "most"), [("other", 2), ("none", 1)])
def test_controls_get_nothing_of_the_picture(vlm, points, identity, train, latents, most) -> None:
    adaptor = LatentFeatureAdaptor(CotamAdaptorOptions(train(latents=latents)))
    assert "a control" in adaptor.remark(identity)
    image, condition = shown(points, picture(80, 112))
    pictures = vlm.vision.prepare([image])
    encode = adaptor.encoder(vlm.vision)
    assert condition.latents is not None
    random = np.random.default_rng(0)
    found = set()
    for _ in range(6):
        values = random.normal(size=condition.latents.values.shape).astype(np.float32)
        given = replace(condition, latents=Latents(values, "", 16))
        found.add(encode(pictures, [given])[0].features.numpy().tobytes())
    # Whatever the picture's own latents: those of the two training pictures, or none.
    assert len(found) <= most
    assert vlm.vision.encode(pictures)[0].features.numpy().tobytes() not in found


def test_what_contradicts_is_refused(vlm, identity, points, cache, tmp_path) -> None:
    foreign = replace(points[1], point=replace(points[1].point, space="tcm/q1"))
    for chosen in ([], [points[0], foreign]):
        given = training(vlm, identity, chosen, cache, tmp_path)
        with pytest.raises(ConfigError, match="one checkpoint of one codec"):
            CotamTrainer(options()).train(given)
    with pytest.raises(ConfigError, match=r"training\.layer 99"):
        CotamTrainer(options(layer=99)).train(training(vlm, identity, points, cache, tmp_path))
    with pytest.raises(ConfigError, match=r"training\.heads 7: it does not divide the encoder's"):
        CotamTrainer(options(heads=7)).train(training(vlm, identity, points, cache, tmp_path))
    for wrong in ({"low": 0.0, "high": 0.0}, {"low_first": 2.0}, {"clean": 0.1}, {"grid": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            options(**wrong)


def test_a_codec_is_fine_tuned_with_its_adapter(vlm, points, identity, cache, tmp_path) -> None:
    given = training(vlm, identity, points, cache, tmp_path)
    chosen = options(fine_tune=FineTuningOptions(rate=4.0, codec_rate=1.0), low_first=0.0)
    made = CotamTrainer(chosen).train(given)
    assert set(made.codecs) == {each.point.level for each in points}
    [path] = set(made.codecs.values())
    # Its decoder is the one that it was; encoder, entropy model and their gains are not.
    old = read_checkpoint(points[0].build().checkpoint).state
    new = read_checkpoint(path).state
    same = {name for name in new if torch.equal(new[name], old[name].float())}
    decoder = {name for name in new if name.startswith(("g_s.", "level_gains.synthesis."))}
    assert decoder
    assert decoder <= same
    changed = new.keys() - same
    for part in ("g_a.", "h_a.", "h_s.", "level_gains.analysis.", "entropy_bottleneck."):
        assert any(name.startswith(part) for name in changed), part
    # The codec loads it, and the adapter fits that codec at any level, and no other.
    registry = load_registry()
    own = {**GIVEN, "variant": "official", "checkpoints": str(path.parent)}
    codec = registry.build_codec("cotam-elic", "lambda0.0256", own)
    image = picture(80, 112)
    assert codec.decode(codec.encode(image)).size == image.size
    provenance = {"checkpoint": file_hash(path)}
    assert codec.provenance()["checkpoint"] == provenance["checkpoint"]
    adaptor = LatentFeatureAdaptor(CotamAdaptorOptions(made.checkpoint))
    tuned = replace(points[0].point, level="lambda0.0256", provenance=provenance, space=codec.space)
    assert adaptor.fits(identity, tuned) == ""
    assert "another checkpoint of cotam-elic" in adaptor.fits(identity, points[0].point)
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    for level in curve[-1]["validation"].values():
        assert level["bpp"] > 0
        assert level["after"] > 0


def test_a_weight_of_the_rate_lowers_the_rate(vlm, points, identity, cache, tmp_path) -> None:
    rates = {}
    for weight in (1e-9, 1e4):
        folder = tmp_path / str(weight)
        tune = FineTuningOptions(rate=weight, codec_rate=1.0)
        given = training(vlm, identity, points, cache, folder)
        # A step of AdamW at this rate changes what is coded.
        CotamTrainer(options(fine_tune=tune, steps=3, validate_every=3, learning_rate=2e-3)).train(
            given
        )
        last = json.loads((folder / "curve.jsonl").read_text().splitlines()[-1])
        rates[weight] = sum(level["bpp"] for level in last["validation"].values())
    assert rates[1e4] < rates[1e-9]


def test_what_is_tuned_must_be_of_variable_rate(vlm, identity, cache, tmp_path) -> None:
    registry = load_registry()
    build = partial(
        registry.build_codec, "elic", "lambda0.016", {"variant": "nano", "device": "cpu"}
    )
    codec = build()
    point = CodecPoint(
        "elic", "lambda0.016", provenance=dict(codec.provenance()), space=codec.space
    )
    given = training(vlm, identity, [TrainingPoint(point, build)], cache, tmp_path)
    with pytest.raises(ConfigError, match="elic is no codec of variable rate"):
        CotamTrainer(options(fine_tune=FineTuningOptions(rate=1.0))).train(given)


def test_the_pooled_feature_is_clips(points, cache, tmp_path) -> None:
    llava = load_registry().build_vlm("nano-llava", {})
    identity = VlmIdentity("nano-llava", "nano-llava", dict(llava.provenance()))
    named = [TrainingPicture(str(n), partial(png, picture(96, 96, n))) for n in range(3)]
    given = Training(llava, identity, points, named[:2], named[2:], 0, tmp_path, cache)
    chosen = options(match="pooled", pooled_by="nano-clip", low=0.0)
    loop = CotamTraining(given, chosen)
    pair = loop._pairs(1)[0]
    terms = loop.loss([pair])
    clip = load_clip("nano-clip")
    one, other = (
        clip.embed_images(llava.vision.prepare([image]))
        for image in (pair.variants[0].image, pair.original)
    )
    # The adapter begins as none, so what differs is what the codec has done.
    expected = (one - other).square().mean() / other.var()
    assert terms["high"].item() == pytest.approx(expected.item(), rel=2e-2)  # targets are halves
    terms["loss"].backward()
    assert loop._adapted.adapter.last.weight.grad.abs().max() > 0
    loop.run()
    assert LatentFeatureAdaptor(CotamAdaptorOptions(loop.export().checkpoint)).fits(
        identity, points[0].point
    ) == ("")


def test_a_vlm_without_clip_has_no_pooled_feature(vlm, identity, points, cache, tmp_path) -> None:
    given = training(vlm, identity, points, cache, tmp_path)
    with pytest.raises(ConfigError, match="nano-clip is not the CLIP whose image encoder"):
        CotamTrainer(options(match="pooled", pooled_by="nano-clip")).train(given)
    for wrong in ({"match": "pooled"}, {"pooled_by": "nano-clip"}):
        with pytest.raises(ValueError, match="go together"):
            options(**wrong)
    with pytest.raises(ValueError, match="leave latents: own"):
        options(fine_tune=FineTuningOptions(rate=1.0), latents="none")


def test_latents_of_squares_lie_in_the_square(vlm, checkpoint) -> None:
    columns = np.arange(4, dtype=np.float32)[None, None].repeat(4, 1)
    point = CodecPoint("cotam-elic", "lambda0.0128", square=Square(64, "pad"))
    condition = Condition(point, (640, 320), latents=Latents(columns, "", 16))
    adapted = AdaptedEncoder(
        vlm.vision,
        LatentFeatureAdapter(1, vlm.vision.width, 0, 4),
        reconstruction=False,
        layer=0,
        latents="own",
    )
    layout = vlm.vision.layout((64, 64))
    placed = adapted._placed(condition, layout)
    assert placed.shape[-2:] == (layout.rows, layout.columns)
    assert placed[0, 0, 0].tolist() == sorted(placed[0, 0, 0].tolist())
    assert placed.max() == 3  # and not the few that a picture of 640x320 would have there
    assert placed.min() == 0


def test_checkpoints_of_the_package_are_chosen_by_host() -> None:
    for host in HOSTS:
        options = CotamAdaptorOptions(host=host)
        assert read_checkpoint(options.path).about["vlm"] == host
    with pytest.raises(ValueError, match="host 'qwen' is not one of nano, nano-llava"):
        CotamAdaptorOptions(host="qwen")
