"""A very small CLIP, trained on scenes; :data:`WEIGHTS` is the folder of its checkpoint."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
