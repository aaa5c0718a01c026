"""What is said while frames are shown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pysubs2


def said_at(path: Path, indices: Iterable[int], fps: float) -> list[str]:
    """Return a line for each frame within a subtitle, the first that it is in.

    A subtitle that several frames are in is repeated; its line breaks become blanks.

    Args:
        path: of the subtitles.
        indices: of the frames in the film.
        fps: frames per second of the film.

    Raises:
        ValueError: the file is damaged, or of an unknown format.
        OSError: it cannot be read.
    """
    try:
        cues = list(pysubs2.load(str(path), encoding="utf-8"))
    except pysubs2.Pysubs2Error as error:
        raise ValueError(f"{path} is no file of subtitles") from error
    lines = []
    for index in indices:
        now = pysubs2.make_time(fps=fps, frames=index)
        text = next((cue.text for cue in cues if cue.start < now < cue.end), "")
        if text.strip():
            lines.append(text.replace(r"\N", " "))
    return lines
