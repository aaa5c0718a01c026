"""Which plugins are installed, and which of them the user wants.

Nothing here imports a plugin.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from functools import lru_cache
from importlib import metadata

from lossylens import __version__
from lossylens.hookspecs import GROUP
from lossylens.names import canonical, suggestion

#: Distribution of the core, which is itself a plugin.
CORE = "lossylens"

#: Environment variables with comma-separated plugin or distribution names.
ONLY_VARIABLE = "LOSSYLENS_PLUGINS"
DISABLE_VARIABLE = "LOSSYLENS_DISABLE_PLUGINS"

_OBJECT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*(\.[^\W\d]\w*)*)?")
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\]\s*)?(.*)", re.DOTALL)
_AT_LEAST = re.compile(r">=\s*([0-9]+(?:\.[0-9]+)*)\s*")
_RELEASE = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry point that announces a plugin.

    Attributes:
        name: name of the entry point.
        target: what the entry point names, ``"package.module"``.
        distribution: name of the distribution that it comes from.
        version: version of that distribution.
        requires: what that distribution requires, as in its metadata.
        problem: why it cannot be loaded, when that is clear without importing.
    """

    name: str
    target: str
    distribution: str
    version: str
    requires: tuple[str, ...] = ()
    problem: str = ""

    @property
    def is_core(self) -> bool:
        """Whether this is the core's own plugin, which is always loaded."""
        return self.distribution == CORE

    def answers_to(self, name: str) -> bool:
        """Whether *name* is the name of this plugin or of its distribution."""
        return canonical(name) in (canonical(self.name), canonical(self.distribution))


BUILTIN = Candidate("builtin", "lossylens.builtin", CORE, __version__)


def find_candidates() -> list[Candidate]:
    """Return the core's plugin and then all installed ones, by distribution and name."""
    found: list[Candidate] = []
    for name, distribution in _announcing_distributions().items():
        found.extend(_candidates_of(_foremost(name, distribution)))
    found.sort(key=lambda each: (canonical(each.distribution), canonical(each.name)))
    return [BUILTIN, *found]


def _announcing_distributions() -> dict[str, metadata.Distribution]:
    """Return the distributions that have an entry point of the group, by canonical name.

    Only their metadata are parsed: parsing that of everything installed would
    cost more than the rest of the command line's start.
    """
    found: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        try:
            announces = f"[{GROUP}]" in (distribution.read_text("entry_points.txt") or "")
            name = _fields(distribution)["Name"] if announces else None
        except UnicodeDecodeError:
            continue  # Nobody's plugin: pip could not have installed it.
        if name:
            found.setdefault(canonical(name), distribution)
    return found


def _foremost(name: str, distribution: metadata.Distribution) -> metadata.Distribution:
    """Return the distribution called *name* that is imported, the first on ``sys.path``."""
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        # Its folder is not named after it.
        return distribution


def _fields(distribution: metadata.Distribution) -> Message:
    """Return the metadata fields of *distribution*.

    Each property of :class:`~importlib.metadata.Distribution` parses them anew,
    together with the description, which may be a long read-me.
    """
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    return _parsed(text.partition("\n\n")[0])


# Two of the steps here need the fields of each plugin's distribution.
_parsed = lru_cache(maxsize=256)(message_from_string)


def _candidates_of(distribution: metadata.Distribution) -> Iterator[Candidate]:
    fields = _fields(distribution)
    requires = tuple(fields.get_all("Requires-Dist", ()))
    common = (fields["Name"], fields["Version"] or "", requires)
    try:
        points = [point for point in distribution.entry_points if point.group == GROUP]
    except Exception as error:
        # One line without "=" in the file and importlib.metadata reads none of it.
        yield Candidate(fields["Name"], "", *common, f"malformed entry_points.txt: {error}")
        return
    for point in points:
        problem = "" if _OBJECT_PATH.fullmatch(point.value) else _malformed(point.value)
        yield Candidate(point.name, point.value, *common, problem)


def _malformed(value: str) -> str:
    return f"malformed entry point {value!r}: it should name a module, such as 'package.module'"


def core_mismatch(candidate: Candidate, running: str = __version__) -> str:
    """Return why *candidate* does not work with the *running* core, or ``""``."""
    for text in candidate.requires:
        match = _REQUIREMENT.fullmatch(text)
        if not match or canonical(match[1]) != CORE or _plainly_met(match[2], running):
            continue
        if problem := _unmet(text, candidate.distribution, running):
            return problem
    return ""


def _plainly_met(specifier: str, running: str) -> bool:
    """Whether a specifier is of the usual form ``>=1.2`` and met.

    packaging decides on all others; it takes longer to import than all else
    that finding plugins does.
    """
    least = _AT_LEAST.fullmatch(specifier)
    if not least or not _RELEASE.fullmatch(running):
        return not specifier
    wanted, have = ([int(part) for part in each.split(".")] for each in (least[1], running))
    return have >= wanted


def _unmet(text: str, distribution: str, running: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import Version

    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        return f"malformed requirement {text!r}: {error}"
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return ""
    specifier = requirement.specifier
    if specifier.contains(running, prereleases=True):
        return ""
    # Whichever of the two is behind is the one to upgrade.
    wants_newer = any(
        each.operator in (">=", ">", "~=", "==")
        and Version(each.version.removesuffix(".*")) >= Version(running)
        for each in specifier
    )
    upgrade = CORE if wants_newer else distribution
    return f"needs {CORE} {specifier}, this is {running}: upgrade {upgrade}"


@dataclass(frozen=True, slots=True)
class NameList:
    """Plugin names that a user gave, and where."""

    source: str
    names: tuple[str, ...]

    def matches(self, candidate: Candidate) -> bool:
        """Whether one of the names means *candidate*."""
        return any(candidate.answers_to(name) for name in self.names)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which plugins are to be loaded.

    Attributes:
        only: lists that restrict; a plugin is loaded when it is in all of them.
        disable: lists that exclude.
    """

    only: tuple[NameList, ...] = ()
    disable: tuple[NameList, ...] = ()

    @classmethod
    def of(cls, only: Iterable[str] | None, disable: Iterable[str] | None) -> Selection:
        """Combine what the environment and the configuration say."""
        return cls(
            only=_lists(ONLY_VARIABLE, "plugins.only", only),
            disable=_lists(DISABLE_VARIABLE, "plugins.disable", disable),
        )

    def disabled_by(self, candidate: Candidate) -> str:
        """Return what keeps *candidate* from being loaded, or ``""``."""
        if candidate.is_core:
            return ""
        for names in self.only:
            if not names.matches(candidate):
                return names.source
        for names in self.disable:
            if names.matches(candidate):
                return names.source
        return ""

    def problems(self, candidates: Sequence[Candidate]) -> list[str]:
        """Return a message for each name that means no plugin, or the core."""
        found = []
        for names in (*self.only, *self.disable):
            for name in names.names:
                if not any(each.answers_to(name) for each in candidates):
                    known = {each.name for each in candidates if not each.is_core}
                    hint = suggestion(name, known)
                    found.append(f"{names.source} names an unknown plugin {name!r}. {hint}")
        for names in self.disable:
            if names.matches(BUILTIN):
                found.append(f"{names.source} names the core, which cannot be disabled.")
        return found


def _lists(variable: str, key: str, configured: Iterable[str] | None) -> tuple[NameList, ...]:
    lists = []
    value = os.environ.get(variable)
    if value is not None:
        names = tuple(name.strip() for name in value.split(",") if name.strip())
        lists.append(NameList(variable, names))
    if configured is not None:
        lists.append(NameList(key, tuple(configured)))
    return tuple(lists)
