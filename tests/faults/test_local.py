"""``local`` keeps what it promises: killed, without space, with plugins that fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

#: Put before everything that a run starts: wall clocks that jump by hours, back and forth.
JUMPING = """
import random, time
_time, _time_ns, _chance = time.time, time.time_ns, random.Random(3)
def jump():
    return _chance.uniform(-9e4, 9e4)
time.time = lambda: _time() + jump()
time.time_ns = lambda: _time_ns() + int(1e9 * jump())
"""


def test_killed_at_random_moments(harmed: Any, harness: Any, chance: Any, tools: Any) -> None:
    images = 40 if tools.LONG else 6
    undisturbed = harmed(images)
    start = time.monotonic()
    assert undisturbed.end()[0] == 0
    longest = time.monotonic() - start
    victims = {"driver": tools.kill_driver, "worker": tools.kill_worker}
    work = harness(lambda: harmed(images), (), victims, delay=0.1 if tools.LONG else 0.02)
    for run in work.run(chance, tools.ROUNDS, longest):
        assert run.contents() == undisturbed.contents()
    assert len(work.harms) == tools.ROUNDS


def test_clocks_that_jump(harmed: Any, tools: Any, tmp_path: Path) -> None:
    """The clocks that Python asks, in all processes; that of the system stays what it is."""
    undisturbed, jumping = harmed(4), harmed(4)
    assert undisturbed.end()[0] == 0
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(JUMPING)
    path = os.pathsep.join([str(tmp_path / "clock"), str(tools.SAMPLE)])
    code, errors = jumping.end(PYTHONPATH=path)
    assert code == 0, errors
    assert jumping.contents() == undisturbed.contents()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A function that makes a file system of so many kilobytes."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(folder)]
        program = shutil.which("mount")
        if program is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(
                "needs the right to mount a small file system (a limit on the size of files,"
                " tests/test_resume.py, is not the same: it bounds each file)"
            )
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("what", ["store", "cache", "temporary"])
def test_a_full_disk(harmed: Any, small_disk: Callable[[int], Path], what: str) -> None:
    """One line says so; with room again, the same command ends as if nothing had happened."""
    undisturbed, full = harmed(6), harmed(6)
    assert undisturbed.end()[0] == 0
    disk = small_disk(200)
    overrides, environment = (), {}
    if what == "store":
        full.out.symlink_to(disk, target_is_directory=True)
    elif what == "cache":
        overrides = (f"run.cache={disk / 'cache'}",)
    else:
        environment = {"TMPDIR": str(disk)}
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * (200 * 1024 if what != "store" else 96 * 1024))
    code, errors = full.end(*overrides, **environment)
    if what == "temporary":
        # No file there is needed by these plugins.
        assert code == 0, errors
    else:
        assert code == 2, errors
        assert errors.splitlines()[-1].startswith("lossylens: ")
        assert "pace" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    ballast.unlink()
    if what == "store" or what == "cache":
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    code, errors = full.end(*overrides, **environment)
    assert code == 0, errors
    assert full.contents() == undisturbed.contents()


@pytest.mark.parametrize("what", ["out", "cache"])
def test_a_folder_that_is_read_only(
    harmed: Any, small_disk: Callable[[int], Path], what: str
) -> None:
    run = harmed(2)
    disk = small_disk(64)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, errors = run.end(f"run.{what}={disk / 'folder'}")
    assert code == 2, errors
    assert errors.splitlines()[-1].startswith(f"lossylens: run.{what}: cannot write")
    assert not (run.folder / "run").exists()
