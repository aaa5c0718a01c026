"""Codecs around programs, with stand-ins for these: real processes, files and time limits."""

import shutil

import numpy as np
import pytest
from lossylens.codec import Level
from lossylens.errors import (
    BitstreamError,
    ConfigError,
    ImageError,
    LossylensError,
    RequirementError,
    TransientError,
)
from lossylens.failure import Failure, attempt
from lossylens_toolkit.external_codec.program_codec import CutError
from lossylens_toolkit.external_codec.program_options import ReferenceOptions, qp_level
from lossylens_toolkit.external_codec.program_running import ProgramError
from lossylens_toolkit.external_codec.program_testing import install_programs
from lossylens_toolkit.external_codec.programs import Program
from lossylens_toolkit.external_codec.reference import ReferenceCodec
from lossylens_toolkit.external_codec.software import Software
from lossylens_toolkit.external_codec.yuv import Frame
from PIL import Image


def program(name, banner):
    return Program(name, "option", "LOSSYLENS_TEST_PROGRAM", (name,), "get it", banner)


class Hevc(ReferenceCodec):
    name = "test-hevc"
    standard = "hevc"
    largest_qp = 51
    software = Software(
        program("TAppEncoder", "Encoder Version"),
        program("TAppDecoder", "Decoder Version"),
        {"4:2:0": "encoder_intra_main.cfg", "4:4:4": "encoder_intra_main_rext.cfg"},
        {"4:2:0": "encoder_intra_main10.cfg"},
    )


class Vvc(ReferenceCodec):
    name = "test-vvc"
    standard = "vvc"
    largest_qp = 63
    software = Software(
        program("EncoderApp", "VTM Encoder"),
        program("DecoderApp", "VTM Decoder"),
        dict.fromkeys(("4:2:0", "4:4:4"), "encoder_intra_vtm.cfg"),
    )


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    names = ["TAppEncoder", "TAppDecoder", "EncoderApp", "DecoderApp"]
    return install_programs(tmp_path_factory.mktemp("release"), names)


@pytest.fixture
def make(programs, tmp_path, monkeypatch):
    """Builds a codec whose temporary files go to ``tmp_path / "temporary"``."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)

    def make(kind=Hevc, qp=0, **options):
        chosen = ReferenceOptions(**{"encoder": programs, "decoder": programs, **options})
        return kind(qp_level(qp), chosen)

    yield make
    assert not list((tmp_path / "temporary").iterdir()), "temporary files were left behind"


def picture(width, height):
    shape = (height, width, 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (33, 18)], ids=str)
@pytest.mark.parametrize(
    ("kind", "options", "bound"),
    [
        (Hevc, {}, 4),
        (Hevc, {"matrix": "rgb"}, 0),
        (Hevc, {"matrix": "rgb", "input_depth": 10}, 0),
        (Vvc, {"matrix": "bt601", "full_range": False}, 5),
        (Vvc, {"input_depth": 10}, 2),
        (Hevc, {"subsampling": "4:2:0"}, None),
        (Vvc, {"subsampling": "4:2:0", "matrix": "bt601"}, None),
    ],
    ids=str,
)
def test_there_and_back(kind, options, bound, size, make):
    """At the finest quantisation the stand-ins lose nothing, so what is lost is ours."""
    codec = make(kind, **options)
    image = picture(*size)
    decoded = make(kind, 30).decode(codec.encode(image))
    assert (decoded.mode, decoded.size) == ("RGB", size)
    if bound is not None:
        error = np.asarray(decoded).astype(int) - np.asarray(image)
        assert abs(error).max() <= bound


@pytest.mark.parametrize(
    ("size", "options", "header"),
    [
        ((33, 18), {}, b""),
        ((32, 18), {"subsampling": "4:2:0"}, b""),
        ((32, 18), {"subsampling": "4:2:0", "matrix": "bt601"}, b"\x01"),
        ((33, 18), {"subsampling": "4:2:0"}, b"\x10\x21\x12"),
        ((200, 3), {}, b"\x10\xc8\x01\x03"),
    ],
)
def test_header(size, options, header, make):
    """Nothing is before the encoder's file but where it must."""
    bitstream = make(**options).encode(picture(*size))
    assert bitstream.startswith(header + b"\0\0\0\1")


def test_provenance(make, programs):
    found = make(qp=37, extra_arguments=["--Level=6.2"], internal_depth=8).provenance()
    assert found["encoder"] == "HM software: Encoder Version [18.0] (stand-in)"
    assert found["encoder_arguments"] == (
        "-c encoder_intra_main_rext.cfg -i in.yuv -b str.bin -o /dev/null -wdt 0 -hgt 0 -fr 1 -f 1"
        " -q 37 --InputChromaFormat=444 --InputBitDepth=8 --InternalBitDepth=8"
        " --ConformanceWindowMode=1 --SEIDecodedPictureHash=0 --Level=6.2"
    )
    assert found["decoder_arguments"] == "-b str.bin -o out.yuv -d 8"
    assert all(len(found[f"{each}_sha256"]) == 64 for each in ("encoder", "decoder", "config"))
    assert not [value for value in found.values() if str(programs) in value]
    assert dict(make(Vvc).provenance()) != dict(make(Hevc).provenance())


def test_more_than_eight_bits_inside(make):
    """HM's main profile, which is that of 4:2:0, has no more than eight."""
    found = make(subsampling="420", internal_depth=10)
    assert found.provenance()["encoder_arguments"].startswith("-c encoder_intra_main10.cfg ")
    assert found.encode(picture(8, 8))
    eight = make(subsampling="420", internal_depth=8).provenance()["encoder_arguments"]
    assert eight.startswith("-c encoder_intra_main.cfg ")
    deep = make(internal_depth=10).provenance()["encoder_arguments"]
    assert deep.startswith("-c encoder_intra_main_rext.cfg ")
    with pytest.raises(ImageError, match="internalBitDepth must not be greater"):
        make(subsampling="420", internal_depth=12).encode(picture(8, 8))


class TestCutFiles:
    """What an encoder has written is not whole, though its exit code is 0."""

    @pytest.mark.parametrize("size", [(8, 8), (40, 30)], ids=str)
    @pytest.mark.parametrize("kind", [Hevc, Vvc])
    def test_cut(self, kind, size, make, monkeypatch):
        monkeypatch.setenv("LOSSYLENS_FAKE", "cut")
        codec = make(kind)
        with pytest.raises(TransientError, match=rf"^{kind.name}: .*its file is cut: \d+ of the "):
            codec.encode(picture(*size))
        found = attempt(codec.encode, picture(*size))
        assert isinstance(found, Failure)
        assert found.transient, "a run makes it again at its next start"

    @pytest.mark.parametrize("kind", [Hevc, Vvc])
    def test_programs_that_do_not_say_how_much_they_write(self, kind, make, monkeypatch):
        """What they write is decoded."""
        codec = make(kind)
        monkeypatch.setattr(kind, "bytes_written", lambda self, output: None)
        bitstream = codec.encode(picture(40, 30))
        monkeypatch.setenv("LOSSYLENS_FAKE", "cut")
        with pytest.raises(TransientError, match="cut: what is there cannot be decoded: the deco"):
            codec.encode(picture(40, 30))
        monkeypatch.delenv("LOSSYLENS_FAKE")
        assert codec.encode(picture(40, 30)) == bitstream

    @pytest.mark.parametrize("length", [1, 3, 8, 25, 60, -300, -100, -2, -1])
    @pytest.mark.parametrize("kind", [Hevc, Vvc])
    def test_cut_anywhere(self, kind, length, make):
        codec = make(kind)
        frame = Frame(40, 32, "4:4:4", 8)
        stream = codec.encode_frame(bytes(frame.size), frame)

        def check(stream):
            codec.check_whole(stream, frame, "nothing is said")
            codec._check_stream(stream, frame)

        check(stream)
        with pytest.raises((CutError, LossylensError)):
            check(stream[:length])

    def test_nothing_of_what_was_said(self, make):
        frame = Frame(8, 8, "4:4:4", 8)
        with pytest.raises(CutError, match=r"^0 of the 809 bytes that it says it wrote"):
            make().check_whole(b"", frame, "Bytes written to file: 809 (6.472 kbps)\n")
        with pytest.raises(ProgramError, match="it wrote nothing"):
            make().check_whole(b"", frame, "Bytes written to file: 0 (-nan kbps)\n")


@pytest.mark.parametrize(
    ("output", "size"),
    [
        (
            "POC    0 TId: 0 ( I-SLICE, nQP 42 QP 42 )     191144 bits [Y 23.7356 dB]\n\n"
            "RVM: 0.000\nBytes written to file: 23893 (191.144 kbps)\n",
            23893,
        ),
        (
            "POC    0 LId:  0 TId: 0 ( IDR_N_LP, I-SLICE, QP 52 )        720 bits [Y 13.7618 dB"
            "    U 13.7302 dB    V 13.7749 dB] [ET     3 ] [L0] [L1]\n",
            90,
        ),
        ("Bytes written to file: 0 (-nan kbps)\n", 0),
        ("HM software: Encoder Version [18.0]\n", None),
    ],
)
def test_size_that_encoders_say(output, size, make):
    """In the words of HM 18.0 and VTM 23.13."""
    assert make().bytes_written(output) == size


class TestDiskIsFull:
    @pytest.fixture
    def small(self, make, small_disk):
        """Builds a codec whose temporary files have 64 KiB."""
        return make

    @pytest.mark.parametrize("kind", [Hevc, Vvc])
    def test_of_the_input(self, kind, small, small_disk):
        with pytest.raises(
            TransientError, match=rf"^{kind.name}: the encoder failed: cannot write .*No"
        ):
            small(kind).encode(picture(200, 200))
        assert not list(small_disk.iterdir())

    @pytest.mark.parametrize("kind", [Hevc, Vvc])
    def test_of_the_bitstream(self, kind, small, small_disk):
        codec = small(kind)
        codec.encode(picture(60, 60))
        with pytest.raises(
            TransientError, match=rf"^{kind.name}: the encoder failed: cannot write .*No"
        ):
            codec.encode(picture(120, 120))
        assert not list(small_disk.iterdir())

    @pytest.mark.parametrize("kind", [Hevc, Vvc])
    def test_of_the_decoder_output(self, kind, small, small_disk):
        codec = small(kind)
        bitstream = codec.encode(picture(60, 60))
        room = len(bitstream) + 8192
        (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
        with pytest.raises(
            TransientError, match=rf"^{kind.name}: the decoder failed: cannot write"
        ):
            codec.decode(bitstream)
        (small_disk / "filler").unlink()
        assert codec.decode(bitstream).size == (60, 60)

    def test_a_damaged_bitstream_is_to_blame_where_there_is_room(self, make):
        codec = make()
        with pytest.raises(BitstreamError):
            codec.decode(codec.encode(picture(40, 40))[:-50])


class TestEncoderFails:
    @pytest.mark.parametrize(
        ("how", "match"),
        [
            ("crash", "killed by SIGABRT; it said: .*Assertion"),
            ("silent", "it wrote nothing to str.bin; it said: failed to open Input YUV file"),
            ("fork", "exit code 1; it said: .*the parent is gone"),
        ],
    )
    def test_in_one_picture(self, how, match, make, monkeypatch):
        codec = make()
        codec.encode(picture(8, 8))
        monkeypatch.setenv("LOSSYLENS_FAKE", how)
        with pytest.raises(ImageError, match=f"^test-hevc: the encoder failed on 9x8: {match}"):
            codec.encode(picture(9, 8))

    def test_it_is_ended_by_others(self, make, monkeypatch):
        codec = make()
        assert codec.encoder_path
        monkeypatch.setenv("LOSSYLENS_FAKE", "kill")
        with pytest.raises(TransientError, match=r"^test-hevc: .*killed by SIGKILL"):
            codec.encode(picture(8, 8))

    def test_it_vanishes(self, make, programs, tmp_path):
        program = tmp_path / "TAppEncoder"
        shutil.copy(programs / "TAppEncoder", program)
        shutil.copytree(programs.parent / "cfg", tmp_path / "cfg")
        codec = make(encoder=program)
        codec.encode(picture(8, 8))
        program.unlink()
        with pytest.raises(RequirementError, match="TAppEncoder cannot be run: No such file"):
            codec.encode(picture(8, 8))

    def test_time_limit(self, make, monkeypatch):
        codec = make(encoder_limit=0.01)
        assert codec.encoder_path
        monkeypatch.setenv("LOSSYLENS_FAKE", "hang")
        with pytest.raises(ImageError, match=r"ended after 0\.6 s"):
            codec.encode(picture(8, 8))

    def test_an_argument_it_does_not_know(self, make):
        with pytest.raises(
            ImageError, match=r"exit code 1; it said: command line error: Unknown option `What'"
        ):
            make(extra_arguments=["--What=1"]).encode(picture(8, 8))

    def test_it_is_missing(self, make, tmp_path):
        codec = make(encoder=tmp_path)
        with pytest.raises(RequirementError, match="TAppEncoder"):
            codec.encode(picture(8, 8))

    def test_it_writes_something_else(self, make, programs):
        """A program whose streams cannot be read says so at once, not when decoding."""

        class Odd(Hevc):
            standard = "vvc"

        with pytest.raises(LossylensError, match="not write a plain stream of one picture"):
            make(Odd).encode(picture(8, 8))


class TestDecoderFails:
    @pytest.mark.parametrize(
        ("how", "match"),
        [
            ("crash", "killed by SIGABRT; it said: "),
            ("silent", "it wrote 0 bytes instead of 192 to out.yuv"),
            ("short", "it wrote 191 bytes instead of 192 to out.yuv"),
            ("flood", "killed by SIGXFSZ; it said: .*Warning"),
        ],
    )
    def test_in_one_bitstream(self, how, match, make, monkeypatch):
        codec = make()
        bitstream = codec.encode(picture(8, 8))
        codec.decode(bitstream)
        monkeypatch.setenv("LOSSYLENS_FAKE", how)
        with pytest.raises(BitstreamError, match=f"^test-hevc: .*({match})"):
            codec.decode(bitstream)

    def test_time_limit(self, make, monkeypatch):
        codec = make(decoder_limit=0.01)
        bitstream = codec.encode(picture(8, 8))
        assert codec.decoder_path
        monkeypatch.setenv("LOSSYLENS_FAKE", "hang")
        with pytest.raises(BitstreamError, match=r"ended after 0\.6 s"):
            codec.decode(bitstream)

    def test_another_standard(self, make):
        with pytest.raises(BitstreamError, match=r"^test-vvc: "):
            make(Vvc).decode(make(Hevc).encode(picture(8, 8)))

    @pytest.mark.parametrize("size", [(16384, 2200), (20000, 8)])
    def test_sizes_beyond_the_limits_never_reach_it(self, size, make, tmp_path):
        from lossylens_toolkit.external_codec.fake_program import hevc_set, protected

        sps = protected(hevc_set(*size, "444", 8))
        stream = b"\0\0\0\1" + sps + b"\0\0\1\x26\x01\x80\x80"
        with pytest.raises(BitstreamError, match="above the limit"):
            make(decoder=tmp_path).decode(stream)

    def test_a_size_in_the_header_that_does_not_fit(self, make):
        bitstream = make().encode(picture(3, 3))
        assert bitstream[:3] == b"\x10\x03\x03"
        for size in (b"\x09\x03", b"\x00\x03", b"\x03\xff\x7f"):
            with pytest.raises(BitstreamError, match="sizes in its headers differ"):
                make().decode(b"\x10" + size + bitstream[3:])

    def test_rgb_that_is_subsampled(self, make):
        bitstream = make(subsampling="420").encode(picture(8, 8))
        with pytest.raises(BitstreamError, match="never subsampled"):
            make().decode(b"\x02" + bitstream)


@pytest.mark.parametrize(("qp", "kind"), [(52, Hevc), (64, Vvc), (-1, Hevc), ("9", Vvc)])
def test_quantisation_parameters_are_checked(qp, kind, make):
    with pytest.raises(ConfigError, match="outside 0"):
        kind(Level("any", {"qp": qp}), ReferenceOptions())


@pytest.mark.parametrize("size", [(16385, 1), (6000, 6000)])
def test_sizes_beyond_the_limits(size, make):
    with pytest.raises(ImageError, match="too large"):
        make().encode(Image.new("RGB", size))
