"""The registry of plugins: finding, loading, names, building.

:func:`load_registry` finds the installed plugins, loads each in its own guard
and keeps what went wrong for whoever asks.  The implementation of a codec,
VLM, task or adaptor is imported when it is first built.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, cast, overload

import pluggy

from lossylens.adaptor import Adaptor, AdaptorSpec
from lossylens.codec import Codec, CodecSpec, Level
from lossylens.errors import PluginError
from lossylens.executor import Executor, ExecutorSpec
from lossylens.names import canonical, nearest, suggestion
from lossylens.registry import building, discovery
from lossylens.registry.discovery import Candidate, Selection
from lossylens.registry.loading import load
from lossylens.registry.plugin_info import KINDS, PluginInfo, Registered, S
from lossylens.registry.registration import Registration
from lossylens.report import Report, ReportSpec
from lossylens.result import PublishedResults, ResultSpec
from lossylens.spec import Missing, PluginSpec
from lossylens.task import Task, TaskSpec
from lossylens.vlm import Vlm, VlmSpec

__all__ = ["KINDS", "PluginInfo", "Registered", "Registry", "load_registry"]


def load_registry(
    *,
    only: Iterable[str] | None = None,
    disable: Iterable[str] | None = None,
    strict: bool = True,
) -> Registry:
    """Find and load the installed plugins.

    Every call loads anew, so callers keep the registry.

    Args:
        only: names of plugins or distributions; nothing else is loaded, except
            the core's own plugin.  None restricts nothing.  A restriction by
            ``LOSSYLENS_PLUGINS`` holds as well.
        disable: names of plugins or distributions that are not loaded, besides
            those in ``LOSSYLENS_DISABLE_PLUGINS``.
        strict: whether a name in these lists that means no plugin is an error;
            if not, it is kept in :attr:`Registry.selection_problems`.

    Raises:
        PluginError: one of the lists names an unknown plugin.
    """
    candidates = discovery.find_candidates()
    selection = Selection.of(only, disable)
    problems = selection.problems(candidates)
    if strict and problems:
        raise PluginError("\n".join(problems))
    registry = Registry(problems)
    # What a plugin prints while it loads must not end up in JSON on stdout.
    with contextlib.redirect_stdout(sys.stderr):
        for candidate in candidates:
            registry.add(candidate, selection.disabled_by(candidate))
    return registry


class Registry:
    """What the loaded plugins provide, and what became of the others.

    Attributes:
        selection_problems: messages about names in allow and deny lists that
            mean no plugin.
    """

    def __init__(self, selection_problems: Sequence[str] = ()) -> None:
        self.selection_problems = tuple(selection_problems)
        self._plugins: list[PluginInfo] = []
        self._managers: dict[int, pluggy.PluginManager] = {}
        self._registered: list[Registered[PluginSpec]] = []
        self._by_name: dict[tuple[str, str], Registered[PluginSpec]] = {}

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """All installed plugins: loaded, broken and disabled; the core's first."""
        return tuple(self._plugins)

    @property
    def broken(self) -> tuple[PluginInfo, ...]:
        """The plugins that failed to load or to register."""
        return tuple(plugin for plugin in self._plugins if plugin.error is not None)

    def add(self, candidate: Candidate, disabled_by: str = "") -> None:
        """Load one plugin, unless it is disabled; its failure is kept, not raised."""
        plugin = PluginInfo.of(candidate, disabled_by)
        if not disabled_by:
            plugin = self._load(candidate, plugin)
        self._plugins.append(plugin)

    def _load(self, candidate: Candidate, plugin: PluginInfo) -> PluginInfo:
        registration = Registration(plugin, self._by_name)
        try:
            manager = load(candidate)
            registration.collect(manager)
        except KeyboardInterrupt:
            raise
        # A plugin that calls sys.exit() while it is imported is broken, no more.
        except BaseException as error:
            return plugin.with_error(error)
        self._by_name.update(registration.by_name)
        self._registered.extend(registration.registered)
        self._managers[len(self._plugins)] = manager
        return plugin

    def call_hooks(self, call: Callable[[PluginInfo, pluggy.HookRelay], None]) -> None:
        """Run *call* with the hooks of each loaded plugin, in its guard.

        A failure marks the plugin as broken; what it registered before stays.
        """
        for index, manager in self._managers.items():
            plugin = self._plugins[index]
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    call(plugin, manager.hook)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._plugins[index] = plugin.with_error(error)

    @overload
    def all(self, kind: Literal["codec"]) -> list[Registered[CodecSpec]]: ...
    @overload
    def all(self, kind: Literal["vlm"]) -> list[Registered[VlmSpec]]: ...
    @overload
    def all(self, kind: Literal["task"]) -> list[Registered[TaskSpec]]: ...
    @overload
    def all(self, kind: Literal["adaptor"]) -> list[Registered[AdaptorSpec]]: ...
    @overload
    def all(self, kind: Literal["result"]) -> list[Registered[ResultSpec]]: ...
    @overload
    def all(self, kind: Literal["report"]) -> list[Registered[ReportSpec]]: ...
    @overload
    def all(self, kind: Literal["executor"]) -> list[Registered[ExecutorSpec]]: ...
    @overload
    def all(self, kind: str) -> list[Registered[PluginSpec]]: ...

    def all(self, kind: str) -> list[Any]:
        """Return all that is registered of *kind*, sorted by name.

        Raises:
            PluginError: there is no such kind.
        """
        _check_kind(kind)
        found = [each for each in self._registered if each.spec.kind == kind]
        return sorted(found, key=lambda each: canonical(each.spec.name))

    @overload
    def find(self, kind: Literal["codec"], name: str) -> Registered[CodecSpec]: ...
    @overload
    def find(self, kind: Literal["vlm"], name: str) -> Registered[VlmSpec]: ...
    @overload
    def find(self, kind: Literal["task"], name: str) -> Registered[TaskSpec]: ...
    @overload
    def find(self, kind: Literal["adaptor"], name: str) -> Registered[AdaptorSpec]: ...
    @overload
    def find(self, kind: Literal["result"], name: str) -> Registered[ResultSpec]: ...
    @overload
    def find(self, kind: Literal["report"], name: str) -> Registered[ReportSpec]: ...
    @overload
    def find(self, kind: Literal["executor"], name: str) -> Registered[ExecutorSpec]: ...
    @overload
    def find(self, kind: str, name: str) -> Registered[PluginSpec]: ...

    def find(self, kind: str, name: str) -> Registered[Any]:
        """Return what *name* means among the plugins of *kind*.

        Args:
            kind: ``"codec"``, ``"vlm"``, ``"task"``, ``"adaptor"``, ``"result"``,
                ``"report"`` or ``"executor"``.
            name: canonical name or alias, or one of these behind the name of
                its plugin or distribution, as in ``"lossylens-codec-jpeg/jpeg"``.
                Case does not matter, and ``_``, ``-`` and ``.`` are alike.

        Raises:
            PluginError: nothing has that name; the message suggests near names
                and says which broken or disabled plugin may have provided it.
        """
        _check_kind(kind)
        origin, _, bare = name.rpartition("/")
        found = self._by_name.get((kind, canonical(bare)))
        if found is None or (origin and not found.plugin.answers_to(origin)):
            raise PluginError(self._unknown(kind, name, bare, origin))
        return found

    def find_all(self, name: str) -> list[Registered[PluginSpec]]:
        """Return what *name* means, of any kind."""
        found = []
        for kind in KINDS:
            with contextlib.suppress(PluginError):
                found.append(self.find(kind, name))
        return found

    def _unknown(self, kind: str, name: str, bare: str, origin: str) -> str:
        """Return the message about a name that nothing has."""
        parts = [f"unknown {kind} {name!r}."]
        suspects = [each for each in self._plugins if each.may_provide(kind, bare, origin)]
        parts += [each.why_absent() for each in suspects]
        known = [each.spec.name for each in self.all(kind)]
        if not suspects:
            parts.append(suggestion(bare, known))
        elif near := nearest(bare, known):
            parts.append(f"Did you mean {' or '.join(near)}?")
        others = [other for other in KINDS if (other, canonical(bare)) in self._by_name]
        parts += [f"There is a {other} of that name." for other in others if other != kind]
        if count := len(self.broken):
            subject = "1 plugin is" if count == 1 else f"{count} plugins are"
            parts.append(f"{subject} broken: see `lossylens doctor`.")
        return " ".join(parts)

    def options(
        self, found: Registered[Any], values: Mapping[str, Any] | None = None, where: str = ""
    ) -> Any:
        """Return the options of *found* with *values* in place of the defaults.

        Args:
            found: what :meth:`find` returned.
            values: as in a configuration.
            where: path of *values* in the configuration, for error messages.

        Raises:
            ConfigError: an unknown key, a value of the wrong type, or none where
                one is needed.
        """
        return self.configured(found, values, where)[1]

    def configured(
        self, found: Registered[S], values: Any = None, where: str = ""
    ) -> tuple[Registered[S], Any]:
        """Return *found* as it is with its options, and these options.

        Only the declaration of a codec that is made of others depends on its options.

        Args:
            found: what :meth:`find` returned.
            values: as in a configuration, or the options themselves.
            where: path of *values* in the configuration, for error messages.

        Raises:
            ConfigError: as for :meth:`options`.
            PluginError: the plugin is at fault.
        """
        from lossylens.options.resolving import resolve_options

        spec, options = found.spec, values
        where = where or f"{spec.kind}s.{spec.name}"
        if not isinstance(options, spec.options):
            options = resolve_options(spec, values or {}, where)
        if isinstance(spec, CodecSpec) and spec.compose is not None:
            return building.composed(found, options, self, where)
        return found, options

    def missing(self, found: Registered[Any], options: Any) -> Sequence[Missing]:
        """Return what *found* needs, given its *options*, and this machine lacks.

        Raises:
            PluginError: the plugin's check failed.
        """
        return building.missing(found, options)

    def build(self, kind: str, name: str, *arguments: Any, options: Any = None) -> Any:
        """Import and build what *name* means; the factory gets *arguments* and options.

        Args:
            kind: as for :meth:`find`.
            name: as for :meth:`find`.
            arguments: come before the options.
            options: an instance of the spec's options class, which is passed on
                as it is, or a mapping, which :meth:`options` resolves.

        Raises:
            PluginError: the name is unknown, or its plugin is at fault.
            ConfigError: the options are wrong.
            RequirementError: something that the plugin needs is missing.
        """
        found = self.find(kind, name)
        if not isinstance(options, found.spec.options):
            options = self.options(found, options)
        building.check_requirements(found, options)
        return building.load_factory(found)(*arguments, options)

    def build_codec(self, name: str, level: str | Level, options: Any = None) -> Codec:
        """Build a codec at *level*, a level or its name; raises as :meth:`build`."""
        if isinstance(level, str):
            found, options = self.configured(self.find("codec", name), options)
            level = found.spec.level(level)
        return cast(Codec, self.build("codec", name, level, options=options))

    def build_vlm(self, name: str, options: Any = None) -> Vlm:
        """Build a VLM; raises as :meth:`build`."""
        return cast(Vlm, self.build("vlm", name, options=options))

    def build_task(self, name: str, options: Any = None) -> Task:
        """Build a task; raises as :meth:`build`."""
        return cast(Task, self.build("task", name, options=options))

    def build_adaptor(self, name: str, options: Any = None) -> Adaptor:
        """Build an adaptor; raises as :meth:`build`."""
        return cast(Adaptor, self.build("adaptor", name, options=options))

    def build_result(self, name: str, options: Any = None) -> PublishedResults:
        """Build published results; raises as :meth:`build`."""
        return cast(PublishedResults, self.build("result", name, options=options))

    def build_report(self, name: str, options: Any = None) -> Report:
        """Build a report; raises as :meth:`build`."""
        return cast(Report, self.build("report", name, options=options))

    def build_executor(self, name: str, options: Any = None) -> Executor[Any, Any]:
        """Build an executor; raises as :meth:`build`."""
        return cast("Executor[Any, Any]", self.build("executor", name, options=options))


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise PluginError(f"unknown kind of plugin {kind!r}. {suggestion(kind, KINDS)}")
