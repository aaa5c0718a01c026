"""The conformance suite notices what it is there for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lossylens.registry.plugins import load_registry
from lossylens.testing.decoding_process import DecodingProcess
from lossylens.testing.pictures import picture

#: The test that fails for each codec, and the whole of what it says.
NOTICED = {
    "permissive": ("test_levels", r"parse_level and levels disagree on 'e0': Level\(.*"),
    "careless": (
        "test_options_that_make_no_sense",
        r"option effort=-1000000000: raised ZeroDivisionError: .* \(lossylens_wayward.py, line"
        r" \d+\) instead of a ConfigError",
    ),
    "shrinking": (
        "test_round_trip[{}-17x1]",
        r"e9, a RGB image of \(17, 1\): decoded to a RGB image of \(16, 1\)",
    ),
    "mirrored": (
        "test_the_picture_is_the_right_one",
        r"e0, a RGB image of \(96, 96\): decoded to what resembles the image turned"
        r" \(FLIP_LEFT_RIGHT\) more than the image itself .*",
    ),
    "remembering": (
        "test_round_trip[{}-9x7]",
        r"e9, a RGB image of \(9, 7\): decoded in a process of its own: refused a sound"
        " bitstream: remembering: unknown",
    ),
    "descending": (
        "test_rate_falls_as_levels_fall",
        r"levels must ascend in rate; bytes of \['e0', 'e9'\]: \[\d+, \d+\]",
    ),
    "counting": (
        "test_encoding_is_deterministic",
        r"e9, a RGB image of \(70, 50\): another instance, which had encoded another image before,"
        r" gave another bitstream \(.*\)",
    ),
    "paying": (
        "test_pixels_are_all_that_counts",
        r"e9, an image with comment, exif, icc_profile, xmp in its info: \d+ bytes instead of the"
        r" \d+ without .* see lossylens.images.plain_rgb",
    ),
    "batching": (
        "test_batches",
        "e9, decode_batch: image 0 is not that of the bitstream alone",
    ),
    "converting": (
        "test_other_modes_are_refused[{}-L]",
        r"e9, an image of mode L: a bitstream of \d+ bytes instead of an ImageError",
    ),
    "naive": (
        "test_other_modes_are_refused[{}-I;16]",
        r"e9, an image of mode I;16: raised OSError: cannot write mode I;16"
        r" \(lossylens_wayward.py, line \d+\) instead of an ImageError with a message",
    ),
    "raising": (
        "test_bit_flips",
        r"e[90], bits [\d, ]+ flipped: raised \w*error: .* \(lossylens_wayward.py, line \d+\)"
        " instead of a BitstreamError with a message, or some RGB image",
    ),
    "undocumented": (
        "test_random_bytes",
        r"e9, the bytes b'.* raised OSError: broken data stream \(lossylens_wayward.py, line"
        r" \d+\) instead of a BitstreamError with a message",
    ),
    "greedy": (
        "test_empty",
        r"e9, no bytes: took 5\.0 GiB of memory instead of a BitstreamError with a message",
    ),
    "crashing": (
        "test_empty",
        "e9, no bytes: the process died: killed by SIGSEGV instead of a BitstreamError with a"
        " message",
    ),
    "lenient": (
        "test_truncated",
        r"e9, cut to 0 bytes: a RGB image of \(24, 40\) instead of a BitstreamError with a message",
    ),
    "unheard-of": ("test_levels", r"unknown codec 'unheard-of'\. .*"),
    "unbuildable": (
        "test_levels",
        r"codec 'unbuildable' cannot be built: ValueError: no weights \(lossylens_wayward.py, line"
        r" \d+\)",
    ),
    "threading": (
        "test_decoding_is_the_same_everywhere[{}-three-threads]",
        "e9, three-threads: [123] samples differ",
    ),
}

SKIPPED = {
    "lacking": "codec 'lacking' cannot run here: the binary waywardly: build it",
    "demanding": "codec 'demanding' must be given the option 'file'",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed distribution of ``wayward.py``."""
    folder = tmp_path_factory.mktemp("site")
    source = Path(__file__).with_name("wayward.py").read_text()
    (folder / "lossylens_wayward.py").write_text(source)
    info = folder / "lossylens_wayward-1.0.dist-info"
    info.mkdir()
    metadata = "Metadata-Version: 2.1\nName: lossylens-wayward\nVersion: 1.0\n"
    (info / "METADATA").write_text(metadata)
    (info / "entry_points.txt").write_text("[lossylens]\nwayward = lossylens_wayward\n")
    return folder


def check(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "--tb=short", *arguments],
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site), "LOSSYLENS_PLUGINS": "wayward"},
        capture_output=True,
        text=True,
    )


def conformance(site: Path, tests: list[str], codecs: list[str]) -> str:
    named = [argument for codec in codecs for argument in ("--codec", codec)]
    ids = [f"lossylens.testing.test_codec::TestCodec::{test}" for test in tests]
    return check(site, "--pyargs", *ids, *named, "--codec-examples", "30").stdout


@pytest.mark.slow
def test_a_sound_codec_passes(site: Path) -> None:
    done = check(site, "-W", "error", "--pyargs", "lossylens.testing", "--codec", "Sound")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_each_broken_rule_is_noticed(site: Path) -> None:
    tests = []
    for codec, (test, _) in NOTICED.items():
        tests.append(test.format(codec) if "[" in test else f"{test}[{codec}]")
    report = conformance(site, tests, list(NOTICED))
    assert f"{len(NOTICED) - 2} failed, 2 errors" in report, report
    title = r"_ (?:ERROR at setup of )?TestCodec\.(\S+) _+\n"
    sections = dict(re.findall(title + r"(.*?)(?=\n_|\n=)", report, re.DOTALL))
    for test, (_, message) in zip(tests, NOTICED.values(), strict=True):
        assert re.fullmatch(message, sections[test].strip(), re.IGNORECASE), sections[test]


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["nocodec"], ["unbuildable"], ["sound", "--codec-option=a=b"]]
)
def test_what_cannot_be_tested_at_all_is_one_error(site: Path, arguments: list[str]) -> None:
    done = check(site, "--pyargs", "lossylens.testing", "--codec", *arguments)
    assert done.returncode != 0
    assert re.search(r"= \d+ skipped, 1 error in", done.stdout), done.stdout
    assert "failed" not in done.stdout.splitlines()[-1]


#: Tests that decode hundreds of damaged bitstreams, each of which may fail.
DAMAGED = (
    *("test_truncated", "test_bit_flips", "test_pieces_replaced", "test_random_bytes"),
    "test_random_bytes_behind_a_sound_beginning",
)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["undocumented", "dying"])
def test_the_first_failure_ends_a_test(
    site: Path, codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("WAYWARD_LOG", str(log))
    ids = [f"lossylens.testing.test_codec::TestCodec::{test}[{codec}]" for test in DAMAGED]
    done = check(site, "--pyargs", *ids, "--codec", codec, "--codec-examples", "200")
    assert f"{len(DAMAGED)} failed" in done.stdout
    # Once to find it, and once more for Hypothesis to be sure; each of them twice where the
    # process was killed, which may have come from outside.
    times = 4 if codec == "dying" else 2
    assert len(log.read_text().splitlines()) <= times * len(DAMAGED)


@pytest.mark.slow
def test_what_cannot_run_is_skipped_with_the_reason(site: Path) -> None:
    report = conformance(site, [f"test_levels[{codec}]" for codec in SKIPPED], list(SKIPPED))
    assert "2 skipped" in report
    for reason in SKIPPED.values():
        assert reason in report


def test_a_decoder_that_hangs_is_ended(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("LOSSYLENS_PLUGINS", "wayward")
    codec = load_registry().build_codec("hanging", "e9")
    sound = ("e9", codec.encode(picture(4, 5)))
    process = DecodingProcess("hanging", {}, sound, seconds=0.5, memory=2**30)
    try:
        assert process.decode(*sound).size == (5, 4)
        assert process.decode("e9", b"").problem == "still decoding after 0.5 s"
        assert process.decode(*sound).size == (5, 4), "with a new process"
    finally:
        process.close()
        del sys.modules["lossylens_wayward"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_memory_of_programs_is_their_own(tmp_path: Path) -> None:
    """And not that of the process that starts them, of which they are copies at first."""
    script = tmp_path / "script.py"
    script.write_text(
        """
import subprocess, sys
from lossylens.testing.decoding_process import _Programs
programs = _Programs()
programs.start()
large = bytearray(300 << 20)
def run(code, *shell):
    subprocess.run([*shell, sys.executable, "-SE", "-c", code], check=True)
    print(programs.peak >> 20)
run("import time; time.sleep(0.5)")
run("x = bytearray(60 << 20); import time; time.sleep(0.5)", "/bin/sh", "-c", '"$@"; exit', "sh")
run("x = bytearray(500 << 20)")
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert not done.stderr
    none, some, much = (int(line) for line in done.stdout.split())
    assert 0 < none < 50
    assert 60 <= some < 110
    assert 500 <= much < 550


def test_nothing_is_named(site: Path) -> None:
    done = check(site, "--pyargs", "lossylens.testing")
    assert done.returncode != 0
    assert "what is to be checked? Say one of --codec, --vlm" in done.stdout + done.stderr
