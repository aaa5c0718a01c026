from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path / "cache"))


def _picture(colour: int) -> str:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


@pytest.fixture(scope="session")
def pictures() -> list[str]:
    """Three different pictures in base64."""
    return [_picture(colour) for colour in (1, 2, 3)]


@pytest.fixture
def write(tmp_path):
    """Write a file of text or bytes and return its path."""

    def write(content: str | bytes, name: str = "data.tsv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
