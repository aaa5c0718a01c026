"""Programs of a codec end with the command that has started them, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lossylens.testing.pictures import picture
from lossylens_toolkit.external_codec.program_testing import install_programs, small_disk

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).parents[1] / "core" / "tests" / "sample"

#: A script around a program, as of those who must load modules first.  It does not end
#: when it is to code something.
WRAPPER = """#!/bin/sh
if [ $# -eq 0 ]; then exec "{program}"; fi
LOSSYLENS_FAKE=hang "{program}" "$@" &
echo $$ $! >> "{log}"
wait
"""

CONFIG = """
codecs: {{hm: {{levels: [qp42]}}}}
vlms: {{seer: }}
tasks: {{patches: {{images: 4, questions: 1}}}}
run: {{out: run, workers: {workers}}}
"""

COMMANDS = {
    "encode": ["encode", "hm", "qp42", "picture.png", "picture.bin"],
    "decode": ["decode", "hm", "qp42", "sound.bin", "picture.png"],
    "run with 1 worker": ["run", "config1.yaml"],
    "run with 2 workers": ["run", "config2.yaml"],
}


class Place:
    """A folder with what the commands need, where programs are started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(SAMPLE),
            "LOSSYLENS_PLUGINS": "sample,hm",
        }
        (folder / "tmp").mkdir()
        self.environment["TMPDIR"] = str(folder / "tmp")
        picture(40, 24).save(folder / "picture.png")
        for workers in (1, 2):
            (folder / f"config{workers}.yaml").write_text(CONFIG.format(workers=workers))
        programs = install_programs(folder / "release", ["TAppEncoder", "TAppDecoder"])
        self._use(programs)
        encoded = self.run("encode", "hm", "qp42", "picture.png", "sound.bin")
        assert encoded.returncode == 0, encoded.stderr
        scripts = folder / "release" / "scripts"
        scripts.mkdir()
        for program in programs.iterdir():
            script = scripts / program.name
            script.write_text(WRAPPER.format(program=program, log=self.log))
            script.chmod(0o755)
        self._use(scripts)

    def _use(self, programs: Path) -> None:
        for role in ("ENCODER", "DECODER"):
            self.environment[f"LOSSYLENS_HM_{role}"] = str(programs)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "lossylens", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        said, errors = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, said, errors)

    def started(self) -> list[int]:
        """Return the scripts that have been started, and the programs in them."""
        return [int(each) for each in self.log.read_text().split()] if self.log.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("command", COMMANDS)
def test_programs_end(command: str, number: signal.Signals, place: Place) -> None:
    process = place.start(*COMMANDS[command])
    expected = 4 if "2 workers" in command else 2
    while len(place.started()) < expected:
        time.sleep(0.01)
        assert process.poll() is None, process.communicate()
    assert all(map(runs, place.started()))
    process.send_signal(number)
    process.communicate()
    limit = time.monotonic() + 30
    while any(map(runs, place.started())) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not [each for each in place.started() if runs(each)]


def test_time_limit_of_a_script(place: Place) -> None:
    done = place.run(*COMMANDS["encode"], "--option", "encoder_limit=0.02")
    assert done.returncode == 2
    assert "hm: the encoder failed on 24x40: it was ended after 1.2 s" in done.stderr
    assert len(place.started()) == 2
    assert not any(map(runs, place.started()))


def test_full_disk(place: Place, tmp_path: Path) -> None:
    place._use(tmp_path / "release" / "bin")
    with small_disk(tmp_path / "disk", 1 << 14) as disk:
        place.environment["TMPDIR"] = str(disk)
        picture(64, 100).save(tmp_path / "picture.png")
        done = place.run(*COMMANDS["encode"])
        assert not list(disk.iterdir())
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"lossylens: hm: the encoder failed: cannot write temporary files in {disk}: No space left"
    )
    assert done.stderr.count("\n") == 1


def test_doctor_asks_the_programs(place: Place, tmp_path: Path) -> None:
    assert "ready" in next(line for line in place.run("doctor").stdout.splitlines() if "hm" in line)
    programs = tmp_path / "release" / "bin"
    place.environment["LOSSYLENS_HM_ENCODER"] = str(programs / "TAppDecoder")
    said = " ".join(place.run("doctor").stdout.split())  # lines are broken where paths are long
    assert "is no HM encoder" in said
    assert "HM software: Decoder Version [18.0]" in said
