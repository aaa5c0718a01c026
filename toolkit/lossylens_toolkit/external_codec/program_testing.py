"""Stand-ins for external programs, so that what runs them is tested with real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from lossylens_toolkit.external_codec.software import Software

#: The stand-in, which is a program of its own.
_SOURCE = Path(__file__).with_name("fake_program.py")

#: Configuration files in the releases of HM and VTM, and what of them bounds options.
CONFIGS = {
    "encoder_intra_main.cfg": "Profile : main\nInternalBitDepth : 8\n",
    "encoder_intra_main10.cfg": "Profile : main10\nInternalBitDepth : 10\n",
    "encoder_intra_main_rext.cfg": "Profile : main-RExt\nInternalBitDepth : 10\n",
    "encoder_intra_vtm.cfg": "InternalBitDepth : 10\n",
}


def install_programs(folder: Path, names: Iterable[str]) -> Path:
    """Put stand-ins of these names into *folder*, laid out as a release is.

    Args:
        folder: gets ``bin/`` with the programs and ``cfg/`` with configuration files.
        names: such as ``"TAppEncoder"``; see :mod:`.fake_program`.

    Returns:
        the folder of the programs.
    """
    programs = folder / "bin"
    programs.mkdir(parents=True)
    # Without site-packages it starts in a few milliseconds.
    source = f"#!{sys.executable} -SE\n{_SOURCE.read_text(encoding='utf-8')}"
    for name in names:
        path = programs / name
        path.write_text(source, encoding="utf-8")
        path.chmod(0o755)
    (folder / "cfg").mkdir()
    for name, content in CONFIGS.items():
        (folder / "cfg" / name).write_text(content, encoding="utf-8")
    return programs


@contextmanager
def stand_ins(folder: Path, software: Software) -> Iterator[None]:
    """Put stand-ins for *software* into *folder*; a codec without options finds them inside."""
    encoder, decoder = software.encoder, software.decoder
    programs = install_programs(folder, [encoder.names[0], decoder.names[0]])
    # One by its folder, one by its file: either will do.
    places = {encoder.variable: programs, decoder.variable: programs / decoder.names[0]}
    with mock.patch.dict(os.environ, {name: str(place) for name, place in places.items()}):
        yield


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Make *folder* a disk of *size* bytes; the test is skipped where this is not allowed."""
    folder.mkdir()
    options = f"size={size}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:  # noqa: S603
        import pytest

        pytest.skip("this user may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607
