"""VTM: levels, golden numbers, and its command lines with stand-ins for its programs.

Golden numbers are of VTM 23.13.  What needs its programs runs where they are found, by
LOSSYLENS_VTM_ENCODER and LOSSYLENS_VTM_DECODER or on PATH, and says otherwise what is
missing.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from lossylens.codec import CodecSpec
from lossylens.errors import ConfigError
from lossylens.testing.pictures import picture
from lossylens.toolkit.external_codec.options import ReferenceOptions, qp_level
from lossylens.toolkit.external_codec.testing import install_programs
from lossylens.toolkit.external_codec.yuv import Conversion, Frame, pad, to_raw
from lossylens_codec_vtm.codec import Vtm
from lossylens_codec_vtm.plugin import SOFTWARE, register_codecs

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text(encoding="utf-8"))
VERSION = "23.13"

#: Options for each convention, and the bytes of header that they cost.
CONVENTIONS = {
    "444full709": {"subsampling": "4:4:4", "matrix": "bt709"},
    "420full601": {"subsampling": "4:2:0", "matrix": "bt601"},
}
MISSING = SOFTWARE.missing(ReferenceOptions())

golden = pytest.mark.parametrize(
    "row", GOLDEN["rows"], ids=lambda row: f"{row['picture']}-{row['convention']}-qp{row['qp']}"
)


def spec() -> CodecSpec:
    found = []
    register_codecs(found.append)
    return found[0]


def codec(qp, **options):
    return Vtm(qp_level(qp), ReferenceOptions(**options))


@golden
def test_golden_input(row):
    """The encoder is given the very bytes of which the golden numbers are."""
    height, width, _ = row["picture"]
    options = ReferenceOptions(**CONVENTIONS[row["convention"]])
    step = 2 if options.subsampling == "4:2:0" else 1
    frame = Frame(-(-width // step) * step, -(-height // step) * step, options.subsampling, 8)
    rgb = pad(np.asarray(picture(*row["picture"])), frame.width, frame.height)
    raw = to_raw(rgb, frame, Conversion(options.matrix))
    assert hashlib.sha256(raw).hexdigest() == row["yuv_in_sha256"]
    assert len(raw) == row["yuv_out_bytes"]


@pytest.mark.skipif(bool(MISSING), reason="; ".join(f"no {each.what}" for each in MISSING))
@golden
def test_golden(row):
    tested = codec(row["qp"], **CONVENTIONS[row["convention"]])
    found = tested.provenance()["encoder"]
    if VERSION not in found:
        pytest.skip(f"the golden numbers are of VTM {VERSION}, this is {found}")
    image = picture(*row["picture"])
    bitstream = tested.encode(image)
    stream = bitstream[bitstream.index(b"\0\0\0\1") :]
    assert len(stream) == row["bytes"]
    assert hashlib.sha256(stream).hexdigest() == row["bitstream_sha256"]
    error = np.asarray(tested.decode(bitstream), float) - np.asarray(image, float)
    psnr = 10 * np.log10(255**2 / np.mean(error**2))
    assert psnr == pytest.approx(row["psnr_rgb"], abs=1e-3)


class TestLevels:
    def test_default_is_the_union_of_the_published(self):
        names = [level.name for level in spec().levels]
        assert names == ["qp53", "qp50", "qp49", "qp45", "qp42", "qp40"]

    @pytest.mark.parametrize(
        ("task", "names"),
        [
            ("pope", ("qp53", "qp50", "qp45", "qp40")),
            ("COCO_caption", ("qp53", "qp50", "qp45", "qp40")),
            ("mme", ("qp53", "qp49", "qp45", "qp42")),
        ],
    )
    def test_published_by_task(self, task, names):
        assert spec().level_set(task) == names

    def test_no_such_set(self):
        assert spec().level_set("popes") is None

    def test_beyond_the_range(self):
        assert spec().level("qp0").parameters == {"qp": 0}
        with pytest.raises(ConfigError, match="qp0 to qp63"):
            spec().level("qp64")


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("LOSSYLENS_VTM_ENCODER", str(tmp_path / "EncoderApp"))
    monkeypatch.setenv("LOSSYLENS_VTM_DECODER", str(tmp_path))
    missing = spec().requirements(ReferenceOptions())
    assert [each.what.partition(" (")[0] for each in missing] == ["VTM encoder", "VTM decoder"]
    assert "LOSSYLENS_VTM_ENCODER" in missing[0].remedy


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """Stand-ins for the programs, where a codec without options finds them."""
    folder = install_programs(tmp_path_factory.mktemp("vtm"), ["EncoderApp", "DecoderApp"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSYLENS_VTM_ENCODER", str(folder))
        patch.setenv("LOSSYLENS_VTM_DECODER", str(folder / "DecoderApp"))
        yield


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    ("subsampling", "config"),
    [("4:4:4", "encoder_intra_vtm.cfg"), ("4:2:0", "encoder_intra_vtm.cfg")],
)
def test_command_line(subsampling, config):
    found = codec(42, subsampling=subsampling).provenance()
    assert found["encoder_arguments"] == (
        f"-c {config} -i in.yuv -b str.bin -o /dev/null -wdt 0 -hgt 0 -fr 1 -f 1 -q 42"
        f" --InputChromaFormat={subsampling.replace(':', '')} --InputBitDepth=8"
        " --ConformanceWindowMode=1 --SEIDecodedPictureHash=0"
    )
