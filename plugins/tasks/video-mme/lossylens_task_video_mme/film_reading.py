"""Reads films with PyAV; in a process of its own, since films are hostile input.

Functions take and return JSON in bytes, see :mod:`lossylens_toolkit.isolated`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging
from av.error import FFmpegError

# Its warnings would go to the terminal; errors are exceptions.
av.logging.set_level(None)


def inspect(request: bytes) -> bytes:
    """Return how many frames a film has, how fast they follow, and when each is shown.

    Args:
        request: ``{"path": ...}``.

    Returns:
        ``frames``; ``fps`` as a fraction; ``width`` and ``height``; ``times``, of the frames
        in units of the stream, in the order in which they are shown.

    Raises:
        ValueError: it is no film, or is damaged.
    """
    path = str(json.loads(request)["path"])
    try:
        with av.open(path) as container:
            stream = _video(container)
            times = sorted(_times(container, stream))
            fps = stream.average_rate
            if not times or not fps:
                raise ValueError("no frames")
            found = {
                "frames": len(times),
                "fps": str(Fraction(fps)),
                "width": stream.codec_context.width,
                "height": stream.codec_context.height,
                "pixels": str(stream.codec_context.pix_fmt),
                "codec": stream.codec_context.name,
                "times": times,
            }
    except (FFmpegError, OSError) as error:
        raise ValueError(_said(error)) from error
    return json.dumps(found).encode()


def extract(request: bytes) -> bytes:
    """Write frames of a film as PNG files.

    Args:
        request: ``path`` of the film, ``times`` of the frames as :func:`inspect` gave them,
            ``files`` to write.

    Raises:
        ValueError: the film is damaged there.
    """
    given = json.loads(request)
    times: Sequence[int] = given["times"]
    try:
        with av.open(str(given["path"])) as container:
            stream = _video(container)
            stream.thread_type = "AUTO"
            for time, file in zip(times, given["files"], strict=True):
                _frame(container, stream, time).to_image().save(Path(file), "PNG")
    except (FFmpegError, OSError) as error:
        raise ValueError(_said(error)) from error
    return b""


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _video(container: Any) -> Any:
    if not container.streams.video:
        raise ValueError("it has no pictures")
    return container.streams.video[0]


def _times(container: Any, stream: Any) -> Iterator[int]:
    for packet in container.demux(stream):
        # The last one is empty; what an edit list cuts away is never shown.
        if packet.size and not packet.is_discard:
            if packet.pts is None:
                raise ValueError("its frames have no times; remux it, as into .mp4")
            yield packet.pts


def _frame(container: Any, stream: Any, time: int) -> Any:
    """Return the frame that is shown at *time*, from the last key frame before it on."""
    for start in (time, 0):
        # Behind a key frame, frames that depend on earlier ones may be left out.
        container.seek(start, stream=stream, backward=True, any_frame=False)
        for frame in container.decode(stream):
            if frame.pts == time:
                return frame
            if frame.pts is not None and frame.pts > time:
                break
    raise ValueError(f"no frame can be decoded at {float(time * stream.time_base):g} s")
