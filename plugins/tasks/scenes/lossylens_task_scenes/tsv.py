"""Writing the tab-separated files of the reference evaluator."""

from __future__ import annotations

import base64
import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from lossylens_task_scenes.charts import Chart, draw_chart
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import Scene

ImageFormat = Literal["png", "jpeg95"]

IMAGE_FORMATS: Final[tuple[ImageFormat, ...]] = ("png", "jpeg95")

Drawing = Scene | Chart
Cell = str | int | Drawing | tuple[Drawing, ...]
Row = Mapping[str, Cell]
"""One row by column name.  A drawing in the image column is rendered and written as base64, a
tuple of them as a list; an int there is the index of the row that holds the pictures."""


def image_bytes(image: Image.Image, image_format: ImageFormat = "png") -> bytes:
    """The image as a file: lossless PNG, or JPEG of quality 95 with Pillow's defaults."""
    buffer = io.BytesIO()
    if image_format == "png":
        image.save(buffer, "PNG")
    elif image_format == "jpeg95":
        image.save(buffer, "JPEG", quality=95)
    else:
        raise ValueError(f"unknown image format {image_format!r}; known: png, jpeg95")
    return buffer.getvalue()


def _base64(drawing: Drawing, image_format: ImageFormat) -> str:
    image = render(drawing) if isinstance(drawing, Scene) else draw_chart(drawing)
    return base64.b64encode(image_bytes(image, image_format)).decode("ascii")


def _drawings(cell: Cell) -> tuple[Drawing, ...]:
    if isinstance(cell, tuple):
        return cell
    return (cell,) if isinstance(cell, Drawing) else ()


def _text(cell: Cell, image_format: ImageFormat) -> str:
    pictures = [_base64(drawing, image_format) for drawing in _drawings(cell)]
    if not pictures:
        return str(cell)
    return pictures[0] if len(pictures) == 1 else repr(pictures)


def write_tsv(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Row],
    image_format: ImageFormat = "png",
    on_image: Callable[[], None] | None = None,
) -> int:
    """Write the rows one by one and give the file its name when it is complete.

    Returns the number of rows.  `on_image` is called for each picture, after its row.  When
    anything fails, an existing file at `path` is left as it was.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
            writer.writerow(columns)
            count = 0
            for row in rows:
                if set(row) != set(columns):
                    raise ValueError(f"row has the columns {sorted(row)}, not {sorted(columns)}")
                writer.writerow([_text(row[column], image_format) for column in columns])
                count += 1
                if on_image is not None:
                    for _ in _drawings(row.get("image", "")):
                        on_image()
        # mkstemp makes files for the owner alone; give it the usual permissions.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return count
