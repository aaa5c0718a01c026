"""What is known of an installed plugin, and of what it has registered."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from lossylens.adaptor import AdaptorSpec
from lossylens.codec import CodecSpec
from lossylens.errors import describe
from lossylens.executor import ExecutorSpec
from lossylens.names import canonical
from lossylens.registry.discovery import Candidate
from lossylens.report import ReportSpec
from lossylens.result import ResultSpec
from lossylens.spec import PluginSpec
from lossylens.task import TaskSpec
from lossylens.vlm import VlmSpec

#: The kinds of things that plugins provide, with the class that declares each.
KINDS: Mapping[str, type[PluginSpec]] = {
    spec.kind: spec
    for spec in (CodecSpec, VlmSpec, TaskSpec, AdaptorSpec, ResultSpec, ReportSpec, ExecutorSpec)
}

S = TypeVar("S", bound=PluginSpec, covariant=True)


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """An installed plugin and what became of it.

    Attributes:
        name: name of its entry point.
        distribution: name of the distribution that it comes from.
        version: version of that distribution.
        module: what the entry point names.
        error: why it is broken, or None.
        traceback: where that happened, or None.
        disabled_by: what keeps it from being loaded, such as
            ``"LOSSYLENS_PLUGINS"``, or ``""``.
    """

    name: str
    distribution: str
    version: str
    module: str
    error: str | None = None
    traceback: str | None = None
    disabled_by: str = ""

    @classmethod
    def of(cls, candidate: Candidate, disabled_by: str = "") -> PluginInfo:
        """Return what is known of *candidate* before it is loaded."""
        return cls(
            name=candidate.name,
            distribution=candidate.distribution,
            version=candidate.version,
            module=candidate.target,
            disabled_by=disabled_by,
        )

    @property
    def disabled(self) -> bool:
        """Whether the user keeps it from being loaded."""
        return bool(self.disabled_by)

    @property
    def status(self) -> str:
        """``"loaded"``, ``"broken"`` or ``"disabled"``."""
        if self.disabled:
            return "disabled"
        return "loaded" if self.error is None else "broken"

    @property
    def label(self) -> str:
        """Name, distribution and version, for messages."""
        return f"{self.name} ({self.distribution} {self.version})"

    def with_error(self, error: BaseException) -> PluginInfo:
        """Return the same plugin, broken by *error*."""
        text = "".join(traceback.format_exception(error))
        return replace(self, error=describe(error), traceback=text)

    def answers_to(self, name: str) -> bool:
        """Whether *name* is the name of this plugin or of its distribution."""
        return canonical(name) in (canonical(self.name), canonical(self.distribution))

    def may_provide(self, kind: str, name: str, origin: str = "") -> bool:
        """Whether this plugin is not loaded and, by its name, may have provided *name*."""
        if self.error is None and not self.disabled:
            return False
        if origin:
            return self.answers_to(origin)
        wanted, own = canonical(name), canonical(self.name)
        if wanted == own:
            return True
        distribution = canonical(self.distribution)
        # "lossylens-vlm-qwen" is no candidate for a missing codec.
        if any(f"-{other}-" in distribution for other in KINDS if other != kind):
            return False
        # The plugin "qwen2.5-vl" is one for "qwen2.5-vl-3b", and the other way round.
        within = len(wanted) > 2 and (wanted in own or wanted in distribution)
        return within or f"-{own}-" in f"-{wanted}-"

    def why_absent(self) -> str:
        """Return a sentence that says why nothing of this plugin is there."""
        who = f"Plugin {self.label}"
        if self.disabled:
            return f"{who} may provide it, but is disabled by {self.disabled_by}."
        return f"{who} may provide it, but is broken: {_sentence(self.error or '')}"


def _sentence(text: str) -> str:
    """Return *text* with a full stop, so that another sentence can follow."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


@dataclass(frozen=True, slots=True)
class Registered(Generic[S]):
    """A declaration and the plugin that it comes from."""

    spec: S
    plugin: PluginInfo
