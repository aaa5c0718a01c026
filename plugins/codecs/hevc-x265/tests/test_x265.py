import random
import zlib

import av
import numpy as np
import pytest
from lossylens.errors import BitstreamError, ConfigError
from lossylens.options.resolving import resolve_options
from lossylens.run.picture_distances import psnr
from lossylens.testing.pictures import picture
from lossylens.testing.registering import registered
from lossylens_codec_hevc_x265.codec import X265
from lossylens_codec_hevc_x265.plugin import X265Options, register_codecs
from lossylens_toolkit.external_codec.program_options import qp_level
from PIL import Image

SPEC = registered(register_codecs)

#: Header and checksum, beside the stream of x265.
OVERHEAD = 5

# Bytes of x265's stream for picture(256, 256), by preset, subsampling and quantisation
# parameter, with the x265 4.x of PyAV 18.1.
GOLDEN = [
    ("placebo", "4:4:4", 42, 826),
    ("veryslow", "4:4:4", 42, 804),
]


def codec(qp=42, **options):
    return X265(qp_level(qp), X265Options(**{"preset": "veryfast", **options}))


def test_levels():
    assert [level.name for level in SPEC.levels][::6] == ["qp51", "qp40"]
    assert SPEC.level("qp0").parameters == {"qp": 0}
    with pytest.raises(ConfigError, match="qp0 to qp51"):
        SPEC.level("qp52")


@pytest.mark.parametrize("options", [{"preset": "best"}, {"subsampling": "4:2:2"}])
def test_options_are_validated(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        resolve_options(SPEC, options, "codecs.hevc-x265")


@pytest.mark.parametrize(("preset", "subsampling", "qp", "size"), GOLDEN)
def test_golden_size(preset, subsampling, qp, size):
    """Within a few percent, which another x265 may differ by; exact with PyAV 18.1."""
    image = picture(256, 256)
    tested = codec(qp, preset=preset, subsampling=subsampling)
    bitstream = tested.encode(image)
    exact = av.__version__.startswith("18.1.")
    assert len(bitstream) - OVERHEAD == pytest.approx(size, rel=0 if exact else 0.05)
    assert psnr(image, tested.decode(bitstream)) == pytest.approx(30.3, abs=0.15)


def test_no_information_is_paid_for():
    """x265's own default is a message of 2 kB that names the library."""
    assert len(codec(51).encode(Image.new("RGB", (32, 32)))) < 150


def test_the_parameter_is_that_of_the_picture():
    """By default x265 takes 3 less for an intra picture.

    The slice header of a stream states it: 26 plus init_qp_minus26 plus slice_qp_delta.
    A mistake of 3 moves the rate as three levels do.
    """
    image = picture(128, 128)
    tested = codec(42)
    sizes = {qp: len(codec(qp).encode(image)) for qp in (39, 42, 45)}
    assert sizes[39] > sizes[42] > sizes[45]
    default = tested._parameters.replace("ipratio=1:", "")

    class Default(X265):
        _parameters = default

    assert len(Default(qp_level(42), tested.options).encode(image)) == sizes[39]


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("size", [(1, 1), (31, 33), (64, 47)])
def test_grey_ramps_come_back(size, subsampling, depth):
    """Finely quantised, within rounding: nothing is shifted or darkened on the way."""
    width, height = size
    ramp = np.linspace(20, 235, width * height).astype(np.uint8).reshape(height, width)
    image = Image.fromarray(ramp).convert("RGB")
    tested = codec(0, subsampling=subsampling, input_depth=depth)
    decoded = tested.decode(tested.encode(image))
    assert decoded.size == size
    error = np.asarray(decoded).astype(int) - np.asarray(image)
    assert abs(error).max() <= 3
    assert abs(error.mean()) < 0.75


def test_provenance():
    found = codec(40).provenance()
    assert found["pyav"] == av.__version__
    assert found["x265_params"].startswith("qp=40:keyint=1:info=0:ipratio=1:")


class TestHostile:
    def test_depths_that_differ(self):
        bitstream = codec().encode(picture(40, 40))
        assert bitstream[0] == 0x20
        stream = bitstream[OVERHEAD:]
        sealed = b"\x28" + zlib.crc32(b"\x28" + stream).to_bytes(4, "big") + stream
        with pytest.raises(BitstreamError, match="depths in its headers differ"):
            codec().decode(sealed)

    def test_damage_with_a_checksum_that_is_right(self):
        """What the checksum would have kept from the decoder does no harm there either."""
        generator = random.Random(0)
        tested = codec(40)
        sound = tested.encode(picture(48, 64))[OVERHEAD:]
        outcomes = set()
        for _ in range(500):
            stream = bytearray(sound)
            for _ in range(generator.randrange(1, 6)):
                stream[generator.randrange(len(stream))] ^= 1 << generator.randrange(8)
            damaged = bytes(stream[: generator.choice([None, generator.randrange(len(stream))])])
            sealed = b"\x20" + zlib.crc32(b"\x20" + damaged).to_bytes(4, "big") + damaged
            try:
                outcomes.add(tested.decode(sealed).mode)
            except BitstreamError as error:
                outcomes.add(type(error).__name__)
        assert outcomes == {"RGB", "BitstreamError"}
