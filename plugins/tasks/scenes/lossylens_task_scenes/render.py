"""Drawing a scene.  Deterministic for one version of Pillow and of the picture packages."""

from __future__ import annotations

import math

import numpy as np
from lossylens_toolkit.photographs import PHOTOGRAPHS, load_photograph
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from lossylens_task_scenes.fonts import em_for_height, load_font
from lossylens_task_scenes.scene import Background, Scene, SceneObject, Word, word_margin
from lossylens_task_scenes.shapes import placed_polygons

_FINE = 4
"""Masks are drawn this many times larger and reduced: that is the antialiasing."""


def render(scene: Scene) -> Image.Image:
    """The scene as an RGB image of scene.width x scene.height pixels."""
    canvas = _background(scene.background, scene.width, scene.height)
    for thing in scene.objects:
        _draw_object(canvas, thing)
    for word in scene.words:
        _draw_word(canvas, word)
    return canvas


# --- backgrounds ------------------------------------------------------------------------------


def _background(spec: Background, width: int, height: int) -> Image.Image:
    if spec.kind == "photograph":
        return _photograph(spec, width, height)
    if spec.kind == "plain":
        return Image.new("RGB", (width, height), spec.colors[0])
    if spec.kind == "noise":
        return _noise(spec, width, height)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    c, s = math.cos(math.radians(spec.angle)), math.sin(math.radians(spec.angle))
    along = c * (xs - width / 2) + s * (ys - height / 2)
    if spec.kind == "gradient":
        reach = (abs(c) * width + abs(s) * height) / 2
        share = (along / reach + 1) / 2
    else:
        share = _square_wave(along, spec.period)
        if spec.kind == "checker":
            across = c * (ys - height / 2) - s * (xs - width / 2)
            other = _square_wave(across, spec.period)
            share = share * (1 - other) + other * (1 - share)
        elif spec.kind != "stripes":
            raise ValueError(f"unknown background {spec.kind!r}")
    return _blend(share, spec)


def _square_wave(position: NDArray[np.float32], period: float) -> NDArray[np.float32]:
    """0 and 1 in turn, half a period each, with an edge one pixel wide."""
    phase = np.abs((position / period) % 1.0 - 0.5) * period
    wave: NDArray[np.float32] = np.clip(phase - period / 4 + 0.5, 0.0, 1.0)
    return wave


def _blend(share: NDArray[np.float32], spec: Background) -> Image.Image:
    first = np.asarray(spec.colors[0], dtype=np.float32)
    second = np.asarray(spec.colors[1], dtype=np.float32)
    mixed = first + (second - first) * share[..., None].astype(np.float32)
    return Image.fromarray(np.clip(mixed + 0.5, 0, 255).astype(np.uint8))


def _noise(spec: Background, width: int, height: int) -> Image.Image:
    """Coloured noise whose amplitude falls as 1/f: octaves of enlarged random grids."""
    rng = np.random.Generator(np.random.PCG64(spec.noise_seed))
    first = np.asarray(spec.colors[0], dtype=np.float32)
    second = np.asarray(spec.colors[1], dtype=np.float32)
    total = np.broadcast_to((first + second) / 2, (height, width, 3)).astype(np.float32)
    amplitude = 110.0 * spec.gain
    cells = 3
    while True:
        last = cells * 2 > min(width, height)
        shape = (height, width, 3) if last else (cells, cells, 3)
        grid = rng.integers(0, 256, size=shape, dtype=np.uint8)
        if not last:
            octave = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
            grid = np.asarray(octave)
        total += (grid.astype(np.float32) - 127.5) * np.float32(amplitude / 127.5)
        if last:
            return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))
        cells *= 2
        amplitude /= 2


def _photograph(spec: Background, width: int, height: int) -> Image.Image:
    source = load_photograph(spec.photograph)
    crop = source.resize((width, height), Image.Resampling.BICUBIC, box=spec.box, reducing_gap=3.0)
    if spec.flip:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if PHOTOGRAPHS[spec.photograph].grey:
        dark, bright = spec.colors
        return Image.merge(
            "RGB",
            [crop.point(_ramp(d, b, spec.gain)) for d, b in zip(dark, bright, strict=True)],
        )
    return crop.point(_ramp(0, 255, spec.gain) * 3)


def _ramp(dark: int, bright: int, gain: float) -> list[int]:
    return [min(255, round(gain * (dark + (bright - dark) * v / 255))) for v in range(256)]


# --- objects ----------------------------------------------------------------------------------


def outline_width(diameter: float) -> float:
    """Pixels of border around an object `diameter` pixels across."""
    return min(2.0, max(0.7, 0.05 * diameter))


def _draw_object(canvas: Image.Image, thing: SceneObject) -> None:
    border = outline_width(thing.diameter)
    left = math.floor(thing.box[0] - border)
    top = math.floor(thing.box[1] - border)
    right = math.ceil(thing.box[2] + border)
    bottom = math.ceil(thing.box[3] + border)
    fine = ((right - left) * _FINE, (bottom - top) * _FINE)
    polygons = [
        [((x - left) * _FINE, (y - top) * _FINE) for x, y in polygon]
        for polygon in placed_polygons(thing.shape, thing.x, thing.y, thing.radius, thing.angle)
    ]
    fill = Image.new("L", fine, 0)
    pen = ImageDraw.Draw(fill)
    pen.polygon(polygons[0], fill=255)
    for hole in polygons[1:]:
        pen.polygon(hole, fill=0)
    edge = Image.new("L", fine, 0)
    pen = ImageDraw.Draw(edge)
    for polygon in polygons:
        # Two points past the start, so that the last corner is joined like the others.
        pen.line([*polygon, *polygon[:2]], fill=255, width=round(border * _FINE), joint="curve")
    at = (left, top)
    canvas.paste(thing.rgb, at, fill.reduce(_FINE))
    if thing.texture != "plain":
        pattern = ImageChops.darker(_pattern(thing, fine, left, top), fill)
        canvas.paste(thing.accent, at, pattern.reduce(_FINE))
    canvas.paste(thing.outline, at, edge.reduce(_FINE))


def _pattern(thing: SceneObject, fine: tuple[int, int], left: int, top: int) -> Image.Image:
    """Mask of the second colour, fixed to the object's centre."""
    width, height = fine
    mask = Image.new("L", fine, 0)
    pen = ImageDraw.Draw(mask)
    cx, cy = (thing.x - left) * _FINE, (thing.y - top) * _FINE
    step = thing.period * _FINE
    reach = math.ceil(math.hypot(width, height) / 2 / step) + 1
    if thing.texture == "striped":
        c = math.cos(math.radians(thing.texture_angle))
        s = math.sin(math.radians(thing.texture_angle))
        far = width + height
        for k in range(-reach, reach + 1):
            # Half a step off: the centre keeps the first colour.
            x, y = cx + c * (k + 0.5) * step, cy + s * (k + 0.5) * step
            pen.line(
                [(x - s * far, y + c * far), (x + s * far, y - c * far)],
                fill=255,
                width=round(step * 0.45),
            )
    elif thing.texture == "dotted":
        radius = step * 0.3
        for i in range(-reach, reach + 1):
            for j in range(-reach, reach + 1):
                x, y = cx + (i + 0.5) * step, cy + (j + 0.5) * step
                if -step < x < width + step and -step < y < height + step:
                    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    elif thing.texture == "checked":
        half = step * 0.75
        for i in range(-2 * reach, 2 * reach + 1):
            for j in range(-2 * reach, 2 * reach + 1):
                x, y = cx + (i - 0.5) * half, cy + (j - 0.5) * half
                if (i + j) % 2 and -half < x < width and -half < y < height:
                    pen.rectangle([x, y, x + half - 1, y + half - 1], fill=255)
    else:
        raise ValueError(f"unknown texture {thing.texture!r}")
    return mask


# --- words ------------------------------------------------------------------------------------


def _draw_word(canvas: Image.Image, word: Word) -> None:
    left, top = math.floor(word.box[0]) - 1, math.floor(word.box[1]) - 1
    right, bottom = math.ceil(word.box[2]) + 1, math.ceil(word.box[3]) + 1
    fine = ((right - left) * _FINE, (bottom - top) * _FINE)
    cx, cy = (word.x - left) * _FINE, (word.y - top) * _FINE
    font = load_font(word.font, round(em_for_height(word.font, word.height) * _FINE))
    ink = font.getbbox(word.text)
    origin = (cx - (ink[0] + ink[2]) / 2, cy - (ink[1] + ink[3]) / 2)

    layers: list[tuple[tuple[int, int, int], Image.Image]] = []
    margin = word_margin(word.height, word.plate is not None)
    under = Image.new("L", fine, 0)
    pen = ImageDraw.Draw(under)
    if word.plate is not None:
        box = word.ink_box
        pen.rectangle(
            [
                (box[0] - left - margin) * _FINE,
                (box[1] - top - margin) * _FINE,
                (box[2] - left + margin) * _FINE,
                (box[3] - top + margin) * _FINE,
            ],
            fill=255,
        )
        layers.append((word.plate, under))
    else:
        pen.text(origin, word.text, font=font, fill=255, stroke_width=round(margin * _FINE))
        layers.append((word.outline, under))
    letters = Image.new("L", fine, 0)
    ImageDraw.Draw(letters).text(origin, word.text, font=font, fill=255)
    layers.append((word.rgb, letters))
    for color, mask in layers:
        if word.angle:
            mask = mask.rotate(word.angle, Image.Resampling.BILINEAR, center=(cx, cy))
        canvas.paste(color, (left, top), mask.reduce(_FINE))
