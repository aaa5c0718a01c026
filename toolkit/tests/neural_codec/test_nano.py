"""The variant nano: checkpoints that come with a plugin."""

import pytest
from lossylens.errors import BitstreamError, RequirementError
from lossylens.testing.pictures import picture
from lossylens_toolkit.neural_codec.neural_options import NeuralCodecOptions, missing_checkpoints
from tiny import LEVELS, TinyCodec, write_tiny


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A distribution's package with a nano checkpoint of the first level."""
    folder = tmp_path / "lossylens_codec_tiny"
    (folder / "nano").mkdir(parents=True)
    (folder / "__init__.py").touch()
    about = {"codec": "tiny", "config": {"width": 4}}
    write_tiny(folder / "nano" / f"{LEVELS[0].name}.safetensors", 0, about, width=4)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def nano(level=LEVELS[0]):
    return TinyCodec(level, NeuralCodecOptions(variant="nano", device="cpu"))


def test_round_trip(package):
    bitstream = nano().encode(picture(40, 30))
    assert nano().decode(bitstream).size == picture(40, 30).size
    latents = nano().latents(bitstream)
    assert (latents.space, latents.values.shape[0]) == ("tiny-nano/q1", 4)


def test_the_official_does_not_take_it(package, codec):
    with pytest.raises(BitstreamError, match="of tiny-nano/q1; this is tiny/q1"):
        codec.decode(nano().encode(picture(40, 30)))
    with pytest.raises(BitstreamError, match="of tiny/q1; this is tiny-nano/q1"):
        nano().decode(codec.encode(picture(40, 30)))


def test_a_level_without_a_checkpoint(package):
    with pytest.raises(RequirementError, match="no nano checkpoint of level q2; there are q1"):
        nano(LEVELS[1]).encode(picture(9, 9))
    options = NeuralCodecOptions(variant="nano")
    assert missing_checkpoints("tiny", "lossylens_codec_tiny", options, LEVELS[:1], "nowhere") == ()
    (lacking,) = missing_checkpoints("tiny", "lossylens_codec_tiny", options, LEVELS, "nowhere")
    assert lacking.what == "nano checkpoints of q2"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variant": "micro"}, "variant 'micro' is not one of official, nano"),
        ({"variant": "nano", "checkpoints": "here"}, "leave out checkpoints"),
    ],
)
def test_options_that_make_no_sense(values, message):
    with pytest.raises(ValueError, match=message):
        NeuralCodecOptions(**values)
