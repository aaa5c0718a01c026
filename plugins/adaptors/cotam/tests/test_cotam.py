from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lossylens.adaptor import Needs, Training, TrainingPicture, TrainingPoint
from lossylens.codec import SOURCE, CodecPoint, Latents
from lossylens.errors import ConfigError
from lossylens.registry.plugins import load_registry
from lossylens.testing.pictures import picture
from lossylens.vlm import Condition, VlmIdentity
from lossylens_adaptor_cotam.adaptor import LatentFeatureAdaptor
from lossylens_adaptor_cotam.network import LatentFeatureAdapter, at_patches
from lossylens_adaptor_cotam.options import CotamAdaptorOptions, CotamTrainingOptions
from lossylens_adaptor_cotam.training import CotamTrainer
from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint
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
    for wrong in ({"low": 0.0, "high": 0.0}, {"low_first": 2.0}, {"clean": 0.1}, {"grid": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            options(**wrong)
