"""The nano checkpoints of the learned codecs, on photographs that they were not trained on."""

import io
import math
import zlib
from functools import cache

import numpy as np
import pytest
import torch
from lossylens.codec import bits_per_pixel
from lossylens.errors import BitstreamError, ConfigError, RequirementError
from lossylens.plugins import load_registry
from lossylens.testing.codec import CodecConformance
from lossylens.toolkit.neural_codec.container import unpack
from lossylens.toolkit.training.objective import estimated_bits
from lossylens_task_scenes.photographs import HELD_OUT, load_photograph
from PIL import Image

pytestmark = pytest.mark.slow

NAMES = ("elic", "tcm", "mlicpp")
OPTIONS = {"variant": "nano", "device": "cpu"}


@cache
def registry():
    return load_registry(strict=False)


def brings_nano(name):
    found = registry().find("codec", name)
    return not registry().missing(found, registry().options(found, OPTIONS))


CODECS = tuple(filter(brings_nano, NAMES))


class TestNano(CodecConformance):
    codecs = NAMES
    options = OPTIONS


@cache
def codecs(name):
    spec = registry().find("codec", name).spec
    return [registry().build_codec(name, level, OPTIONS) for level in spec.levels]


def psnr(image, decoded):
    error = np.square(np.asarray(image, float) - np.asarray(decoded, float)).mean()
    return 10 * math.log10(255**2 / error)


@cache
def curve(name, photograph):
    """Bits per pixel, PSNR and bitstream of each level."""
    image = load_photograph(photograph)
    points = []
    for codec in codecs(name):
        bitstream = codec.encode(image)
        rate = bits_per_pixel(len(bitstream), *image.size)
        points.append((rate, psnr(image, codec.decode(bitstream)), bitstream))
    return points


@cache
def jpeg_curve(photograph):
    """Bits per pixel and PSNR of JPEGs with optimised tables, ascending in rate."""
    image, points = load_photograph(photograph), {}
    for quality in range(1, 60):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        rate = bits_per_pixel(len(file.getvalue()), *image.size)
        points[rate] = max(points.get(rate, 0.0), psnr(image, Image.open(file)))
    return sorted(points.items())


def jpeg_at(rate, photograph):
    """PSNR of JPEG at a rate, between its points over the logarithm of the rate."""
    rates, values = zip(*jpeg_curve(photograph), strict=True)
    assert rate < rates[-1]
    return np.interp(math.log(rate), np.log(rates), values)


@pytest.mark.parametrize("photograph", HELD_OUT)
@pytest.mark.parametrize("name", CODECS)
def test_rate_and_quality_rise_with_the_level(name, photograph):
    rates, values, _ = zip(*curve(name, photograph), strict=True)
    assert sorted(set(rates)) == list(rates)
    assert sorted(set(values)) == list(values)


@pytest.mark.parametrize("photograph", HELD_OUT)
@pytest.mark.parametrize("name", CODECS)
def test_better_than_jpeg_at_equal_rate(name, photograph):
    gains = [value - jpeg_at(rate, photograph) for rate, value, _ in curve(name, photograph)]
    assert min(gains) > 0, gains


@pytest.mark.parametrize("photograph", HELD_OUT)
@pytest.mark.parametrize("name", CODECS)
def test_strings_are_as_long_as_the_likelihoods_say(name, photograph):
    for codec, (_, _, bitstream) in zip(codecs(name), curve(name, photograph), strict=True):
        x = torch.from_numpy(np.array(load_photograph(photograph))).permute(2, 0, 1)[None] / 255
        network = codec.network
        network.set_entropy_dtype(torch.float32)
        with torch.inference_mode():
            estimated = estimated_bits(network(codec.padding.pad(x))["likelihoods"]).item()
        content = unpack(bitstream, f"{name}-nano/{codec.level.name}", (), 10**9)
        real = 8 * (len(content.y) + len(content.z))
        assert real == pytest.approx(estimated, rel=0.01)


@pytest.mark.parametrize("name", CODECS)
def test_nano_is_never_taken_for_the_official(name, tmp_path):
    nano = codecs(name)[0]
    bitstream = curve(name, HELD_OUT[0])[0][2]
    assert nano.latents(bitstream).network == f"{name}-nano/{nano.level.name}"
    with pytest.raises(ConfigError, match="the variant nano brings its checkpoints"):
        registry().build_codec(name, nano.level, {**OPTIONS, "checkpoints": str(tmp_path)})
    with pytest.raises(RequirementError, match=f"checkpoints of {name}"):
        registry().build_codec(name, nano.level, {"checkpoints": str(tmp_path)})
    other = codecs(name)[1]
    with pytest.raises(BitstreamError, match=f"of {name}-nano/{nano.level.name}; this is"):
        other.decode(bitstream)


@pytest.mark.parametrize("name", CODECS)
def test_the_checkpoints_take_two_megabytes_of_the_wheel(name):
    packed = [zlib.compress(codec.checkpoint.read_bytes()) for codec in codecs(name)]
    assert sum(map(len, packed)) < 2 * 2**20
