"""Outlines of the shapes as polygons."""

from __future__ import annotations

import math
from functools import lru_cache

Point = tuple[float, float]
Polygon = tuple[Point, ...]

RING_HOLE = 0.55
"""Inner radius of a ring over its outer radius."""


def _circle(steps: int = 48, radius: float = 1.0) -> Polygon:
    return tuple(
        (radius * math.cos(2 * math.pi * k / steps), radius * math.sin(2 * math.pi * k / steps))
        for k in range(steps)
    )


def _star() -> Polygon:
    points = []
    for k in range(10):
        radius = 1.0 if k % 2 == 0 else 0.42
        angle = -math.pi / 2 + math.pi * k / 5
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    return tuple(points)


def _heart() -> Polygon:
    points = []
    for k in range(40):
        t = 2 * math.pi * k / 40
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x, -y))
    return tuple(points)


def _cross(arm: float = 0.34) -> Polygon:
    a = arm
    return (
        (-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a),
        (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a),
    )  # fmt: skip


def _normalised(polygon: Polygon) -> Polygon:
    """Centre the bounding box on the origin and make its longer side 2."""
    left, right = min(x for x, _ in polygon), max(x for x, _ in polygon)
    top, bottom = min(y for _, y in polygon), max(y for _, y in polygon)
    scale = 2.0 / max(right - left, bottom - top)
    cx, cy = (left + right) / 2, (top + bottom) / 2
    return tuple(((x - cx) * scale, (y - cy) * scale) for x, y in polygon)


@lru_cache(maxsize=16)
def unit_polygons(shape: str) -> tuple[Polygon, ...]:
    """Outer outline and, for a ring, its hole; the bounding box has its longer side from -1 to 1.

    y points down, as in images.
    """
    if shape == "circle":
        return (_circle(),)
    if shape == "ring":
        return (_circle(), _circle(radius=RING_HOLE))
    if shape == "square":
        return (((-1, -1), (1, -1), (1, 1), (-1, 1)),)
    if shape == "diamond":
        return (((0, -1), (0.66, 0), (0, 1), (-0.66, 0)),)
    if shape == "triangle":
        return (_normalised(((0, -1), (0.95, 0.8), (-0.95, 0.8))),)
    if shape == "star":
        return (_normalised(_star()),)
    if shape == "heart":
        return (_normalised(_heart()),)
    if shape == "cross":
        return (_cross(),)
    raise ValueError(f"unknown shape {shape!r}")


def placed_polygons(
    shape: str, x: float, y: float, radius: float, angle: float
) -> tuple[Polygon, ...]:
    """The polygons of a shape centred on (x, y), `radius` pixels, turned by `angle` degrees."""
    c = radius * math.cos(math.radians(angle))
    s = radius * math.sin(math.radians(angle))
    return tuple(
        tuple((x + c * px - s * py, y + s * px + c * py) for px, py in polygon)
        for polygon in unit_polygons(shape)
    )


def bounding_box(polygon: Polygon) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a polygon in pixels."""
    xs = [x for x, _ in polygon]
    ys = [y for _, y in polygon]
    return min(xs), min(ys), max(xs), max(ys)
