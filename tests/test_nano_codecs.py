"""The nano checkpoints of the learned codecs, on photographs that they were not trained on."""

import zlib
from functools import cache

import numpy as np
import pytest
import torch
from lossylens.errors import BitstreamError, ConfigError, RequirementError
from lossylens.registry.plugins import load_registry
from lossylens.testing.conformance import CodecConformance
from lossylens_toolkit.neural_codec.container import unpack
from lossylens_toolkit.photographs import HELD_OUT, load_photograph
from lossylens_toolkit.testing.rate_distortion import curve, jpeg_curve, psnr_at
from lossylens_toolkit.training.objective import estimated_bits

pytestmark = pytest.mark.slow

NAMES = ("elic", "tcm", "mlicpp", "hific", "msillm")
#: Trained for minutes, and for more than PSNR, they lose to JPEG where it can follow.
GENERATIVE = ("hific", "msillm")
OPTIONS = {"variant": "nano", "device": "cpu"}


@cache
def registry():
    return load_registry(strict=False)


class TestNano(CodecConformance):
    codecs = NAMES
    options = OPTIONS


@cache
def codecs(name):
    spec = registry().find("codec", name).spec
    return [registry().build_codec(name, level, OPTIONS) for level in spec.levels]


@cache
def nano_curve(name, photograph):
    return curve(codecs(name), load_photograph(photograph))


@cache
def jpegs(photograph):
    return jpeg_curve(load_photograph(photograph))


@pytest.mark.parametrize("photograph", HELD_OUT)
@pytest.mark.parametrize("name", NAMES)
def test_rate_and_quality_rise_with_the_level(name, photograph):
    rates, values, _ = zip(*nano_curve(name, photograph), strict=True)
    assert sorted(set(rates)) == list(rates)
    assert sorted(set(values)) == list(values)


@pytest.mark.parametrize("photograph", HELD_OUT)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in GENERATIVE])
def test_better_than_jpeg_at_equal_rate(name, photograph):
    points = nano_curve(name, photograph)
    gains = [each.psnr - psnr_at(each.bpp, jpegs(photograph)) for each in points]
    assert min(gains) > 0, gains


@pytest.mark.parametrize("name", GENERATIVE)
def test_rates_of_generative_codecs(name):
    rates = [np.mean([nano_curve(name, each)[k].bpp for each in HELD_OUT]) for k in range(4)]
    assert 0.015 < rates[0] < 0.04
    assert 0.12 < rates[-1] < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_strings_are_as_long_as_the_likelihoods_say(name):
    """All of a codec's together: in one alone, few outliers cost less than they seem to."""
    estimated = real = 0.0
    for index, codec in enumerate(codecs(name)):
        network = codec.network
        network.set_entropy_dtype(torch.float32)
        for photograph in HELD_OUT:
            x = torch.from_numpy(np.array(load_photograph(photograph))).permute(2, 0, 1)[None] / 255
            with torch.inference_mode():
                likelihoods = network(codec.padding.pad(x))["likelihoods"]
            estimated += estimated_bits(likelihoods).item()
            bitstream = nano_curve(name, photograph)[index].bitstream
            content = unpack(bitstream, f"{name}-nano/{codec.level.name}", (), 10**9)
            real += 8 * (len(content.y) + len(content.z))
    # Each string ends in some bytes of the coder's state, which count where strings are short.
    spare = 8 * 8 * 2 * len(HELD_OUT) * len(codecs(name)) if name in GENERATIVE else 0
    assert real == pytest.approx(estimated, rel=0.01, abs=0.01 * estimated + spare)


@pytest.mark.parametrize("name", NAMES)
def test_nano_is_never_taken_for_the_official(name, tmp_path):
    nano = codecs(name)[0]
    bitstream = nano_curve(name, HELD_OUT[0])[0].bitstream
    assert nano.latents(bitstream).space == f"{name}-nano/{nano.level.name}"
    with pytest.raises(ConfigError, match="the variant nano brings its checkpoints"):
        registry().build_codec(name, nano.level, {**OPTIONS, "checkpoints": str(tmp_path)})
    with pytest.raises(RequirementError, match=f"checkpoints? of {name}"):
        registry().build_codec(name, nano.level, {"checkpoints": str(tmp_path)})
    other = codecs(name)[1]
    with pytest.raises(BitstreamError, match=f"of {name}-nano/{nano.level.name}; this is"):
        other.decode(bitstream)


@pytest.mark.parametrize("name", NAMES)
def test_the_checkpoints_take_two_megabytes_of_the_wheel(name):
    packed = [zlib.compress(codec.checkpoint.read_bytes()) for codec in codecs(name)]
    assert sum(map(len, packed)) < 2 * 2**20
