"""The conformance suite notices what it is there for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lossylens.plugins import load_registry
from lossylens.testing.decoding import DecodingProcess
from lossylens.testing.pictures import picture

#: The test that fails for each codec, and what it says.
NOTICED = {
    "permissive": ("test_levels", "parse_level and levels disagree"),
    "careless": ("test_options_that_make_no_sense", "ZeroDivisionError"),
    "shrinking": ("test_round_trip[{}-17x1]", r"\(16, 1\)"),
    "mirrored": ("test_the_picture_is_the_right_one", "assert False"),
    "remembering": (
        "test_round_trip[{}-9x7]",
        "refused a sound bitstream: remembering: unknown",
    ),
    "descending": ("test_rate_falls_as_levels_fall", r"bytes of \['e0', 'e9'\]"),
    "counting": ("test_encoding_is_deterministic", "At index 0 diff"),
    "paying": ("test_pixels_are_all_that_counts", "At index 0 diff"),
    "batching": ("test_batches", "At index 0 diff"),
    "converting": ("test_other_modes_are_refused[{}-L]", "DID NOT RAISE"),
    "raising": ("test_bit_flips", "raised error: Error -3 while decompressing|raised ValueError"),
    "greedy": ("test_empty", r"took 5\.0 GiB of memory"),
    "crashing": ("test_empty", "killed by SIGSEGV"),
    "lenient": ("test_truncated", r"cut to 0 bytes: a RGB image of \(24, 40\) instead"),
    "unheard-of": ("test_levels", "unknown codec 'unheard-of'"),
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
    assert f"{len(NOTICED) - 1} failed, 1 error" in report, report
    title = r"_ (?:ERROR at setup of )?TestCodec\.(\S+) _+\n"
    sections = dict(re.findall(title + r"(.*?)(?=\n_|\n=)", report, re.DOTALL))
    for test, (_, message) in zip(tests, NOTICED.values(), strict=True):
        assert re.search(message, sections[test]), f"{test}: {sections[test]}"


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
from lossylens.testing.decoding import _Programs
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


def test_no_codec_is_named(site: Path) -> None:
    done = check(site, "--pyargs", "lossylens.testing")
    assert done.returncode != 0
    assert "which codec is to be checked? Say --codec NAME" in done.stdout + done.stderr
