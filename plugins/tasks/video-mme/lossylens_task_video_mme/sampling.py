"""Which frames of a film are shown, as the reference evaluator chooses them."""

from __future__ import annotations


def evenly_spaced(frames: int, count: int) -> list[int]:
    """Return *count* frames of a film that has *frames*, never the first and the last.

    A film with fewer has some of them repeated.
    """
    step = frames / (count + 1)
    return [int(place * step) for place in range(1, count + 1)]


def at_rate(frames: int, film_fps: float, fps: float) -> list[int]:
    """Return *fps* frames for each second of a film, the first one among them."""
    step = film_fps / fps
    return [int(place * step) for place in range(int(frames / film_fps * fps))]
