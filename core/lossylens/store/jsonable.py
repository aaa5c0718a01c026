"""Values as JSON and the database can hold them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from math import isfinite
from numbers import Integral, Real
from typing import Any


def plain(value: Any) -> Any:
    """Return *value* as JSON and the store can hold it; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        # Half a surrogate pair, from a file name or a model, has no UTF-8.
        return value.encode(errors="replace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if isfinite(value) else None
    return str(value)


def short_hash(value: Any) -> str:
    """Return a hash of a JSON value, short enough to read and long enough to be unique."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_json(value: Any) -> str:
    """Return *value* as JSON: keys sorted, so that equal values give equal text."""
    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
