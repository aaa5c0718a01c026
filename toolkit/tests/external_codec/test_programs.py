import os
import subprocess

import pytest
from lossylens.errors import ConfigError, RequirementError
from lossylens_toolkit.external_codec.program_options import (
    ConversionOptions,
    ProgramOptions,
    ReferenceOptions,
    qp_levels,
    qp_parser,
)
from lossylens_toolkit.external_codec.program_testing import install_programs
from lossylens_toolkit.external_codec.programs import (
    Program,
    file_sha256,
    find_program,
    missing_program,
    require_program,
    version,
)
from lossylens_toolkit.external_codec.software import Software

ENCODER = Program(
    what="HM encoder",
    option="encoder",
    variable="LOSSYLENS_TEST_ENCODER",
    names=("TAppEncoder", "TAppEncoderStatic"),
    source="build it",
    banner="HM software: Encoder",
)
DECODER = Program("HM decoder", "decoder", "LOSSYLENS_TEST_DECODER", ("TAppDecoder",), "get", "HM")
SOFTWARE = Software(ENCODER, DECODER, {"4:4:4": "encoder_intra_main_rext.cfg"})


@pytest.fixture
def programs(tmp_path):
    return install_programs(tmp_path / "release", ["TAppEncoder", "TAppDecoder"])


@pytest.fixture(autouse=True)
def _empty_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


def test_order_of_places(programs, tmp_path, monkeypatch):
    other = install_programs(tmp_path / "other", ["TAppEncoderStatic"])
    assert find_program(ENCODER, None) is None
    monkeypatch.setenv("PATH", str(other))
    assert find_program(ENCODER, None) == (other / "TAppEncoderStatic").resolve()
    monkeypatch.setenv(ENCODER.variable, str(programs))
    assert find_program(ENCODER, None) == (programs / "TAppEncoder").resolve()
    assert find_program(ENCODER, other) == (other / "TAppEncoderStatic").resolve()
    assert find_program(ENCODER, other / "TAppEncoderStatic")


def test_a_place_that_is_named_is_the_only_one(programs, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(programs))
    wrong = tmp_path / "wrong"
    assert find_program(ENCODER, wrong) is None
    (missing,) = missing_program(ENCODER, wrong)
    assert str(wrong) in missing.what


def test_a_file_that_is_no_program(programs, tmp_path):
    (programs / "TAppEncoder").chmod(0o644)
    if os.access(programs / "TAppEncoder", os.X_OK):
        pytest.skip("this user may execute anything")
    assert find_program(ENCODER, programs) is None


def test_what_is_missing_names_all_ways_to_help():
    with pytest.raises(RequirementError) as caught:
        require_program(ENCODER, None)
    for part in ("HM encoder", "TAppEncoderStatic", "build it", "option encoder", ENCODER.variable):
        assert part in str(caught.value)


def test_version(programs):
    found = version(ENCODER, programs / "TAppEncoder")
    assert found == "HM software: Encoder Version [18.0] (stand-in)"


def test_another_program_under_that_name(programs):
    with pytest.raises(RequirementError, match="is no HM encoder: it says 'HM software: Decoder"):
        version(ENCODER, programs / "TAppDecoder")


def test_another_program_is_missing_the_right_one(programs):
    """What is asked before anything is encoded, and by ``doctor``."""
    (missing,) = missing_program(ENCODER, programs / "TAppDecoder")
    assert missing.what.endswith(
        "is no HM encoder: it says 'HM software: Decoder Version [18.0] (stand-in)'"
    )
    assert missing.remedy == "build it; then set option encoder or LOSSYLENS_TEST_ENCODER"
    (programs / "TAppEncoder").write_bytes(b"\x7fELF nonsense")
    (missing,) = missing_program(ENCODER, programs)
    assert missing.what.endswith("TAppEncoder cannot be run: Exec format error")


@pytest.mark.parametrize(
    ("name", "size"),
    [("TAppEncoder", 81616), ("TAppDecoder", 3639), ("EncoderApp", 458834), ("DecoderApp", 5715)],
)
def test_the_version_comes_before_all_that_a_program_can_do(name, size, tmp_path):
    """As much as HM 18.0 and VTM 23.13 print; VTM's usage has NUL bytes in it."""
    path = install_programs(tmp_path, [name]) / name
    said = subprocess.run([path], capture_output=True)
    assert said.returncode == 1
    assert (len(said.stdout), said.stdout[:1]) == (size, b"\n")
    assert (b"\0" in said.stdout) == (name == "EncoderApp")
    program = Program(name, "encoder", "LOSSYLENS_TEST_ENCODER", (name,), "get", "ersion.*stand-in")
    assert version(program, path).endswith("(stand-in)")


def test_a_program_that_cannot_be_run(programs):
    (programs / "TAppEncoder").write_bytes(b"\x7fELF nonsense")
    with pytest.raises(RequirementError, match="TAppEncoder cannot be run"):
        version(ENCODER, programs / "TAppEncoder")


def test_a_file_that_changed_is_read_again(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"1")
    before = file_sha256(file)
    file.write_bytes(b"22")
    assert file_sha256(file) != before


class TestSoftware:
    def test_everything_is_missing(self):
        whats = [each.what for each in SOFTWARE.missing(ReferenceOptions())]
        assert [what[:10] for what in whats] == ["HM encoder", "HM decoder"]

    def test_nothing_is_missing(self, programs):
        options = ReferenceOptions(encoder=programs, decoder=programs)
        assert not SOFTWARE.missing(options)
        found = SOFTWARE.find_config(options)
        assert found == programs.parent.resolve() / "cfg" / "encoder_intra_main_rext.cfg"

    def test_the_configuration_file_is_missing(self, programs):
        (programs.parent / "cfg" / "encoder_intra_main_rext.cfg").unlink()
        options = ReferenceOptions(encoder=programs, decoder=programs)
        (missing,) = SOFTWARE.missing(options)
        assert "encoder_intra_main_rext.cfg" in missing.what
        assert "option config" in missing.remedy

    def test_a_configuration_file_that_is_named(self, programs, tmp_path):
        file = tmp_path / "my.cfg"
        options = ReferenceOptions(encoder=programs, decoder=programs, config=file)
        with pytest.raises(ConfigError, match=r"my\.cfg"):
            SOFTWARE.missing(options)
        file.touch()
        assert SOFTWARE.find_config(options) == file

    def test_programs_without_one(self, programs):
        assert not SOFTWARE.missing(ProgramOptions(encoder=programs, decoder=programs))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"subsampling": "4:1:1"}, "quotes"),
        ({"subsampling": "422"}, "4:2:2 is not supported"),
        ({"matrix": "bt2020"}, "bt709, bt601, rgb"),
        ({"matrix": "rgb", "subsampling": "420"}, "needs subsampling 4:4:4"),
        ({"matrix": "rgb", "full_range": False}, "full_range"),
        ({"input_depth": 9}, "8 or 10"),
        ({"encoder_limit": 0.0}, "encoder_limit"),
        ({"decoder_limit": float("nan")}, "decoder_limit"),
        ({"internal_depth": 7}, "internal_depth"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValueError, match=match):
        ReferenceOptions(**options)


def test_subsampling_without_colons():
    assert ConversionOptions(subsampling="420").subsampling == "4:2:0"


def test_levels_ascend_in_rate():
    assert [level.name for level in qp_levels(40, 51, 45, 40)] == ["qp51", "qp45", "qp40"]


@pytest.mark.parametrize(("name", "qp"), [("qp0", 0), ("QP51", 51), (" qp9 ", 9)])
def test_level_names(name, qp):
    assert qp_parser(51)(name).parameters == {"qp": qp}


@pytest.mark.parametrize("name", ["qp52", "qp07", "qp-1", "qp", "45", "qp4٣"])
def test_other_level_names(name):
    assert qp_parser(51)(name) is None
