"""Stand-ins for external programs, so that what runs them is tested with real processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from lossylens.toolkit.external_codec.software import Software

#: The stand-in, which is a program of its own.
_SOURCE = Path(__file__).with_name("fake_program.py")

#: Configuration files in the releases of HM and VTM.
CONFIGS = ("encoder_intra_main.cfg", "encoder_intra_main_rext.cfg", "encoder_intra_vtm.cfg")


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
    for name in CONFIGS:
        (folder / "cfg" / name).write_text("QP : 32\n", encoding="utf-8")
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
