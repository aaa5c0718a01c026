from pathlib import Path

import pytest
from lossylens_toolkit.external_codec.program_testing import small_disk as disk_of


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A disk of 64 KiB for temporary files."""
    with disk_of(tmp_path / "disk", 1 << 16) as folder:
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr("tempfile.tempdir", None)
        yield Path(folder)
