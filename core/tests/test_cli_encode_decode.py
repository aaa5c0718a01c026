import os
import stat

import numpy as np
import pytest
from lossylens.cli import main
from lossylens.cli.single_files import parse_options, write_output
from lossylens.errors import ConfigError
from PIL import Image


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    samples = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(samples).save(path)
    return path


def run(*arguments):
    return main([str(argument) for argument in arguments])


def refused(capsys, *arguments):
    assert run(*arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("lossylens: ")
    assert error.count("\n") == 1
    return error


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_round_trip(photo, tmp_path, capsys):
    bitstream, decoded = tmp_path / "photo.bin", tmp_path / "decoded.png"
    assert run("encode", "uncompressed", "raw", photo, bitstream) == 0
    assert capsys.readouterr().out == f"{bitstream.stat().st_size} bytes, 24.0000 bpp (30x20)\n"
    assert run("decode", "uncompressed", "raw", bitstream, decoded) == 0
    assert capsys.readouterr().out == "30x20\n"
    with Image.open(photo) as first, Image.open(decoded) as second:
        assert second.format == "PNG"
        assert first.tobytes() == second.tobytes()
    assert set(files_of(tmp_path)) == {"photo.png", "photo.bin", "decoded.png"}


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.ppm", "a.tif", "a.tiff"])
def test_lossless_formats(name, photo, tmp_path):
    bitstream = tmp_path / "b"
    run("encode", "uncompressed", "raw", photo, bitstream)
    assert run("decode", "uncompressed", "raw", bitstream, tmp_path / name) == 0
    with Image.open(photo) as first, Image.open(tmp_path / name) as second:
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.webp", "a.avif", "a.gif", "a", "a.txt"])
def test_lossy_and_unknown_formats(name, photo, tmp_path, capsys):
    bitstream = tmp_path / "b"
    run("encode", "uncompressed", "raw", photo, bitstream)
    capsys.readouterr()
    error = refused(capsys, "decode", "uncompressed", "raw", bitstream, tmp_path / name)
    assert "must not be coded lossily once more" in error
    assert not (tmp_path / name).exists()


def test_photographs_are_turned_upright(tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (30, 20)).save(photo, exif=exif)
    assert run("encode", "uncompressed", "raw", photo, tmp_path / "b") == 0
    assert "(20x30)" in capsys.readouterr().out


class TestRefusals:
    def test_missing_input(self, tmp_path, capsys):
        for command in ("encode", "decode"):
            output = tmp_path / "o.png"
            error = refused(capsys, command, "uncompressed", "raw", tmp_path / "no.png", output)
            assert "no.png: No such file" in error
        assert not files_of(tmp_path)

    def test_input_is_never_overwritten(self, photo, tmp_path, capsys):
        before = files_of(tmp_path)
        (tmp_path / "link.png").symlink_to(photo)
        for output in (photo, tmp_path / "link.png", tmp_path / "." / "photo.png"):
            for command in ("encode", "decode"):
                error = refused(capsys, command, "uncompressed", "raw", photo, output)
                assert "it is the input" in error
        assert before["photo.png"] == photo.read_bytes()

    def test_not_an_image(self, tmp_path, capsys):
        (tmp_path / "text.png").write_bytes(b"text")
        output = tmp_path / "o"
        error = refused(capsys, "encode", "uncompressed", "raw", tmp_path / "text.png", output)
        assert "text.png" in error
        assert not output.exists()

    def test_not_a_bitstream(self, photo, tmp_path, capsys):
        output = tmp_path / "o.png"
        output.write_bytes(b"before")
        error = refused(capsys, "decode", "uncompressed", "raw", photo, output)
        assert "photo.png" in error
        assert output.read_bytes() == b"before"

    def test_unknown_codec_and_level(self, photo, tmp_path, capsys):
        refused(capsys, "encode", "no-such-codec", "raw", photo, tmp_path / "o")
        refused(capsys, "encode", "uncompressed", "no-such-level", photo, tmp_path / "o")

    def test_options(self, photo, tmp_path, capsys):
        for option in ("key", "=3", "no_such=3"):
            arguments = ("uncompressed", "raw", photo, tmp_path / "o", "--option", option)
            refused(capsys, "encode", *arguments)
        assert set(files_of(tmp_path)) == {"photo.png"}

    def test_missing_folder(self, photo, tmp_path, capsys):
        error = refused(capsys, "encode", "uncompressed", "raw", photo, tmp_path / "no" / "o")
        assert "there is no folder" in error

    def test_output_that_is_no_regular_file(self, photo, tmp_path, capsys):
        error = refused(capsys, "encode", "uncompressed", "raw", photo, tmp_path)
        assert "not a regular file" in error


class TestWriting:
    def test_leaves_nothing_behind_when_it_fails(self, tmp_path, monkeypatch):
        (tmp_path / "o").write_bytes(b"before")

        def fail(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(ConfigError, match="No space left"):
            write_output(tmp_path / "o", b"after")
        assert files_of(tmp_path) == {"o": b"before"}

    def test_follows_links(self, tmp_path):
        (tmp_path / "target").write_bytes(b"before")
        (tmp_path / "link").symlink_to(tmp_path / "target")
        write_output(tmp_path / "link", b"after")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_bytes() == b"after"

    def test_takes_the_usual_permissions(self, tmp_path):
        (tmp_path / "plain").write_bytes(b"")
        write_output(tmp_path / "o", b"x")
        modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "o")}
        assert len(modes) == 1

    def test_long_names(self, tmp_path):
        write_output(tmp_path / ("n" * 255), b"x")
        assert files_of(tmp_path) == {"n" * 255: b"x"}


class TestOptions:
    def test_text_stays_text(self):
        pairs = ["subsampling=4:2:0", "a=012", "b=true", "c=x=y", "d="]
        assert parse_options(pairs) == {
            "subsampling": "4:2:0",
            "a": "012",
            "b": "true",
            "c": "x=y",
            "d": "",
        }

    def test_yaml_where_needed(self):
        found = parse_options(["a=[1, 2]", "b={c: 3}", "d=null"])
        assert found == {"a": [1, 2], "b": {"c": 3}, "d": None}

    @pytest.mark.parametrize("pairs", [["a"], ["=1"], ["a=1", "a=2"], ["a=[1"]])
    def test_malformed(self, pairs):
        with pytest.raises(ConfigError, match="--option"):
            parse_options(pairs)
