"""What a plugin declares about one codec, VLM, task or adaptor.

A spec says all that can be said without heavy imports, so that listing
plugins never loads torch.  The implementation is named by its import path and
imported when it is first built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final

#: Default of an option that the user must set; OmegaConf's own mark, spelt out so
#: that plugins need not import OmegaConf.
MANDATORY: Final = "???"


#: Metadata of an options field that cannot change a result, such as a time-out:
#: ``field(default=60.0, metadata=OPERATIONAL)``.  Results stay valid when it changes.
OPERATIONAL: Final = MappingProxyType({"lossylens.operational": True})


#: Key of the metadata that :func:`path_if` returns.
PATH_IF: Final = "lossylens.path_if"


def path_if(is_path: Callable[[str], bool]) -> Mapping[str, Any]:
    """Return metadata of an options field of text that may be the path of a file or folder.

    ``Path`` is the type of an option that always is one.  Relative paths are made absolute
    when a configuration is read; *is_path* says whether a text is one.
    """
    return MappingProxyType({PATH_IF: is_path})


@dataclass(frozen=True, slots=True)
class FileSource:
    """Where missing files come from.

    Attributes:
        address: of a file (``https://``, with *target*), of a repository of the Hugging Face
            hub or a file of one (``hf:OWNER/NAME``, ``hf:OWNER/NAME/FILE``), or a place where
            people get it by hand.
        target: the file that it becomes; empty for a repository, which goes into the hub's
            own cache.
        gigabytes: of the download; 0 where that is not known.
        licence: where it is not in the licence of the plugin.
        sha256: of the file, or its first digits, where they are known.
    """

    address: str
    target: str = ""
    gigabytes: float = 0.0
    licence: str = ""
    sha256: str = ""

    @property
    def fetchable(self) -> bool:
        """Whether a program can get it."""
        web = self.address.startswith(("https://", "http://"))
        return self.address.startswith("hf:") or (web and bool(self.target))


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that a plugin needs and that this machine lacks.

    Attributes:
        what: the missing thing, such as ``"checkpoint elic_0.004.pth.tar"``.
        remedy: how to get it or where to put it.
        source: of a file.
    """

    what: str
    remedy: str
    source: FileSource | None = None


@dataclass
class NoOptions:
    """Options of a plugin that has none."""


def nothing_missing(options: Any) -> Sequence[Missing]:
    """The requirement check of a plugin that needs nothing but its dependencies."""
    return ()


@dataclass(frozen=True, kw_only=True)
class PluginSpec:
    """What codecs, VLMs, tasks and adaptors have in common.

    Attributes:
        name: canonical name, lower case, unique within its kind.
        summary: one line.
        factory: import path ``"package.module:Class"`` of the implementation;
            each kind's contract says with which arguments it is called.
        aliases: other names that find the same plugin.
        category: group under which it is listed, such as ``"traditional"``.
        citation: paper or specification, in a form that can be looked up.
        licence: SPDX identifier of the implementation and, if it differs, of
            the weights.
        options: a dataclass (an OmegaConf structured config) whose fields are
            the plugin's options with their defaults; :data:`MANDATORY` is the default
            of one that the user must give.
        requirements: cheap check, given an instance of ``options``, of what is
            missing on this machine.  It must not import torch.
    """

    kind: ClassVar[str]

    name: str
    summary: str
    factory: str
    aliases: tuple[str, ...] = ()
    category: str = ""
    citation: str = ""
    licence: str = ""
    options: type = NoOptions
    requirements: Callable[[Any], Sequence[Missing]] = nothing_missing
