"""VVenC with stand-ins for its programs, and with themselves where they are found."""

import numpy as np
import pytest
from lossylens.errors import BitstreamError, ConfigError, TransientError
from lossylens.options.resolving import resolve_options
from lossylens.testing.conformance import CodecConformance
from lossylens.testing.pictures import picture
from lossylens.testing.registering import registered
from lossylens_codec_vvc_vvenc.codec import Vvenc
from lossylens_codec_vvc_vvenc.plugin import PRESETS, SOFTWARE, VvencOptions, register_codecs
from lossylens_toolkit.external_codec.program_options import qp_level
from lossylens_toolkit.external_codec.program_running import run_program, workspace
from lossylens_toolkit.external_codec.program_suite import WithStandIns
from lossylens_toolkit.external_codec.program_testing import small_disk

MISSING = SOFTWARE.missing(VvencOptions())


SPEC = registered(register_codecs)

#: Where a slice begins in the streams of the stand-in; the parameter follows.
SLICE = b"\0\0\1\0\x39\x80"


def codec(qp=30, **options):
    return Vvenc(qp_level(qp), VvencOptions(**options))


def test_levels():
    names = [level.name for level in SPEC.levels]
    assert names == ["qp53", "qp50", "qp49", "qp45", "qp42", "qp40"]
    assert SPEC.level("qp63").parameters == {"qp": 63}


@pytest.mark.parametrize(
    "options",
    [{"subsampling": "444"}, {"preset": "placebo"}, {"matrix": "rgb"}, {"input_depth": 12}],
)
def test_options_are_validated(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        resolve_options(SPEC, options, "codecs.vvc-vvenc")


@pytest.mark.skipif(bool(MISSING), reason="; ".join(f"no {each.what}" for each in MISSING))
@pytest.mark.parametrize("size", [(1, 1), (157, 203), (256, 256)])
def test_real_programs(size):
    """With VVenC and VVdeC themselves."""
    image = picture(*size)
    decoded = codec().decode(codec().encode(image))
    error = np.asarray(decoded, float) - np.asarray(image, float)
    assert np.mean(error**2) < 100


class Talking(Vvenc):
    """Keeps what VVdeC says."""

    def decode_frame(self, stream, frame, coded):
        with workspace() as folder:
            (folder / "str.bin").write_bytes(stream)
            command = [self.decoder_path, *self.decoder_arguments(frame)]
            self.said = run_program(command, folder=folder, seconds=60, file_size=1 << 20)
        return super().decode_frame(stream, frame, coded)


@pytest.mark.skipif(bool(MISSING), reason="; ".join(f"no {each.what}" for each in MISSING))
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("qp", [0, 45, 63])
def test_real_programs_at_the_parameter_that_is_asked_for(qp, preset):
    tested = Talking(qp_level(qp), VvencOptions(preset=preset))
    tested.encode(picture(64, 64))
    assert f"I-SLICE, QP {qp:2} )" in tested.said


def test_size_that_the_encoder_says():
    """In the words of VVenC 1.14.0; the file had 17522 bytes."""
    said = (
        "vvenc [info]:\tTotal Frames |   Bitrate     Y-PSNR    U-PSNR    V-PSNR    YUV-PSNR   \n"
        "vvenc [info]:\t        1    a     140.1760   28.8523   28.6845   28.6926   28.7970\n"
    )
    assert codec().bytes_written(said) == 17522
    assert codec().bytes_written(said.partition("\n")[0]) is None


class TestStandIns(WithStandIns):
    software = SOFTWARE

    def test_command_lines(self):
        found = codec(45, preset="fast").provenance()
        assert found["encoder"] == "vvencapp version 1.14.0 (stand-in)"
        assert found["encoder_arguments"] == (
            "--input in.yuv --output str.bin --size 0x0 --format yuv420 --framerate 1 --frames 1"
            " --preset fast --qp 45 --qpa 0 --internal-bitdepth 10 --threads 1"
            " --additional IntraQPOffset=0"
        )
        assert found["decoder_arguments"] == "--bitstream str.bin --output out.yuv --threads 1"
        deep = codec(input_depth=10).provenance()["encoder_arguments"]
        assert "--format yuv420_10 " in deep

    @pytest.mark.parametrize("depth", [8, 10])
    def test_ten_bits_that_come_back_are_rounded(self, depth):
        """The decoder writes 10 bits whatever went in; at QP 0 the stand-in loses nothing."""
        image = picture(40, 50).convert("L").convert("RGB")
        tested = codec(0, input_depth=depth)
        error = np.asarray(tested.decode(tested.encode(image))).astype(int) - np.asarray(image)
        assert abs(error).max() <= 1

    @pytest.mark.parametrize("qp", [0, 2, 45, 63])
    def test_the_parameter_is_that_of_the_picture(self, qp):
        """By default VVenC takes 3 less for an intra picture, and so does the stand-in."""
        stream = codec(qp).encode(picture(16, 16))
        assert stream.rpartition(SLICE)[2][0] == qp
        default = codec(qp, extra_arguments=["--additional", ""]).encode(picture(16, 16))
        assert default.rpartition(SLICE)[2][0] == max(0, qp - 3)

    @pytest.mark.parametrize("size", [(8, 8), (40, 32)])
    def test_a_cut_file(self, size, monkeypatch):
        tested = codec()
        sound = tested.encode(picture(*size))
        monkeypatch.setenv("LOSSYLENS_FAKE", "cut")
        with pytest.raises(
            TransientError, match=r"^vvc-vvenc: .* exit code 0, but its file is cut"
        ):
            tested.encode(picture(*size))
        monkeypatch.delenv("LOSSYLENS_FAKE")
        assert tested.encode(picture(*size)) == sound

    def test_a_cut_file_of_another_release(self, monkeypatch):
        """That says nothing of its length: what it has written is decoded."""
        monkeypatch.setattr(Vvenc, "bytes_written", lambda self, output: None)
        self.test_a_cut_file((40, 32), monkeypatch)

    def test_a_full_disk(self, tmp_path, monkeypatch):
        tested = codec(0)
        with small_disk(tmp_path / "disk", 1 << 15) as folder:
            monkeypatch.setenv("TMPDIR", str(folder))
            monkeypatch.setattr("tempfile.tempdir", None)
            with pytest.raises(TransientError, match=r"^vvc-vvenc: .*No space left on device"):
                tested.encode(picture(120, 120))

    def test_another_codec(self):
        with pytest.raises(BitstreamError, match=r"^vvc-vvenc: "):
            codec().decode(b"\xff\xd8\xff")


@pytest.mark.slow
class TestConformance(WithStandIns, CodecConformance):
    """With stand-ins; how it does with VVenC is told by ``--codec vvc-vvenc``."""

    codecs = ("vvc-vvenc",)
    software = SOFTWARE
