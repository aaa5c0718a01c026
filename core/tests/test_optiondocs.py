"""What is said of options comes from their dataclasses and docstrings."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import pytest
from lossylens.grid.config import PLUGIN_SECTIONS, SETTINGS
from lossylens.options.optiondocs import option_docs
from lossylens.registry.plugins import KINDS, load_registry


class Speed(Enum):
    SLOW = "slow"


@dataclass
class Deep:
    """Something within.

    Attributes:
        url: of ``it``.
    """

    url: str = ""
    many: list[int] = field(default_factory=lambda: [1, 2])


@dataclass
class Base:
    """The base.

    Attributes:
        data: a file; see :class:`~lossylens.task.Task`,
            on two lines.
    """

    data: Path = "???"


@dataclass
class Options(Base):
    """The options.

    Attributes:
        low, high: bounds: of
            what is seen.
        deep: is nested.

    Raises:
        speed: this is no attribute.
    """

    low: int = 0
    high: int | None = None
    speed: Speed = Speed.SLOW
    switch: bool = True
    deep: Deep = field(default_factory=lambda: Deep("here"))
    maybe: Deep | None = None


def test_all_that_can_be_known() -> None:
    rows = [(each.name, each.type, each.shown, each.text) for each in option_docs(Options, "t.")]
    assert rows == [
        ("t.data", "Path", "(must be given)", "a file; see lossylens.task.Task, on two lines."),
        ("t.low", "int", "0", "bounds: of what is seen."),
        ("t.high", "int | None", "null", "bounds: of what is seen."),
        ("t.speed", "Speed", "slow", ""),
        ("t.switch", "bool", "true", ""),
        ("t.deep", "mapping", "", "is nested."),
        ("t.deep.url", "str", "here", "of it."),
        ("t.deep.many", "list[int]", "[1, 2]", ""),
        ("t.maybe", "mapping", "null", ""),
        ("t.maybe.url", "str", '""', "of it."),
        ("t.maybe.many", "list[int]", "[1, 2]", ""),
    ]


def test_every_setting_has_a_text() -> None:
    classes = [*SETTINGS.values(), *(entry for _, entry in PLUGIN_SECTIONS.values())]
    assert [
        each.name for options in classes for each in option_docs(options) if not each.text
    ] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_of_an_installed_plugin_has_a_text(kind: str) -> None:
    silent = [
        each.name
        for found in load_registry(strict=False).all(kind)
        for each in option_docs(found.spec.options, f"{found.spec.name}.")
        if not each.text
    ]
    assert silent == []
