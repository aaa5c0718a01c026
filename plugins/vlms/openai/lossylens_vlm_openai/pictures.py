"""How images reach a server: as PNG files, within the request or beside it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
from lossylens.errors import ConfigError
from PIL.Image import Image


def grey() -> Image:
    """Return a small grey image."""
    return PIL.Image.new("RGB", (64, 64), (128, 128, 128))


def png(image: Image) -> bytes:
    """Return *image* as a PNG file of its pixels and nothing else.

    Colour profile and transparency key of the source are left out: the server
    might apply them, which models that are run here never do.
    """
    bare = image.copy()
    bare.info.clear()
    file = io.BytesIO()
    # Fast rather than small: servers decode it at once and do not bill for bytes.
    bare.save(file, "PNG", compress_level=1)
    return file.getvalue()


@contextlib.contextmanager
def within_request(image: Image) -> Iterator[str]:
    """Yield a ``data:`` address that holds *image*."""
    yield "data:image/png;base64," + base64.b64encode(png(image)).decode()


class SharedFolder:
    """A folder that the server can read, too.

    Args:
        folder: where image files are put; made if it is not there.
        url: address of the folder as the server knows it; empty for ``file://``.

    Raises:
        ConfigError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        self._folder = folder.expanduser().absolute()
        self._url = (url or self._folder.as_uri()).rstrip("/")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"openai: image_folder {folder}: {error.strerror}") from error

    @contextlib.contextmanager
    def __call__(self, image: Image) -> Iterator[str]:
        """Yield the address of a file with *image*, which is there meanwhile.

        Raises:
            ConfigError: the folder cannot be written to.
        """
        data = png(image)
        # Another run may share the folder and the image; neither takes the other's file.
        path = self._folder / f"{hashlib.sha256(data).hexdigest()}-{os.getpid()}-{id(data):x}.png"
        temporary = path.with_suffix(".part")
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            reason = f"openai: image_folder {self._folder}: {error.strerror or error}"
            raise ConfigError(reason) from error
        try:
            yield f"{self._url}/{path.name}"
        finally:
            path.unlink(missing_ok=True)
