"""Which split of which data set a row belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: All splits, in the order of the reference evaluator's table; it averages over these alone.
SPLITS = (
    "RefCOCO_val",
    "RefCOCO_testA",
    "RefCOCO_testB",
    "RefCOCO+_val",
    "RefCOCO+_testA",
    "RefCOCO+_testB",
    "RefCOCOg_val",
    "RefCOCOg_test",
)

#: The split of rows that name none.
UNNAMED = "RefCOCO"

_PARTS = {"val": "val", "test": "test", "testa": "testA", "testb": "testB"}
_JOINTS = re.compile(r"[\s_-]+")


def split_of(cells: Mapping[str, str | None]) -> str:
    """Return the split of a row: its ``split``, or what its ``category`` comes to."""
    return cells.get("split") or _from_category(cells.get("category") or "") or UNNAMED


def _from_category(category: str) -> str:
    """Return ``RefCOCO testA``, however it is spelt, as ``RefCOCO_testA``; ``""`` for none."""
    dataset, _, rest = " ".join(category.split(None, 1)).partition(" ")
    rest = rest.strip()
    if not rest:
        return dataset
    known = _PARTS.get(_JOINTS.sub("", rest.lower()))
    return f"{dataset}_{known or rest.replace(' ', '_').replace('-', '_')}"
