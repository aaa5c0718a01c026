"""Maps of feature error that ``lossylens analyze features`` has drawn into a run folder."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossylens.errors import StoreError
from lossylens_toolkit.drawn_maps import FOLDER, INDEX, FeatureMap

#: Bytes of a map beyond which it is not what that command draws.
_LARGEST = 500_000

_PNG = b"\x89PNG\r\n\x1a\n"


def read_maps(folder: Path) -> list[dict[str, Any]]:
    """Return the maps of a run, grouped by image, codec and level, as data for the page.

    Raises:
        StoreError: the folder of maps is malformed.
    """
    index = folder / FOLDER / INDEX
    if not index.exists():
        return []
    groups: dict[tuple[str, str, str], dict[str, Any]] = {}
    try:
        for given in json.loads(index.read_bytes()):
            each = FeatureMap(**given)
            group = groups.setdefault(
                (each.image, each.codec, each.level),
                {
                    "image": str(each.image),
                    "point": f"{each.codec} {each.level}, {float(each.bpp):.3f} bpp",
                    "maps": [],
                },
            )
            group["maps"].append(_shown(each, index.parent))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{index}: no record of maps; run `lossylens analyze features` again, or delete it"
        ) from error
    return list(groups.values())


def _shown(each: FeatureMap, folder: Path) -> Mapping[str, Any]:
    # A name that leads elsewhere is none that the command has written.
    content = (folder / Path(each.file).name).read_bytes()
    if len(content) > _LARGEST or not content.startswith(_PNG):
        raise ValueError(each.file)
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return {"adaptor": each.adaptor, "error": float(each.error), "src": source}
