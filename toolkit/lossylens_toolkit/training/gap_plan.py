"""The plan of the trainings of ``lossylens gap``, which it leaves in the run folder.

A report reads it from there; this module imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lossylens.errors import StoreError

#: Name of the plan in the run folder.
PLAN = "gap.json"

#: What a way of tuning was trained on.
POINT, JOINT, CONTROL = "point", "joint", "control"


@dataclass(frozen=True)
class Trainings:
    """The trainings of one kind, which differ in their seed.

    Attributes:
        kind: :data:`POINT`, :data:`JOINT` or :data:`CONTROL`.
        adaptors: labels of the adaptors in the run, a seed each.
        points: codecs and levels that they were trained on.
    """

    kind: str
    adaptors: tuple[str, ...]
    points: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class GapPlan:
    """What was trained, and how it is chosen.

    Attributes:
        vlm: label.
        share: of the images that choose.
        ways: by name.
    """

    vlm: str
    share: float
    ways: Mapping[str, Trainings]

    def write(self, folder: Path) -> None:
        """Write it into a run folder."""
        content = {
            "vlm": self.vlm,
            "share": self.share,
            "ways": {name: vars(each) for name, each in self.ways.items()},
        }
        path = folder / PLAN
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def read(cls, folder: Path) -> GapPlan | None:
        """Return that of a run folder; None where there is none.

        Raises:
            StoreError: it is malformed.
        """
        path = folder / PLAN
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_bytes())
            ways = {
                str(name): Trainings(
                    str(each["kind"]),
                    tuple(map(str, each["adaptors"])),
                    tuple((str(codec), str(level)) for codec, level in each["points"]),
                )
                for name, each in content["ways"].items()
            }
            return cls(str(content["vlm"]), float(content["share"]), ways)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path}: no plan of `lossylens gap`; run that again") from error
