"""Loading one plugin: import, validation, registration.

Each plugin gets a pluggy manager of its own, so that half a registration is
undone by forgetting the manager, and no plugin wraps the hooks of another.
"""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from importlib.metadata import EntryPoint
from inspect import isroutine
from types import ModuleType, SimpleNamespace
from typing import Any, Generic, TypeVar

import pluggy

from lossylens import hookspecs
from lossylens.adaptor import AdaptorSpec
from lossylens.codec import CodecSpec
from lossylens.errors import PluginError, describe
from lossylens.executor import ExecutorSpec
from lossylens.hookspecs import GROUP
from lossylens.names import canonical, suggestion
from lossylens.registry.conforming import type_problems
from lossylens.registry.discovery import CORE, DISABLE_VARIABLE, Candidate, core_mismatch
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

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")

_HOOKS = {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, f"{GROUP}_spec")}
# pluggy looks at every name of what it is given, slowly; this has the hooks alone.
_SPECS = ModuleType(hookspecs.__name__)
vars(_SPECS).update(_HOOKS)

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


def load(candidate: Candidate) -> pluggy.PluginManager:
    """Import a plugin and check its hooks.

    Raises:
        PluginError: it needs another core, or is no valid plugin.
        BaseException: whatever its import raises.
    """
    problem = candidate.problem or core_mismatch(candidate)
    if problem:
        raise PluginError(problem)
    module = EntryPoint(candidate.name, candidate.target, GROUP).load()
    manager = _Manager(GROUP)
    manager.add_hookspecs(_SPECS)
    hooks = _hooks_of(module)
    try:
        manager.register(hooks, candidate.name)
    except pluggy.PluginValidationError as error:
        # Its message spans lines and repeats the plugin's name.
        raise PluginError("; ".join(str(error).split("\n")[1:]) or str(error)) from error
    _check_hooks(manager, hooks)
    return manager


class _Manager(pluggy.PluginManager):
    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        """Return how an attribute implements a hook; what Python gives every object does not."""
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)


def _hooks_of(plugin: Any) -> Any:
    """Return what may be a hook in a module, for pluggy to look at."""
    if not isinstance(plugin, ModuleType):
        return plugin
    marked = {
        name: value
        for name, value in vars(plugin).items()
        if isroutine(value) and (hasattr(value, f"{GROUP}_impl") or name in _HOOKS)
    }
    return SimpleNamespace(**marked)


def _check_hooks(manager: pluggy.PluginManager, module: Any) -> None:
    """Refuse hooks that would never be called."""
    callers = manager.get_hookcallers(module) or []
    for caller in callers:
        optional = all(impl.optionalhook for impl in caller.get_hookimpls())
        if not caller.has_spec() and not optional:
            raise PluginError(f"unknown hook {caller.name!r}. {suggestion(caller.name, _HOOKS)}")
    implemented = {caller.name for caller in callers}
    for name in _HOOKS:
        if name not in implemented and callable(getattr(module, name, None)):
            raise PluginError(f"{name} is not marked with @lossylens.hookspecs.hookimpl")
    if not implemented:
        raise PluginError(f"implements no hook. Known: {', '.join(_HOOKS)}.")


class Registration:
    """What one plugin registers, before it counts."""

    def __init__(
        self, plugin: PluginInfo, taken: Mapping[tuple[str, str], Registered[PluginSpec]]
    ) -> None:
        self.by_name: dict[tuple[str, str], Registered[PluginSpec]] = {}
        self.registered: list[Registered[PluginSpec]] = []
        self._plugin = plugin
        self._taken = taken
        self._problem: PluginError | None = None
        self._closed = False

    def collect(self, manager: pluggy.PluginManager) -> None:
        """Call the registration hooks of a plugin.

        Raises:
            PluginError: a declaration is invalid or its name is taken.
            BaseException: whatever the plugin raises.
        """
        for kind in KINDS:
            hook = getattr(manager.hook, f"register_{kind}s")
            hook(register=lambda spec, kind=kind: self._register(kind, spec))
        self._closed = True
        # A plugin that swallowed the error would be there in part.
        if self._problem:
            raise self._problem

    def _register(self, kind: str, spec: Any) -> None:
        if self._closed:
            raise PluginError(f"register_{kind}s is over: register inside the hook")
        try:
            self._add(kind, spec)
        except PluginError as error:
            self._problem = error
            raise

    def _add(self, kind: str, spec: Any) -> None:
        for problem in _problems(kind, spec):
            raise PluginError(problem)
        found = Registered(spec, self._plugin)
        for name in dict.fromkeys(map(canonical, (spec.name, *spec.aliases))):
            owner = self._taken.get((kind, name)) or self.by_name.get((kind, name))
            if owner:
                raise PluginError(_clash(kind, name, found, owner))
            self.by_name[kind, name] = found
        self.registered.append(found)


def _problems(kind: str, spec: Any) -> Iterator[str]:
    """Yield what is wrong with a declaration."""
    expected = KINDS[kind]
    if not isinstance(spec, expected):
        yield f"register_{kind}s takes a {expected.__name__}, not a {type(spec).__name__}"
        return
    for problem in type_problems(spec, expected):
        yield f"{kind} {spec.name!r}: {problem}"
    for name in (spec.name, *spec.aliases):
        if not _NAME.fullmatch(name.lower()):
            yield f"invalid {kind} name {name!r}: use letters, digits, '.', '_' and '-'"
    if spec.name != spec.name.lower():
        yield f"invalid {kind} name {spec.name!r}: use lower case"
    if not _FACTORY.fullmatch(spec.factory):
        yield f"{kind} {spec.name!r}: factory {spec.factory!r} is not 'package.module:Class'"
    if not is_dataclass(spec.options):
        yield f"{kind} {spec.name!r}: options must be a dataclass, not {spec.options!r}"
    if isinstance(spec, CodecSpec):
        yield from _level_problems(spec)


def _level_problems(spec: CodecSpec) -> Iterator[str]:
    names = [canonical(level.name) for level in spec.levels]
    if not names:
        yield f"codec {spec.name!r} has no levels"
    if len(set(names)) < len(names):
        yield f"codec {spec.name!r} has two levels of one name: {', '.join(names)}"


def _clash(kind: str, name: str, new: Registered[PluginSpec], owner: Registered[PluginSpec]) -> str:
    if new.plugin == owner.plugin:
        return f"registers two {kind}s that answer to {name!r}"
    return (
        f"{kind} {new.spec.name!r} of {new.plugin.distribution} and {kind}"
        f" {owner.spec.name!r} of {owner.plugin.distribution} both answer to {name!r}:"
        f" {either_disabled(new.plugin, owner.plugin)}"
    )


def either_disabled(new: PluginInfo, owner: PluginInfo) -> str:
    """Return how a user chooses between two plugins that cannot both be loaded."""
    if new.distribution == owner.distribution:
        names = {new: new.name, owner: owner.name}
    else:
        names = {new: new.distribution, owner: owner.distribution}
    if owner.distribution == CORE:
        return (
            f"uninstall {new.distribution}, or disable it with {DISABLE_VARIABLE}={names[new]}"
            f" or plugins.disable: [{names[new]}]"
        )
    return (
        f"keep one of the two. {DISABLE_VARIABLE}={names[new]} keeps {names[owner]},"
        f" {DISABLE_VARIABLE}={names[owner]} keeps {names[new]}; so does plugins.disable in a"
        " configuration, or uninstalling"
    )


def import_object(path: str) -> Any:
    """Return what an import path ``"package.module:Name"`` names."""
    module, _, names = path.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


def factory_problem(spec: PluginSpec) -> str:
    """Return why the implementation of *spec* cannot be imported, as far as that shows.

    Nothing is imported for it, so that it costs little: only the module is looked for.
    """
    module = spec.factory.partition(":")[0]
    if _module_is_there(module):
        return ""
    return f"there is no module {module} for its factory {spec.factory}"


def _module_is_there(name: str) -> bool:
    """Whether a module can be found; unlike ``find_spec`` this imports no parent package."""
    folders: Any = None
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        path = ".".join(parts[:length])
        module = sys.modules.get(path)
        if module is not None:
            folders = getattr(module, "__path__", ())
            continue
        finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
        found = (find(path, folders) for find in finders if find)
        spec = next((each for each in found if each is not None), None)
        if spec is None:
            return False
        folders = spec.submodule_search_locations or ()
    return True
