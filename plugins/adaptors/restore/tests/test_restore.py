"""Restoration of pictures, by re-application of JPEG and by a small network."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lossylens.adaptor import Needs, Training, TrainingPicture, TrainingPoint
from lossylens.codec import SOURCE, CodecPoint
from lossylens.errors import BitstreamError, ConfigError, RequirementError
from lossylens.registry.plugins import load_registry
from lossylens.run.picture_distances import psnr
from lossylens.vlm import Condition, VlmIdentity
from lossylens_adaptor_restore import network as network_module
from lossylens_adaptor_restore.adaptor import Restorer
from lossylens_adaptor_restore.network import RestorationNetwork, read_network, restored
from lossylens_adaptor_restore.options import (
    RestorationLoss,
    RestoreOptions,
    RestoreTrainingOptions,
    missing,
)
from lossylens_adaptor_restore.shifts import offsets, reapplied
from lossylens_adaptor_restore.training import RestoreTrainer
from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint, write_checkpoint
from lossylens_vlm_nano.plugin import NanoOptions
from lossylens_vlm_nano.vlm import Nano
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

Q1 = CodecPoint("jpeg", "q1", "jpeg")
ANYONE = VlmIdentity("internvl3-1b", "mine", {"weights x": "y"})


def picture(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """Smooth colours, which JPEG breaks into blocks."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **{"quality": 5, **settings})
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


# ------------------------------------------------------------------ shifts


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(120, 90), (37, 61)])
def test_more_shifts_are_nearer_to_the_original(subsampling, size):
    original = picture(1, size)
    bitstream = jpeg(original, subsampling=subsampling)
    found = [psnr(original, reapplied(opened(bitstream), bitstream, n)) for n in (1, 4, 16)]
    assert found[0] == psnr(original, opened(bitstream))
    assert found[0] + 0.2 < found[1] < found[2]


def test_the_tables_are_those_of_the_bitstream(monkeypatch):
    """Coded again with other tables, a picture would lose more, or keep its blocks."""
    written = []
    save = Image.Image.save

    def spy(self, buffer, *given, **settings):
        save(self, buffer, *given, **settings)
        written.append(buffer.getvalue())

    tables = [list(range(10, 74)), list(range(120, 184))]
    bitstream = jpeg(picture(2), qtables=tables, quality=-1, subsampling="4:2:2")
    decoded = opened(bitstream)
    monkeypatch.setattr(Image.Image, "save", spy)
    reapplied(decoded, bitstream, 3)
    assert len(written) == 2
    for each in (bitstream, *written):
        with Image.open(io.BytesIO(each)) as file:
            assert get_sampling(file) == 1  # 4:2:2
            assert [list(table) for table in file.quantization.values()] == tables


def test_places_of_the_grid():
    found = list(offsets(64))
    assert {(down % 8, right % 8) for down, right in found} == {
        (down, right) for down in range(8) for right in range(8)
    }
    for count in (4, 16, 64):
        rows, columns = (np.array(found[:count]).T % 8).tolist()
        assert sorted(rows) == sorted(columns)
        assert np.mean(rows) == 4 - 4 / count**0.5
    # Blocks of chroma are of 16 pixels, and are met at both of their halves.
    assert (
        {down // 8 for down, _ in found[:16]} == {right // 8 for _, right in found[:16]} == {0, 1}
    )


@pytest.mark.parametrize(
    ("bitstream", "message"),
    [
        (b"no picture", "is no JPEG file: "),
        (jpeg(picture(0).convert("L")), "a JPEG of 1 components cannot"),
        (jpeg(picture(0))[:300], "is no JPEG file: "),
    ],
)
def test_bitstreams_that_are_no_jpeg_of_colours(bitstream, message):
    adaptor = Restorer(RestoreOptions(method="shifts"))
    with pytest.raises(BitstreamError, match=message):
        adaptor.picture(picture(0), Condition(Q1, (120, 90), bitstream))


def test_shifts_serve_jpeg_alone():
    adaptor = Restorer(RestoreOptions(method="shifts", map={"mozjpeg": "jpeg"}))
    assert Needs.BITSTREAM in adaptor.needs
    assert adaptor.fits(ANYONE, Q1) == adaptor.fits(ANYONE, CodecPoint("mozjpeg", "q9")) == ""
    webp = CodecPoint("webp", "q1", "my-webp")
    assert adaptor.fits(ANYONE, webp) == "method shifts is for JPEG, and my-webp is webp"
    assert adaptor.is_seen(ANYONE, Q1) is None
    assert set(adaptor.provenance()) == {"pillow", "jpeg_library"}
    # What is context comes without a bitstream.
    assert adaptor.picture(picture(3), Condition(SOURCE, (120, 90))) == picture(3)


# ------------------------------------------------------------------ network


def some_network() -> RestorationNetwork:
    torch.manual_seed(0)
    network = RestorationNetwork(8, [1, 3])
    torch.nn.init.normal_(network.tail.weight, std=0.05)
    return network.eval()


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (63, 50), (150, 97)])
def test_a_tile_has_no_border_of_its_own(monkeypatch, size):
    network, image = some_network(), picture(4, size)
    whole = restored(network, image)
    assert whole.size == size
    monkeypatch.setattr(network_module, "_TILE", 16)
    tiled = restored(network, image)
    difference = np.abs(np.asarray(whole, int) - np.asarray(tiled, int))
    assert difference.max() <= 1
    assert difference.mean() < 0.001
    assert np.abs(np.asarray(whole, int) - np.asarray(image, int)).max() > 1


def test_a_pixel_depends_on_what_its_radius_says():
    network = some_network()
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    network(x)[0, 0, 32, 32].backward()
    rows = x.grad[0].abs().sum((0, 2)).nonzero().flatten()
    reach = max(32 - int(rows.min()), int(rows.max()) - 32)
    assert reach == network.radius


def test_it_begins_as_the_identity():
    assert restored(RestorationNetwork(8, [1]), picture(5)) == picture(5)


# ------------------------------------------------------------------ training


@pytest.fixture(scope="module")
def vlm() -> Nano:
    return Nano(NanoOptions())


@pytest.fixture(scope="module")
def identity(vlm) -> VlmIdentity:
    return VlmIdentity("nano", "nano", dict(vlm.provenance()))


def training(vlm, identity, folder: Path) -> Training:
    registry = load_registry(only=["jpeg"])
    points = [
        TrainingPoint(
            CodecPoint("jpeg", level, "jpeg", f"key of {level}"),
            partial(registry.build_codec, "jpeg", level),
        )
        for level in ("q1", "q5")
    ]
    pictures = [
        TrainingPicture(f"picture {n}", partial(png, picture(n, (60 + 8 * n, 90))))
        for n in range(6)
    ]
    return Training(vlm, identity, points, pictures[:4], pictures[4:], 3, folder)


def options(**given) -> RestoreTrainingOptions:
    chosen = {"batch": 2, "crop": 64, "width": 8, "dilations": [1, 2], "warmup": 0, "crops": 1}
    return RestoreTrainingOptions(**{**chosen, "steps": 2, "validate_every": 2, **given})


def test_training_with_pixels_repairs_what_it_has_not_seen(identity, tmp_path, capsys):
    """No VLM is loaded for it, and its checkpoint serves any."""
    given = options(steps=60, batch=4, learning_rate=4e-3, validate_every=60, weights="float16")
    found = RestoreTrainer(given).train(training(None, identity, tmp_path))
    assert "PSNR in dB: uncompressed 100.00 -> " in capsys.readouterr().out
    checkpoint = read_checkpoint(found.checkpoint)
    about = checkpoint.about
    assert (about["method"], about["vlm_weights"], about["seed"]) == ("restore", "", 3)
    assert [each["level"] for each in about["points"]] == ["q1", "q5"]
    assert {value.dtype for value in checkpoint.state.values()} == {torch.float16}
    adaptor = Restorer(RestoreOptions(checkpoint=found.checkpoint, device="cpu"))
    assert adaptor.fits(ANYONE, CodecPoint("webp", "q1")) == ""
    assert adaptor.is_seen(ANYONE, Q1)
    assert adaptor.is_seen(ANYONE, CodecPoint("webp", "q1")) is False
    assert len(adaptor.provenance()["checkpoint adaptor.safetensors"]) == 64
    gains = []
    for seed in range(20, 26):
        original = picture(seed)
        shown = opened(jpeg(original, quality=1))
        repaired = adaptor.picture(shown, Condition(Q1, shown.size))
        gains.append(psnr(original, repaired) - psnr(original, shown))
    assert np.mean(gains) > 0.3


def test_training_with_features_serves_its_vlm_alone(vlm, identity, tmp_path):
    given = options(loss=RestorationLoss(pixel=0.5, features=0.5))
    found = RestoreTrainer(given).train(training(vlm, identity, tmp_path))
    adaptor = Restorer(RestoreOptions(checkpoint=found.checkpoint))
    assert adaptor.fits(identity, Q1) == ""
    assert "was trained for nano: another model than mine's" in adaptor.fits(ANYONE, Q1)
    assert all(not each.requires_grad for each in vlm.vision.parameters().values())


def test_features_alone_have_a_gradient(vlm, identity, tmp_path):
    given = options(loss=RestorationLoss(pixel=0.0, features=1.0), steps=1, validate_every=1)
    found = RestoreTrainer(given).train(training(vlm, identity, tmp_path))
    assert read_checkpoint(found.checkpoint).state["tail.weight"].abs().max() > 0


def test_resumption_gives_the_same_weights(identity, tmp_path):
    given = options(decay=0.0, state_minutes=0.0, validate_every=1)
    whole = RestoreTrainer(given).train(training(None, identity, tmp_path / "whole"))
    half = options(decay=0.0, state_minutes=0.0, validate_every=1, steps=1)
    RestoreTrainer(half).train(training(None, identity, tmp_path / "parts"))
    parts = RestoreTrainer(given).train(training(None, identity, tmp_path / "parts"))
    one, other = read_checkpoint(whole.checkpoint).state, read_checkpoint(parts.checkpoint).state
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


class Blind:
    """A VLM without access to its vision encoder."""

    @property
    def vision(self):
        raise NotImplementedError


class Other:
    """A VLM whose vision encoder takes no plain patches."""

    vision = object()


@pytest.mark.parametrize(
    ("model", "message"),
    [(Blind(), "gives no access"), (Other(), "has a vision encoder that takes no plain patches")],
)
def test_vlms_without_such_features_are_refused(identity, tmp_path, model, message):
    given = options(loss=RestorationLoss(features=1.0))
    with pytest.raises(ConfigError, match=f"training.loss.features: nano {message}"):
        RestoreTrainer(given).train(training(model, identity, tmp_path))


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({}, "its header describes no network of this method"),
        ({"width": 10**9, "dilations": [1]}, "its header describes no network of this method"),
        ({"width": 8, "dilations": [True, "x"]}, "its header describes no network of this method"),
        ({"width": 9, "dilations": [1, 3]}, "its weights are of another network"),
    ],
)
def test_checkpoints_that_are_of_something_else(tmp_path, about, message):
    path = tmp_path / "adaptor.safetensors"
    write_checkpoint(path, some_network().state_dict(), {"network": about, "method": "restore"})
    with pytest.raises(ConfigError, match=message):
        read_network(path)
    write_checkpoint(path, some_network().state_dict(), {"method": "cve"})
    adaptor = Restorer(RestoreOptions(checkpoint=path))
    assert "is a checkpoint of cve, not restore" in adaptor.fits(ANYONE, Q1)


def test_a_network_without_a_checkpoint_is_missing(tmp_path):
    [lacking] = missing(RestoreOptions())
    assert lacking.what == "a checkpoint"
    [lacking] = missing(RestoreOptions(checkpoint=tmp_path / "x"))
    assert lacking.what == f"checkpoint {tmp_path / 'x'}"
    assert not missing(RestoreOptions(method="shifts"))
    with pytest.raises(RequirementError, match="method network needs a checkpoint"):
        Restorer(RestoreOptions()).provenance()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shifts": 65}, "shifts must be 1 to 64, got 65"),
        ({"method": "shifts", "map": {"hm": "webp"}}, "hm can pass as jpeg alone, not as 'webp'"),
        ({"map": {"mozjpeg": "jpeg"}}, "map is for method shifts"),
        ({"method": "shifts", "checkpoint": Path("x")}, "checkpoint is for method network"),
        ({"device": "tpu"}, "device 'tpu' is not one of auto, cpu"),
    ],
)
def test_options_that_make_no_sense(given, message):
    with pytest.raises(ValueError, match=message):
        RestoreOptions(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": RestorationLoss(0, 0)}, "loss: all weights are 0"),
        ({"loss": RestorationLoss(1, -1)}, "loss: weights must not be negative"),
        ({"crop": 33}, "crop must be an even number"),
        ({"dilations": []}, "width and dilations must be at least 1"),
        ({"weights": "int8"}, "weights 'int8' is not one of"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_training_options_that_make_no_sense(given, message):
    with pytest.raises(ValueError, match=message):
        RestoreTrainingOptions(**given)
