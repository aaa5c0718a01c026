from functools import cache

import pytest
import torch
from lossylens.codec import CodecSpec
from lossylens.errors import BitstreamError, ConfigError, RequirementError
from lossylens.testing.pictures import picture
from lossylens.testing.weights import filled
from lossylens.toolkit.neural_codec.checkpoints import write_checkpoint
from lossylens.toolkit.neural_codec.options import NeuralCodecOptions
from lossylens_codec_elic import network
from lossylens_codec_elic.codec import ElicCodec
from lossylens_codec_elic.plugin import LEVELS, register_codecs

SMALL = {"N": 8, "M": 20, "groups": [2, 2, 4, 4, 8], "context": [8, 6], "aggregation": [16, 12]}
KEEP = (r"entropy_bottleneck\.(quantiles|matrices|factors)", r"gdn\.(beta|gamma)$")
SCALE = {}


def spec() -> CodecSpec:
    found = []
    register_codecs(found.append)
    return found[0]


@cache
def small_state(seed):
    parameters = network.official_state_dict(network.build(**SMALL))
    return filled(parameters, seed, KEEP, SCALE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, level in enumerate(LEVELS[:2]):
        about = {"codec": "elic", "level": level.name, "config": SMALL}
        write_checkpoint(folder / f"{level.name}.safetensors", small_state(seed), about)
    return folder


def codec(folder, level=LEVELS[0], **options):
    return ElicCodec(level, NeuralCodecOptions(folder, device="cpu", **options))


@pytest.mark.parametrize("entropy_dtype", ["float32", "float64"])
def test_round_trip(folder, entropy_dtype):
    tested = codec(folder, entropy_dtype=entropy_dtype)
    for size in ((1, 1), (70, 50)):
        image = picture(*size)
        bitstream = tested.encode(image)
        decoded = codec(folder).decode(bitstream)
        assert (decoded.mode, decoded.size) == ("RGB", image.size)
        with pytest.raises(BitstreamError, match=r"checksum|not a bitstream"):
            tested.decode(bitstream[:-1])


def test_latents(folder):
    tested = codec(folder)
    latents = tested.latents(tested.encode(picture(70, 50)))
    assert latents.values.shape == (20, 8, 4)
    assert (latents.network, latents.stride) == (f"elic/{LEVELS[0].name}", 16)


def test_a_bitstream_of_another_level_names_it(folder):
    bitstream = codec(folder, LEVELS[1]).encode(picture(9, 9))
    with pytest.raises(BitstreamError, match=f"of elic/{LEVELS[1].name}; this is"):
        codec(folder).decode(bitstream)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_official_layouts_of_another_width_are_refused(tmp_path, prefix):
    state = {prefix + name: value for name, value in small_state(0).items()}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / f"{LEVELS[0].name}.pth.tar")
    tested = codec(tmp_path)
    tested.build = lambda config: network.build(**{**SMALL, "N": 12})
    with pytest.raises(ConfigError, match=r"pth\.tar: .*another architecture, nothing was loaded"):
        tested.encode(picture(9, 9))


def test_official_layouts_are_loaded(tmp_path):
    state = {f"module.{name}": value for name, value in small_state(0).items()}
    old = {"matrices.": "_matrix", "biases.": "_bias", "factors.": "_factor"}
    for new, before in old.items():
        state = {
            name.replace(f"entropy_bottleneck.{new}", f"entropy_bottleneck.{before}"): value
            for name, value in state.items()
        }
    assert any("_matrix0" in name for name in state)
    tables = "module.entropy_bottleneck._quantized_cdf"
    content = {"epoch": 1, "state_dict": {**state, tables: torch.zeros(3, 9).int()}}
    torch.save(content, tmp_path / f"{LEVELS[0].name}.pth.tar")
    tested = codec(tmp_path)
    tested.build = lambda config: network.build(**SMALL)
    found = network.official_state_dict(tested.network)
    assert all(torch.equal(found[name], small_state(0)[name]) for name in found)


def test_no_checkpoint(tmp_path):
    options = NeuralCodecOptions(tmp_path)
    (lacking,) = spec().requirements(options)
    assert "github.com" in lacking.remedy
    assert str(tmp_path) in lacking.remedy
    with pytest.raises(RequirementError, match=f"no checkpoint of level {LEVELS[0].name}"):
        codec(tmp_path).encode(picture(9, 9))


def test_levels():
    assert [level.name for level in spec().levels] == [
        "lambda0.004",
        "lambda0.008",
        "lambda0.016",
        "lambda0.032",
    ]
    for level in LEVELS:
        assert spec().level(level.name.upper()) == level
        assert spec().parse_level(level.name) == level
    for name in ("", "q", "lambda", "q10", "-1", "lambda-1", "q٣"):
        with pytest.raises(ConfigError):
            spec().level(name)


def test_the_name_of_the_public_file(tmp_path):
    public = tmp_path / "ELIC_0450_ft_3980_Plateau.pth.tar"
    public.touch()
    assert codec(tmp_path, spec().level("lambda0.45")).checkpoint == public
