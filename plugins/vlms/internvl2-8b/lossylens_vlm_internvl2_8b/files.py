"""The files of an official checkpoint, and whether they are whole; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from lossylens_toolkit.transformers_vlm.checkpoint import weight_files

CONFIG = "config.json"
PIECES = "tokenizer.model"
TOKENS = "tokenizer_config.json"


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint that is whole.

    Raises:
        RequirementError: a file is missing, cut off or broken; the message names it.
    """
    return weight_files(folder, needed=((CONFIG,), (PIECES,), (TOKENS,)))
