"""A share of a run's images, for machines that know nothing of each other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Shard:
    """One of several shares.

    Attributes:
        number: from 1 to *count*.
    """

    number: int
    count: int

    @classmethod
    def of(cls, text: str) -> Self | None:
        """Return what a text such as ``3/16`` means, or None."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            return None
        return cls(int(found[1]), int(found[2]))

    def has(self, sha256: str) -> bool:
        """Whether the image with this hash is part of it; of all shares, one is."""
        return int(sha256, 16) % self.count == self.number - 1

    def __str__(self) -> str:
        """Return the text that it is read from."""
        return f"{self.number}/{self.count}"

    @property
    def suffix(self) -> str:
        """What tells its run folder from that of the whole."""
        return f"-{self.number}-of-{self.count}"
