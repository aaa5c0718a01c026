"""Whether an error says that memory has run out."""

from __future__ import annotations

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Return whether *error* says that memory, of the GPU or the host, has run out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "out of memory" in text
    )
