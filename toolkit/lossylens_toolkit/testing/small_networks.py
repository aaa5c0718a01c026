"""Arguments of `build` for networks of codecs so small that tests take moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TIC: Mapping[str, Any] = {
    "N": 8,
    "M": 12,
    "depths": [1, 1, 1, 2, 1, 1],
    "num_heads": [2, 2, 2, 2, 2, 2],
}

TIC_SERIAL: Mapping[str, Any] = {
    "variant": "serial",
    "N": 8,
    "M": 12,
    "depths": [1, 1, 1, 2, 1],
    "num_heads": [2, 2, 2, 2, 2],
    "context_heads": 3,
}

TCM: Mapping[str, Any] = {
    "N": 8,
    "M": 10,
    "head_dim": [4, 4, 8, 8, 4, 4],
    "z_channels": 6,
    "attention_width": 16,
    "context": [8, 6],
}

DCAE: Mapping[str, Any] = {
    "head_dim": [4, 4, 8, 8, 4, 4],
    "N": 8,
    "M": 10,
    "features": [8, 8, 16],
    "blocks": [1, 1, 2],
    "z_channels": 6,
    "hyper_head_dim": 4,
    "dictionary": [8, 2, 4],
    "context": [8, 6],
}
